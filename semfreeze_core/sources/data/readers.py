"""Readers of file formats: a path in, numbered rows out, one at a time; `formats.py` lists which file takes which.

Whatever is wrong with a file is raised as a DataError: what was expected, what was found, and what to do. What is wrong
with one row of it is yielded as an `UnreadableRow` in its place, and the rows after it are read.
"""

import csv
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

from semfreeze_core.errors import DataError
from semfreeze_core.sources.data.compression import compression_of, open_bytes
from semfreeze_core.sources.data.values import kind_text, names_text

Row = dict[str, Any]


@dataclass(frozen=True)
class UnreadableRow:
    """A row whose text is none of its file's format.

    Attributes:
        reason: what was found and what was expected, a clause.
        advice: what to do where no row can be read, in sentences.
    """

    reason: str
    advice: str = ""


# (1-based line in the file or None where a format has no lines, row)
NumberedRows = Iterator[tuple[int | None, Row | UnreadableRow]]

_CSV_FIELD_BYTES = 2**24  # the csv module's own limit of 128 KiB is too small for documents
_LONGEST_LINE_BYTES = 2**28  # a file without line ends is not read into memory whole
_PARQUET_BATCH_ROWS, _PARQUET_BATCH_BYTES = 256, 2**26
_SEPARATORS = (",", ";", "\t", "|")
_SNIFFED_ROWS, _SNIFFED_LINES = 50, 500
_QUOTING = "Is a quote not closed? A text that begins with a quote must be quoted whole, its own quotes doubled."


class _CutTextError(DataError):
    """A file that ends in the middle of a character: its last line is not whole, those before it are."""


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
                is_cut = line > 1 and error.end == len(raw) and error.reason == "unexpected end of data"
                raise (_CutTextError if is_cut else DataError)(
                    f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} at offset {offset + error.start} "
                    f"(line {line}). Save the file as UTF-8."
                ) from None
            yield line, text.removeprefix("\ufeff") if line == 1 else text  # editors on Windows write a mark first
            offset += len(raw)


def read_json_lines(path: Path) -> NumberedRows:
    line = 0
    is_first = True
    try:
        for line, text in _text_lines(path):
            if not text.strip():
                continue
            row = _json_row(text)
            if is_first and isinstance(row, UnreadableRow) and text.lstrip().startswith("["):
                raise DataError(f"{path}, line {line}: {row.reason}. {row.advice}")  # a list written over lines
            yield line, row
            is_first = False
    except _CutTextError:
        yield line + 1, UnreadableRow("not JSON (the file ends in the middle of a character)")


def _json_row(text: str) -> Row | UnreadableRow:
    try:
        return _object(json.loads(text, object_pairs_hook=_unique))
    except _RepeatedKeyError as error:
        return UnreadableRow(str(error), "Rename one.")
    except json.JSONDecodeError as error:
        problem = f"{error.msg.removesuffix(' at')} at character {error.pos + 1}"
    except (ValueError, RecursionError) as error:  # RecursionError: brackets nested thousands deep
        problem = str(error)
    return UnreadableRow(
        f"not JSON ({problem}), expected one JSON object per line",
        "A file that holds one list of objects needs the extension .json.",
    )


def read_json_list(path: Path) -> NumberedRows:
    """The one format read whole: a JSON list cannot be cut into rows before its end is known."""
    text = "".join(text for _, text in _text_lines(path))
    if not text.strip():
        return
    repeating: list[_RepeatedKeyError] = []

    def row_of(pairs: list[tuple[str, Any]]) -> Any:
        try:
            return _unique(pairs)
        except _RepeatedKeyError as error:
            repeating.append(error)
            return error

    try:
        values = json.loads(text, object_pairs_hook=row_of)
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
    for value in values:
        repeated = _repeated_key_in(value) if repeating else None
        yield None, _object(value) if repeated is None else UnreadableRow(str(repeated), "Rename one.")


class _RepeatedKeyError(Exception):
    """An object that names a key more than once: readers of JSON keep the last value and say nothing."""


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _RepeatedKeyError(f"names {names_text(_repeated([key for key, _ in pairs]), quoted=True)} more than once")
    return row


def _repeated_key_in(value: Any) -> _RepeatedKeyError | None:
    """The first object in a value that names a key more than once, as its error."""
    rest = [value]
    while rest:
        part = rest.pop()
        if isinstance(part, _RepeatedKeyError):
            return part
        rest += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return None


