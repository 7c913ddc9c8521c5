"""The task files that come with semfreeze, named `sample:NAME`."""

import hashlib
from importlib.resources import files
from pathlib import Path

from semfreeze_core.errors import DataError
from semfreeze_core.sources.data.rows import files_digest
from semfreeze_core.storage import user_path

_PREFIX, _HUB = "sample:", "hf:"


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
    """What a data source contains: sha256 of its bytes, wherever they are; of a dataset of the hub its name.

    Args:
        source: a file, a folder of parts, "sample:NAME", "hf:owner/name", or "hf:" with a folder of the datasets
            library.

    Raises:
        DataError: no sample by that name, or files that cannot be read.
    """
    name, _, split = source.removeprefix(_HUB).partition("#")
    path = user_path(name if source.startswith(_HUB) else resolve_data(source))
    try:
        if source.startswith(_HUB):
            return f"{_folder_digest(path)}#{split}" if path.is_dir() else source
        return files_digest(path) if path.exists() else source  # whoever reads it says when it is nothing at all
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def _folder_digest(folder: Path) -> str:
    """sha256 of the names and bytes of all files in a folder, the hidden left out."""
    sha = hashlib.sha256()
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in names:
        if any(part.startswith(".") for part in name.split("/")):
            continue
        with (folder / name).open("rb") as file:
            sha.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return sha.hexdigest()


def sample_names() -> list[str]:
    """Names of the task files, without the prefix."""
    return sorted(path.stem for path in _folder().glob("*.jsonl"))


def _folder() -> Path:
    return Path(str(files("semfreeze_core.sample_data")))
