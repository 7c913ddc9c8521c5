"""The task files that come with semfreeze, named `sample:NAME`."""

import hashlib
from importlib.resources import files
from pathlib import Path

from semfreeze_core.errors import DataError
from semfreeze_core.storage import user_path

_PREFIX = "sample:"


def resolve_data(source: str) -> str:
    """The path behind `sample:NAME`; anything else is returned as it is.

    Raises:
        DataError: no sample by that name; lists those there are.
    """
    if not source.startswith(_PREFIX):
        return source
    path = _folder() / f"{source.removeprefix(_PREFIX)}.jsonl"
    if not path.is_file():
        names = ", ".join(f"{_PREFIX}{name}" for name in sample_names())
        raise DataError(f"{source}: no such sample. There are: {names}.")
    return str(path)


def source_digest(source: str) -> str:
    """What a data source contains: sha256 of a file's bytes, wherever it is; of a hub dataset its name.

    Raises:
        DataError: no sample by that name, or a file that cannot be read.
    """
    path = user_path(resolve_data(source))
    if not path.is_file():
        return source  # a hub dataset; whoever reads it says when it is nothing at all
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def sample_names() -> list[str]:
    """Names of the task files, without the prefix."""
    return sorted(path.stem for path in _folder().glob("*.jsonl"))


def _folder() -> Path:
    return Path(str(files("semfreeze_core.sample_data")))