def _repeated(names: list[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _object(value: Any) -> Row | UnreadableRow:
    if isinstance(value, dict):
        return value
    return UnreadableRow(f'{_json_kind(value)}, expected an object such as {{"prompt": ..., "completion": ...}}')


def _json_kind(value: Any) -> str:
    kinds = {
        dict: "an object",
        _RepeatedKeyError: "an object",
        list: "a list",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value)) or kind_text(value)


def read_delimited(path: Path, delimiter: str) -> NumberedRows:
    """Rows as text, an empty field as "". The csv module, because it tells a short row from an empty last field.

    Args:
        path: the file.
        delimiter: what its name says; another of the usual ones is taken where the first rows fit that one alone.
    """
    csv.field_size_limit(_CSV_FIELD_BYTES)
    rows = _table_rows(path, separator_of(path, delimiter))
    first, header = next(rows, (1, []))
    if isinstance(header, UnreadableRow):
        raise DataError(f"{path}, line {first}: {header.reason}. {header.advice}")
    if repeated := _repeated(header):
        raise DataError(f"{path}: the header names {names_text(repeated, quoted=True)} more than once. Rename one.")
    for line, values in rows:
        if isinstance(values, UnreadableRow):
            yield line, values
        elif len(values) == len(header):
            yield line, dict(zip(header, values, strict=True))
        else:
            yield (
                line,
                UnreadableRow(
                    f"{len(values)} field{'s' * (len(values) > 1)}, expected {len(header)} as in the header "
                    f"({names_text(header)})",
                    "A text with the separator in it needs quotes.",
                ),
            )


def _table_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | UnreadableRow]]:
    """Yield (1-based line where it begins, fields) for each row that is not blank, the header first.

    Raises:
        DataError: quotes that are not closed leave open where the row ends, so that the rows behind it are not known.
    """
    text = ""

    def lines() -> Iterator[str]:
        nonlocal text
        for _, text in _text_lines(path):
            yield text

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    start = 1  # of the row being read; a quoted field may run over several lines
    n_fields = longest = 0
    while True:
        try:
            values = next(reader, None)
        except _CutTextError:
            yield start, UnreadableRow("the file ends in the middle of this row")
            return
        except csv.Error as error:
            n_lines = reader.line_num - start + 1
            is_cut = str(error) == "unexpected end of data" and n_lines <= longest
            if not is_cut and not (n_lines == 1 and _ends_on_its_line(text, delimiter, n_fields)):
                raise DataError(
                    f"{path}, line {start}: the row that begins here cannot be read ({error}). {_QUOTING}"
                ) from None
            yield start, UnreadableRow(f"a row that cannot be read ({error})", _QUOTING)
        else:
            if values is None:
                return
            if values:
                yield start, values
                n_fields = n_fields or len(values)
                longest = max(longest, reader.line_num - start + 1)
        start = reader.line_num + 1


def _ends_on_its_line(text: str, delimiter: str, n_fields: int) -> bool:
    """Whether a line with misplaced quotes is a whole row: read with less care, it has as many fields as the header."""
    try:
        return [len(values) for values in csv.reader([text], delimiter=delimiter)] == [n_fields]
    except csv.Error:
        return False


def separator_of(path: Path, usual: str) -> str:
    """The separator with which the header and most of the first rows have the same fields, two at least; or the usual.

    Where several fit, it is the one that most rows fit, and the usual one among equals.
    """
    lines: list[str] = []
    with suppress(_CutTextError):
        lines += (text for _, text in islice(_text_lines(path), _SNIFFED_LINES))
    header = next((text for text in lines if text.strip()), "")
    separators = [usual, *(separator for separator in _SEPARATORS if separator != usual)]
    shares = {separator: _fitting_share(lines, separator) for separator in separators}
    best = max(separators, key=lambda separator: shares[separator])
    if shares[best] > 0.5:
        return best
    named = [separator for separator in separators if separator in header]  # so that the error is about its rows
    return named[0] if named else usual


def _fitting_share(lines: list[str], separator: str) -> float:
    """The share of the first rows that have the header's fields; 0 where the header has one."""
    rows: list[list[str]] = []
    with suppress(csv.Error):  # of a row that is cut, or that runs on behind the lines that are looked at
        rows += islice((row for row in csv.reader(lines, delimiter=separator, strict=True) if row), _SNIFFED_ROWS)
    if len(rows) < 2 or len(rows[0]) < 2:
        return 0.0
    return sum(len(row) == len(rows[0]) for row in rows[1:]) / len(rows[1:])


def read_parquet(path: Path) -> NumberedRows:
    import pyarrow  # here, not above: half a second that other formats need not pay
    import pyarrow.parquet

    try:
        with _seekable(path) as source, pyarrow.parquet.ParquetFile(source, pre_buffer=False) as file:
            names = file.schema_arrow.names
            if repeated := _repeated(names):
                raise DataError(f"{path} has several columns called {names_text(repeated, quoted=True)}. Rename one.")
            for batch in file.iter_batches(batch_size=_batch_rows(file.metadata)):
                for i in range(batch.num_rows):
                    yield None, _parquet_row(batch.slice(i, 1))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}). Was it written to its end?") from error


def _parquet_row(batch: Any) -> Row | UnreadableRow:
    try:
        (row,) = batch.to_pylist()
    except UnicodeDecodeError as error:
        return UnreadableRow(
            f"a text is not UTF-8 (byte 0x{error.object[error.start]:02x})",
            "Write the file anew with its texts as UTF-8.",
        )
    return cast(Row, row)


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
