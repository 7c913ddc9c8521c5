"""Rows of a task file or a hub dataset, streamed: nothing here knows what the fields mean.

Every reader yields one row at a time and starts afresh at each iteration, so that two passes over a large file need
the memory of a few rows. Whatever is wrong with a file is told as a DataError: what was expected, what was found, and
what to do.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from semfreeze_core.errors import DataError
from semfreeze_core.sources.data.hub_rows import hub_reader
from semfreeze_core.storage import user_path

Row = dict[str, Any]
NumberedRows = Iterator[tuple[int | None, Row]]  # (1-based line in the file or None where a format has no lines, row)

COLUMNS_FROM_ROWS = 1000  # a JSON row may leave a key out, so one row is too few to know the columns
_CSV_FIELD_BYTES = 2**24  # the csv module's own limit of 128 KiB is too small for documents
_PARQUET_BATCH_ROWS = 256


@dataclass(frozen=True)
class RowSource:
    """A re-iterable stream of rows.

    Attributes:
        name: the source as the user wrote it.
        path: the file, or None for a hub dataset.
        read: starts a new pass and yields (line or None, row).
    """

    name: str
    path: Path | None
    read: Callable[[], NumberedRows]

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """Yield (0-based row number, row) from the first row on."""
        for number, (_, row) in enumerate(self.read()):
            yield number, row

    def columns(self) -> list[str]:
        """Names of the fields seen in the first `COLUMNS_FROM_ROWS` rows, in order of appearance."""
        return list(dict.fromkeys(name for _, row in islice(self, COLUMNS_FROM_ROWS) for name in row))

    def place(self, row_number: int) -> str:
        """Where a row stands, for a message: the name and, where the format has lines, the 1-based line.

        Reads the file again up to the row: this is asked once, on the way to an error.
        """
        line = next((line for line, _ in islice(self.read(), row_number, None)), None)
        return self.name if line is None else f"{self.name}, line {line}"


def open_rows(source: str, split: str | None = None) -> RowSource:
    """The rows of a file (JSON Lines, JSON list, CSV, TSV, Parquet) or, as `hf:owner/name`, of a hub dataset.

    Args:
        source: a path whose extension says the format, `hf:owner/name`, `hf:owner/name:configuration` or
            `hf:/local/dataset/folder`; each of the latter may end in `#split`, or in `#split:N` for its first N rows,
            streamed, so that the rest is not downloaded.
        split: the split of a hub dataset, where the source does not say it; may be left out where there is only one.
            Files have none.

    Raises:
        DataError: the source is missing, a directory, empty, binary, unreadable or of an unknown kind; its first row is
            malformed (a later one raises while iterating); the split is missing or does not exist.
    """
    if source.startswith("hf:"):
        rows = RowSource(source, None, hub_reader(source, split))
    elif split is not None:
        raise DataError(f"--split {split} is for hub datasets (hf:owner/name); {source} is a file and has no splits.")
    else:
        path = user_path(source)
        rows = RowSource(source, path, partial(_file_reader(path), path))
    if next(iter(rows), None) is None:
        raise DataError(f"{source} holds no rows: expected at least one example.")
    return rows


def _file_reader(path: Path) -> Callable[[Path], NumberedRows]:
    """The reader for the file's extension, after a look at its first bytes."""
    if path.is_dir():
        raise DataError(f"{path} is a directory: expected one file. For a folder of the datasets library: hf:{path}")
    try:
        with path.open("rb") as file:
            head = file.read(8192)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. Check the path; a hub dataset is written hf:owner/name.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if not head:
        raise DataError(f"{path} is empty (0 bytes): expected at least one example.")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        found = f"the extension {path.suffix}" if path.suffix else "no extension"
        raise DataError(f"{path} has {found}: expected one of {', '.join(_READERS)}. Convert or rename the file.")
    if reader is not _read_parquet:
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{path} is UTF-16 text: expected UTF-8. Save it as UTF-8.")
        if b"\0" in head:
            raise DataError(
                f"{path} is binary (a zero byte at offset {head.index(0)}): expected text, as {path.suffix} says. "
                "Unpack it if it is an archive; give it its own extension if it is of another kind."
            )
    return reader


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


def _read_json_lines(path: Path) -> NumberedRows:
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


def _read_json_list(path: Path) -> NumberedRows:
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


def _read_delimited(path: Path, delimiter: str) -> NumberedRows:
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


def _read_parquet(path: Path) -> NumberedRows:
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


_READERS: dict[str, Callable[[Path], NumberedRows]] = {
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json-lines": _read_json_lines,
    ".json": _read_json_list,
    ".csv": partial(_read_delimited, delimiter=","),
    ".tsv": partial(_read_delimited, delimiter="\t"),
    ".parquet": _read_parquet,
}
