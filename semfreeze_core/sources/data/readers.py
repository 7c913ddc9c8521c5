"""Readers of file formats: a path in, numbered rows out, one at a time; `formats.py` lists which file takes which.

Whatever is wrong with a file is raised as a DataError: what was expected, what was found, and what to do.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from semfreeze_core.errors import DataError

Row = dict[str, Any]
NumberedRows = Iterator[tuple[int | None, Row]]  # (1-based line in the file or None where a format has no lines, row)

_CSV_FIELD_BYTES = 2**24  # the csv module's own limit of 128 KiB is too small for documents
_PARQUET_BATCH_ROWS = 256


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (1-based line, text with its line end); decoded line by line, so that a bad byte has an address."""
    offset = 0
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
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
            value = json.loads(text)
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
        values = json.loads(text)
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


def _object(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(
            f'{place} is {_json_kind(value)}: expected an object such as {{"prompt": ..., "completion": ...}}.'
        )
    return value


def _json_kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")


def read_delimited(path: Path, delimiter: str) -> NumberedRows:
    """Rows as text, an empty field as "". The csv module, because it tells a short row from an empty last field."""
    csv.field_size_limit(_CSV_FIELD_BYTES)
    reader = csv.reader((text for _, text in _text_lines(path)), delimiter=delimiter, strict=True)
    start = 1  # of the row being read; a quoted field may run over several lines
    try:
        header = next((names for names in reader if names), [])
        if repeated := sorted({name for name in header if header.count(name) > 1}):
            raise DataError(f"{path}: the header names {', '.join(map(repr, repeated))} more than once. Rename one.")
        start = reader.line_num + 1
        for values in reader:
            if values and len(values) != len(header):
                raise DataError(
                    f"{path}, line {start}: expected {len(header)} fields as in the header "
                    f"({', '.join(header)}), found {len(values)}. A text with the separator in it needs quotes."
                )
            if values:
                yield start, dict(zip(header, values, strict=True))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {start}: the row that begins here cannot be read ({error}). Is a quote not closed? "
            "A text that begins with a quote must be quoted whole, its own quotes doubled."
        ) from None


def read_parquet(path: Path) -> NumberedRows:
    import pyarrow  # here, not above: half a second that other formats need not pay
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise DataError(f"{path} has several columns called {', '.join(map(repr, repeated))}. Rename one.")
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS):
                for row in batch.to_pylist():
                    yield None, row
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}). Was it written to its end?") from error
