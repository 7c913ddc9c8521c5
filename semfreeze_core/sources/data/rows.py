"""Rows of a task file or a hub dataset, streamed: nothing here knows what the fields mean.

Every reader yields one row at a time and starts afresh at each iteration, so that two passes over a large file need
the memory of a few rows. Which reader a file takes is listed in formats.py.
"""

import codecs
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from semfreeze_core.errors import DataError
from semfreeze_core.sources.data import formats
from semfreeze_core.sources.data.compression import open_bytes
from semfreeze_core.sources.data.hub_rows import hub_reader
from semfreeze_core.sources.data.readers import NumberedRows, Row, UnreadableRow
from semfreeze_core.storage import user_path

_OTHER_ENCODINGS = {  # UTF-32 first: its little-endian mark begins with UTF-16's
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
_DESCRIPTIONS = {"dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json"}  # of saved datasets
_SPLIT = re.compile(r"(train|test|validation|valid|dev|eval)(?![a-z])", re.IGNORECASE)

_ROWS_OF_A_KIND = 10  # first rows of a file that, when none of them can be read, are of another kind than its name says

COLUMNS_FROM_ROWS = 1000  # a JSON row may leave a key out, so one row is too few to know the columns


@dataclass(frozen=True)
class RowFile:
    """One file of a source, or the whole of a hub dataset.

    Attributes:
        name: as messages call it.
        read: starts a new pass and yields (line or None, row).
    """

    name: str
    read: Callable[[], NumberedRows]


@dataclass(frozen=True)
class RowSource:
    """A re-iterable stream of rows.

    Attributes:
        name: the source as the user wrote it.
        path: the file or folder, or None for a hub dataset.
        files: in reading order.
    """

    name: str
    path: Path | None
    files: tuple[RowFile, ...]

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """Yield (0-based row number, row) from the first row on; numbers count the rows that cannot be read as well."""
        for number, (_, _, row) in enumerate(self.placed()):
            if not isinstance(row, UnreadableRow):
                yield number, row

    def placed(self) -> Iterator[tuple[str, int | None, Row | UnreadableRow]]:
        """Yield (name of the file, 1-based line in it or None where a format has no lines, row) from the first on.

        Raises:
            DataError: a file is of another format than its name says, or damaged beyond a row.
        """
        for file in self.files:
            for line, row in _of_one_format(file):
                yield file.name, line, row

    def columns(self) -> list[str]:
        """Names of the fields seen in the first `COLUMNS_FROM_ROWS` rows, in order of appearance."""
        return list(dict.fromkeys(name for _, row in islice(self, COLUMNS_FROM_ROWS) for name in row))


def open_rows(source: str, split: str | None = None) -> RowSource:
    """The rows of a file in one of `formats.FORMATS`, of a folder of such files, or of a hub dataset (`hf:owner/name`).

    Args:
        source: a path whose extension says the format, a folder whose files are the parts of one table,
            `hf:owner/name`, `hf:owner/name:configuration` or `hf:/local/dataset/folder`; each of the latter may end in
            `#split`, or in `#split:N` for its first N rows, streamed, so that the rest is not downloaded.
        split: the split of a hub dataset, where the source does not say it; may be left out where there is only one.
            Files have none.

    Raises:
        DataError: the source is missing, no file, empty, binary, unreadable, of an unknown kind, or of another kind
            than its name says, so that none of its first rows can be read; the split is missing or does not exist.
    """
    if source.startswith("hf:"):
        rows = RowSource(source, None, (RowFile(source, hub_reader(source, split)),))
    elif split is not None:
        raise DataError(f"--split {split} is for hub datasets (hf:owner/name); {source} is a file and has no splits.")
    else:
        path = user_path(source)
        paths = shard_paths(path) if path.is_dir() else [path]
        files = tuple(
            RowFile(str(file) if file == path else file.name, partial(_file_reader(file), file)) for file in paths
        )
        rows = RowSource(source, path, files)
    if next(iter(rows), None) is None:
        raise DataError(f"{source} holds no rows: expected at least one example.")
    return rows


def _of_one_format(file: RowFile) -> NumberedRows:
    """The rows of a file, in which one at least of the first `_ROWS_OF_A_KIND` can be read.

    Raises:
        DataError: none can; the message is about the first.
    """
    rows = file.read()
    unreadable: list[tuple[int | None, UnreadableRow]] = []
    for line, row in rows:
        if not isinstance(row, UnreadableRow):
            yield from unreadable
            yield line, row
            yield from rows
            return
        unreadable.append((line, row))
        if len(unreadable) == _ROWS_OF_A_KIND:
            break
    if unreadable:
        line, row = unreadable[0]
        n = len(unreadable)
        others = f" None of the {f'first {n}' if n == _ROWS_OF_A_KIND else n} rows can be read." if n > 1 else ""
        location = "row 0" if line is None else f"line {line}"
        raise DataError(f"{file.name}, {location}: {row.reason}.{others}{f' {row.advice}' if row.advice else ''}")


def shard_paths(folder: Path) -> list[Path]:
    """The files of a folder that are the parts of one table, by name.

    Raises:
        DataError: there are none, they have several formats, or they are the parts of several splits.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", "_")))
    shards = [name for name in names if formats.format_of(name) is not None and name not in _DESCRIPTIONS]
    if not shards or not _DESCRIPTIONS.isdisjoint(names):
        raise DataError(
            f"{folder} is a directory: expected one file. For a folder of the datasets library: hf:{folder}. "
            f"A folder of parts needs files that end in one of {', '.join(formats.suffixes())}."
        )
    kinds = sorted({file_format.label for name in shards if (file_format := formats.format_of(name))})
    if len(kinds) > 1:
        raise DataError(f"{folder} holds files of several formats ({', '.join(kinds)}): name one of them.")
    splits = sorted({match[1].lower() for name in shards if (match := _SPLIT.match(name))})
    if len(splits) > 1:
        raise DataError(
            f"{folder} holds several splits ({', '.join(splits)}): name one file, or hf:{folder}#{splits[0]}."
        )
    return [folder / name for name in shards]


def files_digest(path: Path) -> str:
    """sha256 of a file's bytes, or of those of a folder's parts in order, in hexadecimal; the same wherever they are.

    Raises:
        DataError: a folder that holds no parts of one table.
        OSError: a file cannot be read.
    """
    sha = hashlib.sha256()
    for part in shard_paths(path) if path.is_dir() else [path]:
        with part.open("rb") as file:
            while block := file.read(2**18):
                sha.update(block)
    return sha.hexdigest()


def _file_reader(path: Path) -> Callable[[Path], NumberedRows]:
    """The reader for the file's extension, after a look at its first bytes."""
    try:
        if path.exists() and not path.is_file():
            raise DataError(
                f"{path} is not a regular file (a pipe, socket or device): expected one that can be reread."
            )
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. Check the path; a hub dataset is written hf:owner/name.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if is_empty:
        raise DataError(f"{path} is empty (0 bytes): expected at least one example.")
    file_format = formats.format_of(path.name)
    if file_format is None:
        extension_text = f"the extension {path.suffix}" if path.suffix else "no extension"
        expected = ", ".join(formats.suffixes())
        raise DataError(f"{path} has {extension_text}: expected one of {expected}. Convert or rename the file.")
    if file_format.is_text:
        _require_utf8(path)
    return file_format.read


def _require_utf8(path: Path) -> None:
    with open_bytes(path) as file:
        head = file.read(8192)
    for name, marks in _OTHER_ENCODINGS.items():
        if head.startswith(marks):
            raise DataError(f"{path} is {name} text: expected UTF-8. Save it as UTF-8.")
    if b"\0" in head:
        raise DataError(
            f"{path} is binary (a zero byte at offset {head.index(0)}): expected text, as {path.suffix} says. "
            "Unpack it if it is an archive; give it its own extension if it is of another kind."
        )
