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
    """

    kind: str
    label: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], NumberedRows]
    is_text: bool = True


FORMATS: tuple[FileFormat, ...] = (
    FileFormat("json lines", "JSONL", (".jsonl", ".ndjson", ".json-lines"), read_json_lines),
    FileFormat("json", "JSON", (".json",), read_json_list),
    FileFormat("csv", "CSV", (".csv",), partial(read_delimited, delimiter=",")),
    FileFormat("tsv", "TSV", (".tsv",), partial(read_delimited, delimiter="\t")),
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


def stem_of(name: str) -> str:
    """A file's name without its folder and without the ending that says its format."""
    base = name.rsplit("/", 1)[-1]
    suffix = suffix_of(base)
    return Path(base).stem if suffix is None else base[: -len(suffix)]


def formats_text() -> str:
    """The formats as help texts list them: "JSONL, JSON, CSV, TSV, or Parquet (also as .gz or .zst)"."""
    *first, last = (file_format.label for file_format in FORMATS)
    return f"{', '.join(first)}, or {last} (also as {' or '.join(COMPRESSIONS)})"
