"""Adapters of the hub: downloaded, and kept from naming as their base what only this machine has.

transformers would follow whatever an adapter's config names, a path of this machine too. So the config is looked at
before transformers sees the repository, and the base is opened as any other model of the hub.
"""

from dataclasses import replace
from pathlib import Path

from huggingface_hub import file_exists, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models.adapters import CONFIG, PICKLE, SAFETENSORS, Adapter, read_adapter
from semfreeze_core.sources.models.hub import names_hub_model

# No such name or file, no leave to read it, or the hub is switched off for the loaders as well.
_NOTHING_THERE = (
    EntryNotFoundError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError,
)  # fmt: skip
_TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.jinja")


def download_adapter(repository: str, revision: str | None, *, allow_pickle: bool) -> Adapter | None:
    """The adapter that a repository of the hub holds, its files in the hub's cache; None where it holds none.

    Where the hub is switched off and the cache has none, that is None too: the loaders then say what is missing.

    Args:
        repository: owner/name, or name.
        revision: branch, tag or commit of it.
        allow_pickle: download weights stored as pickle.

    Raises:
        ModelError: its config is unusable, or names as its base something that is no model of the hub; or the hub does
            not say whether there is one.
    """
    if not holds_adapter(repository, revision):
        return None
    weights = (SAFETENSORS, PICKLE) if allow_pickle else (SAFETENSORS,)
    try:
        folder = snapshot_download(repository, revision=revision, allow_patterns=[CONFIG, *weights, *_TOKENIZER])
    except Exception as error:  # those of the connection are of a library below the hub's
        raise ModelError(f"{repository}: the adapter's files could not be downloaded ({error}). Try again.") from error
    adapter = read_adapter(Path(folder))
    if adapter is None:
        raise ModelError(f"{repository}: its {CONFIG} could not be downloaded. Try again.")
    adapter = replace(adapter, repository=repository)
    if not names_hub_model(adapter.base):
        raise ModelError(
            f"{repository} is an adapter from the hub that names {adapter.base[:80]!a} as its base: expected a model "
            f"of the hub, owner/name or name, that is no file or folder here. {adapter.advice}"
        )
    return adapter


def holds_adapter(repository: str, revision: str | None) -> bool:
    """Whether the cache or the hub has an adapter's config there; asked once, where the library would ask for long.

    Raises:
        ModelError: nobody can tell. The loaders, which may reach the hub a moment later, would follow what an adapter
            names without a look at it.
    """
    try:
        cached = try_to_load_from_cache(repository, CONFIG, revision=revision)
        return isinstance(cached, str) if cached is not None else file_exists(repository, CONFIG, revision=revision)
    except _NOTHING_THERE:  # the loaders meet it again and say so
        return False
    except Exception as error:  # those of the connection are of a library below the hub's
        raise ModelError(
            f"{repository}: no such folder, and the Hugging Face hub did not say whether it is an adapter there "
            f"({error}). Is the name right, and the hub within reach? Try again; with HF_HUB_OFFLINE=1 set, what the "
            "hub's cache holds is used. A local folder or a GGUF file works offline."
        ) from error
