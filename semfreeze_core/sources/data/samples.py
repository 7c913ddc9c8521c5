"""The task files that come with semfreeze, named `sample:NAME`."""

from importlib.resources import files
from pathlib import Path

from semfreeze_core.errors import DataError

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


def sample_names() -> list[str]:
    """Names of the task files, without the prefix."""
    return sorted(path.stem for path in _folder().glob("*.jsonl"))


def _folder() -> Path:
    return Path(str(files("semfreeze_core.sample_data")))
