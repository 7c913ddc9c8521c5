"""The one list of file formats that examples are read from.

Rows, exports, the dashboard's uploads, help texts and error messages all take from it: a new format is one entry here,
with its reader in readers.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from semfreeze_core.sources.data.compression import COMPRESSIONS, compression_of
from semfreeze_core.sources.data.readers import (
    NumberedRows,
    read_delimited,
    read_json_lines,
    read_json_list,
    read_parquet,
    separator_of,
)


@dataclass(frozen=True)
class FileFormat:
    """One format of task files.

    Attributes:
        kind: what exports ask, as each trainer reads some kinds only.
        label: its name in help texts.
        suffixes: endings of file names, lower case, with the dot; the first is the usual one.
        read: yields the rows of a file, in a new pass each time it is called.
        is_text: whether the bytes are UTF-8 text, so that a zero byte shows another kind of file.
        separator: between the fields of a table, as its name says; None without one.
    """

    kind: str
    label: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], NumberedRows]
    is_text: bool = True
    separator: str | None = None


def _delimited(kind: str, suffix: str, separator: str) -> FileFormat:
    read = partial(read_delimited, delimiter=separator)
    return FileFormat(kind, kind.upper(), (suffix,), read, separator=separator)


FORMATS: tuple[FileFormat, ...] = (
    FileFormat("json lines", "JSONL", (".jsonl", ".ndjson", ".json-lines"), read_json_lines),
    FileFormat("json", "JSON", (".json",), read_json_list),
    _delimited("csv", ".csv", ","),
    _delimited("tsv", ".tsv", "\t"),
    FileFormat("parquet", "Parquet", (".parquet",), read_parquet, is_text=False),
)


def suffixes() -> tuple[str, ...]:
    """Every file ending that can be read, with its dot, in the order of the list; each may be compressed as well."""
    return tuple(suffix for file_format in FORMATS for suffix in file_format.suffixes)


def all_suffixes() -> tuple[str, ...]:
    """The endings of `suffixes`, and of the same files compressed."""
    packed = (suffix + compression for compression in COMPRESSIONS for suffix in suffixes())
    return tuple(dict.fromkeys((*suffixes(), *packed)))


def suffix_of(name: str) -> str | None:
    """The ending of a file's name that says its format, in lower case; the longest that fits, None when none does."""
    fitting = [suffix for suffix in all_suffixes() if name.lower().endswith(suffix)]
    return max(fitting, key=len, default=None)


def format_of(name: str) -> FileFormat | None:
    """The format that a file's name says, or None when its ending is not in the list."""
    suffix = suffix_of(name)
    if suffix is not None and suffix not in suffixes():
        suffix = suffix.removesuffix(compression_of(suffix) or "")
    return next((file_format for file_format in FORMATS if suffix in file_format.suffixes), None)


def kind_of(path: Path) -> str | None:
    """What a trainer that reads the file itself has to read: its format, and what is not usual about it.

    Args:
        path: of a file; compressed ones are told by name, tables with another separator by their first rows.
    """
    file_format = format_of(str(path))
    if file_format is None:
        return None
    if compression_of(str(path)) is not None:
        return f"compressed {file_format.kind}"
    usual = file_format.separator
    if usual is not None and (separator := separator_of(path, usual)) != usual:
        return f"{separator!r}-separated {file_format.kind}"
    return file_format.kind


def stem_of(name: str) -> str:
    """A file's name without its folder and without the ending that says its format."""
    base = name.rsplit("/", 1)[-1]
    suffix = suffix_of(base)
    return Path(base).stem if suffix is None else base[: -len(suffix)]


def formats_text() -> str:
    """The formats as help texts list them: "JSONL, JSON, CSV, TSV, or Parquet (also as .gz or .zst)"."""
    *first, last = (file_format.label for file_format in FORMATS)
    return f"{', '.join(first)}, or {last} (also as {' or '.join(COMPRESSIONS)})"
