"""Readers of file formats: a path in, numbered rows out, one at a time; `formats.py` lists which file takes which.

Whatever is wrong with a file is raised as a DataError: what was expected, what was found, and what to do.
"""

import csv
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from semfreeze_core.errors import DataError
from semfreeze_core.sources.data.compression import compression_of, open_bytes
from semfreeze_core.sources.data.values import kind_text, names_text

Row = dict[str, Any]
NumberedRows = Iterator[tuple[int | None, Row]]  # (1-based line in the file or None where a format has no lines, row)

_CSV_FIELD_BYTES = 2**24  # the csv module's own limit of 128 KiB is too small for documents
_LONGEST_LINE_BYTES = 2**28  # a file without line ends is not read into memory whole
_PARQUET_BATCH_ROWS, _PARQUET_BATCH_BYTES = 256, 2**26
_SEPARATORS = (",", ";", "\t", "|")
_SNIFFED_ROWS, _SNIFFED_LINES = 50, 500


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (1-based line, text with its line end); decoded line by line, so that a bad byte has an address."""
    offset = 0
    with open_bytes(path) as file:
        for line, raw in enumerate(iter(lambda: file.readline(_LONGEST_LINE_BYTES), b""), start=1):
            if len(raw) == _LONGEST_LINE_BYTES and not raw.endswith(b"\n"):
                raise DataError(
                    f"{path}, line {line} is longer than {_LONGEST_LINE_BYTES // 2**20} MiB: expected one example a "
                    "line. Split the file."
                )
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} at offset {offset + error.start} "
                    f"(line {line}). Save the file as UTF-8."
                ) from None
            yield line, text.removeprefix("\ufeff") if line == 1 else text  # editors on Windows write a mark first
            offset += len(raw)


def read_json_lines(path: Path) -> NumberedRows:
    for line, text in _text_lines(path):
        if not text.strip():
            continue
        try:
            value = json.loads(text, object_pairs_hook=_unique)
        except _RepeatedKeyError as error:
            raise DataError(f"{path}, line {line} {error}. Rename one.") from None
        except (ValueError, RecursionError) as error:  # RecursionError: brackets nested thousands deep
            raise DataError(
                f"{path}, line {line} is not JSON ({error}): expected one JSON object a line. "
                "A file that holds one list of objects needs the extension .json."
            ) from None
        yield line, _object(value, f"{path}, line {line}")


def read_json_list(path: Path) -> NumberedRows:
    """The one format read whole: a JSON list cannot be cut into rows before its end is known."""
    text = "".join(text for _, text in _text_lines(path))
    if not text.strip():
        return
    try:
        values = json.loads(text, object_pairs_hook=_unique)
    except _RepeatedKeyError as error:
        raise DataError(f"{path} {error}. Rename one.") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} is not JSON ({error.msg} on line {error.lineno}): expected a list of objects. "
            "A file with one object a line needs the extension .jsonl."
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON that can be read ({error}): expected a list of objects.") from None
    if not isinstance(values, list):
        raise DataError(
            f"{path} holds {_json_kind(values)}: expected a list of objects. "
            "Take the list out of it, or write one object a line with the extension .jsonl."
        )
    for number, value in enumerate(values):
        yield None, _object(value, f"{path}, entry {number} of the list")


class _RepeatedKeyError(Exception):
    """An object that names a key more than once: readers of JSON keep the last value and say nothing."""


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _RepeatedKeyError(f"names {names_text(_repeated([key for key, _ in pairs]), quoted=True)} more than once")
    return row


def _repeated(names: list[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _object(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(
            f'{place} is {_json_kind(value)}: expected an object such as {{"prompt": ..., "completion": ...}}.'
        )
    return value


def _json_kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value)) or kind_text(value)


def read_delimited(path: Path, delimiter: str) -> NumberedRows:
    """Rows as text, an empty field as "". The csv module, because it tells a short row from an empty last field.

    Args:
        path: the file.
        delimiter: what its name says; another of the usual ones is taken where the first rows fit that one alone.
    """
    csv.field_size_limit(_CSV_FIELD_BYTES)
    delimiter = separator_of(path, delimiter)
    reader = csv.reader((text for _, text in _text_lines(path)), delimiter=delimiter, strict=True)
    start = 1  # of the row being read; a quoted field may run over several lines
    try:
        header = next((names for names in reader if names), [])
        if repeated := _repeated(header):
            raise DataError(f"{path}: the header names {names_text(repeated, quoted=True)} more than once. Rename one.")
        start = reader.line_num + 1
        for values in reader:
            if values and len(values) != len(header):
                raise DataError(
                    f"{path}, line {start}: expected {len(header)} fields as in the header "
                    f"({names_text(header)}), found {len(values)}. A text with the separator in it needs quotes."
                )
            if values:
                yield start, dict(zip(header, values, strict=True))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {start}: the row that begins here cannot be read ({error}). Is a quote not closed? "
            "A text that begins with a quote must be quoted whole, its own quotes doubled."
        ) from None


def separator_of(path: Path, usual: str) -> str:
    """The separator with which the header and the first rows have the same fields, two at least; or the usual one."""
    lines = [text for _, text in islice(_text_lines(path), _SNIFFED_LINES)]
    header = next((text for text in lines if text.strip()), "")
    separators = [usual, *(separator for separator in _SEPARATORS if separator != usual)]
    fitting = [separator for separator in separators if _fits(lines, separator)]
    if fitting:
        return fitting[0]
    named = [separator for separator in separators if separator in header]  # so that the error is about its rows
    return named[0] if named else usual


def _fits(lines: list[str], separator: str) -> bool:
    rows: list[list[str]] = []
    try:
        rows += islice((row for row in csv.reader(lines, delimiter=separator, strict=True) if row), _SNIFFED_ROWS)
    except csv.Error:  # a quoted text may run on behind the lines that are looked at
        if len(lines) < _SNIFFED_LINES:
            return False
    return len(rows) > 1 and len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows)


def read_parquet(path: Path) -> NumberedRows:
    import pyarrow  # here, not above: half a second that other formats need not pay
    import pyarrow.parquet

    number = 0
    try:
        with _seekable(path) as source, pyarrow.parquet.ParquetFile(source, pre_buffer=False) as file:
            names = file.schema_arrow.names
            if repeated := _repeated(names):
                raise DataError(f"{path} has several columns called {names_text(repeated, quoted=True)}. Rename one.")
            for batch in file.iter_batches(batch_size=_batch_rows(file.metadata)):
                for i in range(batch.num_rows):
                    (row,) = batch.slice(i, 1).to_pylist()
                    yield None, row
                    number += 1
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, row {number}: a text is not UTF-8 (byte 0x{error.object[error.start]:02x}). Write the file anew "
            "with its texts as UTF-8."
        ) from None
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}). Was it written to its end?") from error


@contextmanager
def _seekable(path: Path) -> Iterator[Any]:
    """A file that can be read from any place: itself, or its unpacked copy on disk."""
    if compression_of(path.name) is None:
        yield path
        return
    with open_bytes(path) as packed, tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(packed, copy)
        copy.seek(0)
        yield copy


def _batch_rows(metadata: Any) -> int:
    """Rows to read at once, so that rows with large cells do not fill the memory."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    largest = max((group.total_byte_size / group.num_rows for group in groups if group.num_rows), default=1)
    return int(min(_PARQUET_BATCH_ROWS, max(1, _PARQUET_BATCH_BYTES // max(1, largest))))
