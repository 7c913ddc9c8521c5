"""Names and single files of the model hub."""

import re
from pathlib import Path

from semfreeze_core.errors import InputError
from semfreeze_core.storage import user_path

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_NAME = r"[A-Za-z0-9](?:[\w-]|\.(?!\.))*"
_MODEL = re.compile(rf"{_NAME}(?:/{_NAME})?", re.ASCII)


def is_repo_id(name: str) -> bool:
    """Whether this is written as a repository of the hub is, owner/name, and no file or folder has that name here."""
    return _REPO_ID.fullmatch(name) is not None and not Path(name).exists()


def names_hub_model(name: str) -> bool:
    """Whether this can only mean a model of the hub: owner/name or name, and no file or folder has that name here."""
    return _MODEL.fullmatch(name) is not None and not is_here(name)


def is_here(name: str) -> bool:
    """Whether the name of a repository is also a path from where this process stands, which would be opened first."""
    try:
        return user_path(name).exists()
    except OSError:
        return True


def model_file(model: str, name: str, revision: str | None = None) -> Path | None:
    """A file of a model's folder, or of a repository as the hub's cache has it; None where it is not here.

    Nothing is downloaded.
    """
    folder = user_path(model)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    if not names_hub_model(model):
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model, name, revision=revision)
    return Path(cached) if isinstance(cached, str) else None


def hub_file(repo: str, name: str) -> Path:
    """A file of a repository, from the hub or the cache it fills.

    Raises:
        InputError: no such file, no such repository, or no way to the hub.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(repo, name))
    except (OSError, EntryNotFoundError, HfHubHTTPError, HFValidationError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{repo} is not a local file or folder, and its {name} could not be downloaded: {why}"
        ) from error
