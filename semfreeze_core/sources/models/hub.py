"""Names and single files of the model hub."""

import re
from pathlib import Path

from semfreeze_core.errors import InputError

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_repo_id(name: str) -> bool:
    """Whether this is written as a repository of the hub is, owner/name, and no file or folder has that name here."""
    return _REPO_ID.fullmatch(name) is not None and not Path(name).exists()


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
