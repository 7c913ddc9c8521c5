"""Opening a checkpoint: which of the four kinds a name means, and whether the place holds one. No weights are read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from semfreeze_core.errors import ModelError
from semfreeze_core.progress import Progress, silent
from semfreeze_core.sources.models.adapters import SAFETENSORS as ADAPTER_WEIGHTS
from semfreeze_core.sources.models.adapters import (
    Adapter,
    check_adapter_weights,
    is_adapter,
    locate_base,
    read_adapter,
)
from semfreeze_core.sources.models.checkpoint import Checkpoint
from semfreeze_core.sources.models.embedded import convert_embedded
from semfreeze_core.sources.models.files import INDEX, WEIGHTS, check_files, read_object
from semfreeze_core.sources.models.hub import names_hub_model
from semfreeze_core.sources.models.hub_adapter import download_adapter, holds_adapter
from semfreeze_core.sources.models.known_shapes import refuse_shape
from semfreeze_core.storage import user_path

_SAFETENSORS = (WEIGHTS, INDEX)
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def open_checkpoint(
    source: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    config_only: bool = False,
    progress: Progress = silent,
) -> Checkpoint:
    """Say what `source` is: "embedded", a local folder, a GGUF file, or else a hub id.

    A folder or a repository of the hub that holds an adapter is opened as its base, with the adapter to be merged. A
    folder's adapter may name a local base; a downloaded one only a model of the hub.

    Raises:
        ModelError: the folder holds no config or no weights that may be loaded, or nothing fits the name.
    """
    refuse_shape(source)
    path = user_path(source)
    flags: dict[str, Any] = {"trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle}
    if source == "embedded":
        return Checkpoint(source, "folder", str(convert_embedded(progress)), None, **flags)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:
        raise ModelError(f"{source[:80]}...: {error.strerror}.") from error
    if is_file:
        if path.suffix.lower() != ".gguf":
            raise ModelError(f"{source}: a model file must be .gguf; for safetensors give the folder that holds it.")
        return Checkpoint(source, "gguf", str(path), None, **flags)
    adapter = read_adapter(path) if is_folder else None
    if adapter is not None:
        return _open_base(adapter, source, revision=revision, config_only=config_only, progress=progress, **flags)
    if is_folder:
        _check_folder(path, allow_pickle=allow_pickle, config_only=config_only)
        return Checkpoint(source, "folder", str(path), None, config_only=config_only, **flags)
    if path.exists():
        raise ModelError(f"{source} is a pipe or a device: expected a model's folder or a GGUF file.")
    if source.count("/") > 1 or source.startswith((".", "~", "/")) or source.endswith(".gguf"):
        raise ModelError(f"{source}: no such folder or file.")
    adapter = download_adapter(source, revision, allow_pickle=allow_pickle)
    if adapter is not None:
        return _open_base(adapter, source, revision=None, config_only=config_only, progress=progress, **flags)
    return Checkpoint(source, "hub", source, revision, config_only=config_only, **flags)


def _open_base(
    adapter: Adapter, source: str, *, revision: str | None, allow_pickle: bool, **options: Any
) -> Checkpoint:
    if not options["config_only"]:
        check_adapter_weights(adapter, allow_pickle=allow_pickle)
    base, revision = adapter.base if adapter.repository else locate_base(adapter), revision or adapter.revision
    _refuse_itself(base, adapter)
    try:
        chained = _is_adapter_too(base, revision)
        base_checkpoint = (
            None if chained else open_checkpoint(base, revision=revision, allow_pickle=allow_pickle, **options)
        )
    except ModelError as error:
        raise ModelError(f"{source} is an adapter, and its base cannot be opened: {error} {adapter.advice}") from error
    if base_checkpoint is None:
        raise ModelError(f"{adapter.name} is an adapter of an adapter ({base}): merge that one into its base first.")
    return replace(base_checkpoint, source=source, adapter=adapter)


def _refuse_itself(base: str, adapter: Adapter) -> None:
    if base == adapter.repository or (
        is_adapter(user_path(base)) and user_path(base).resolve() == adapter.folder.resolve()
    ):
        raise ModelError(f"{adapter.name} is an adapter that names itself as its base. {adapter.advice}")


def _is_adapter_too(base: str, revision: str | None) -> bool:
    """Whether a base is an adapter, perhaps one that names the first as its own base; before it is opened."""
    return is_adapter(user_path(base)) or (
        base != "embedded" and names_hub_model(base) and holds_adapter(base, revision)
    )


def _check_folder(folder: Path, *, allow_pickle: bool, config_only: bool) -> None:
    if not (folder / "config.json").exists():
        file_names = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise ModelError(f"{folder}: expected a config.json, found {file_names}. Is this a Hugging Face model folder?")
    if config_only:
        read_object(folder / "config.json")
        return
    check_files(folder)
    if any((folder / name).exists() for name in _SAFETENSORS):
        return
    if any((folder / name).exists() for name in _PICKLES):
        if not allow_pickle:
            raise ModelError(
                f"{folder} holds its weights only as pickle (.bin), which can run code while loading. If you trust "
                "where it comes from, add --allow-pickle; better, convert it to safetensors once."
            )
        return
    parts = sorted(path.name for path in folder.glob("*.safetensors") if path.name != ADAPTER_WEIGHTS)
    if parts:
        others = f" and {len(parts) - 1} more" if parts[1:] else ""
        raise ModelError(
            f"{folder} holds {parts[0]}{others}, but no {INDEX}, which says what is in them: expected it, or one "
            f"{WEIGHTS}. Download the whole folder again."
        )
    raise ModelError(f"{folder} has a config.json but no weights: expected {WEIGHTS} or its index.")
