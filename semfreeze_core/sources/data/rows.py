"""Rows of a task file or a hub dataset, streamed: nothing here knows what the fields mean.

Every reader yields one row at a time and starts afresh at each iteration, so that two passes over a large file need
the memory of a few rows. Which reader a file takes is listed in formats.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from semfreeze_core.errors import DataError
from semfreeze_core.sources.data import formats
from semfreeze_core.sources.data.hub_rows import hub_reader
from semfreeze_core.sources.data.readers import NumberedRows, Row
from semfreeze_core.storage import user_path

COLUMNS_FROM_ROWS = 1000  # a JSON row may leave a key out, so one row is too few to know the columns


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
    """The rows of a file in one of `formats.FORMATS` or, as `hf:owner/name`, of a hub dataset.

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
    file_format = formats.format_of(path.name)
    if file_format is None:
        extension_text = f"the extension {path.suffix}" if path.suffix else "no extension"
        expected = ", ".join(formats.suffixes())
        raise DataError(f"{path} has {extension_text}: expected one of {expected}. Convert or rename the file.")
    if file_format.is_text:
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{path} is UTF-16 text: expected UTF-8. Save it as UTF-8.")
        if b"\0" in head:
            raise DataError(
                f"{path} is binary (a zero byte at offset {head.index(0)}): expected text, as {path.suffix} says. "
                "Unpack it if it is an archive; give it its own extension if it is of another kind."
            )
    return file_format.read
