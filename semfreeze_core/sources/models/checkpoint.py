"""Opening a checkpoint: which of the four kinds it is, and transformers' own loaders with their errors made clear."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from huggingface_hub import file_exists, try_to_load_from_cache
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from semfreeze_core.errors import ModelError
from semfreeze_core.progress import Progress, silent
from semfreeze_core.sources.models.adapters import (
    Adapter,
    check_adapter_weights,
    locate_base,
    merge_adapter,
    read_adapter,
)
from semfreeze_core.sources.models.embedded import convert_embedded
from semfreeze_core.sources.models.loading_errors import clear_errors
from semfreeze_core.sources.models.probe import find_layers
from semfreeze_core.sources.models.quantization import describe_quantisation, quantisation, unpacking
from semfreeze_core.storage import user_path

CheckpointKind = Literal["folder", "hub", "gguf"]
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Checkpoint:
    """A place a model can be loaded from.

    Attributes:
        source: what the user wrote.
        kind: local folder, hub id, or GGUF file.
        location: folder, hub id, or path of the GGUF file; an adapter's base.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run Python code that comes with the checkpoint.
        allow_pickle: load weights stored as pickle, which can run code while loading.
        adapter: to be merged into the weights found there, if any.
    """

    source: str
    kind: CheckpointKind
    location: str
    revision: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    adapter: Adapter | None = None

    @property
    def place(self) -> str:
        """The folder or hub id that transformers is asked for; a GGUF file's own folder."""
        return str(Path(self.location).parent) if self.kind == "gguf" else self.location

    @property
    def arguments(self) -> dict[str, Any]:
        """What every loader of transformers is told besides the place."""
        own = {"gguf_file": Path(self.location).name} if self.kind == "gguf" else {"revision": self.revision}
        return {"trust_remote_code": self.trust_remote_code, **own}


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

    A folder that holds an adapter is opened as its base, with the adapter to be merged.

    Raises:
        ModelError: the folder holds no config or no weights that may be loaded, or nothing fits the name.
    """
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
        return Checkpoint(source, "folder", str(path), None, **flags)
    if source.count("/") > 1 or source.startswith((".", "~", "/")) or source.endswith(".gguf"):
        raise ModelError(f"{source}: no such folder or file.")
    return Checkpoint(source, "hub", source, revision, **flags)


def _open_base(adapter: Adapter, source: str, *, revision: str | None, allow_pickle: bool, **how: Any) -> Checkpoint:
    if not how["config_only"]:
        check_adapter_weights(adapter, allow_pickle=allow_pickle)
    base = locate_base(adapter)
    try:
        found = open_checkpoint(base, revision=revision or adapter.revision, allow_pickle=allow_pickle, **how)
    except ModelError as error:
        raise ModelError(f"{source} is an adapter, and its base cannot be opened: {error}") from error
    if found.adapter is not None:
        raise ModelError(f"{source} is an adapter of an adapter ({base}): merge that one into its base first.")
    return replace(found, source=source, adapter=adapter)


def _check_folder(folder: Path, *, allow_pickle: bool, config_only: bool) -> None:
    if not (folder / "config.json").exists():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise ModelError(f"{folder}: expected a config.json, found {found}. Is this a Hugging Face model folder?")
    try:
        json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise ModelError(f"{folder}/config.json is not valid JSON: {error}") from error
    if config_only or any((folder / name).exists() for name in _SAFETENSORS):
        return
    if any((folder / name).exists() for name in _PICKLES):
        if not allow_pickle:
            raise ModelError(
                f"{folder} holds its weights only as pickle (.bin), which can run code while loading. If you trust "
                "where it comes from, add --allow-pickle; better, convert it to safetensors once."
            )
        return
    raise ModelError(f"{folder} has a config.json but no weights: expected {_SAFETENSORS[0]} or its index.")


def load_config(checkpoint: Checkpoint) -> Any:
    """The checkpoint's config, refused early when it is not a language model's.

    Raises:
        ModelError: it cannot be read, or names an encoder-decoder or packed weights that cannot be unpacked.
    """
    with clear_errors(checkpoint, "its config"):
        if checkpoint.kind == "hub":
            _ask_hub(checkpoint)
        config = AutoConfig.from_pretrained(checkpoint.place, **checkpoint.arguments)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{checkpoint.source} is an encoder-decoder ({config.model_type}): semfreeze reads decoder-only models."
        )
    packed = None if checkpoint.kind == "gguf" else quantisation(config)
    if packed is not None and unpacking(packed) is None:
        raise ModelError(
            f"{checkpoint.source} holds quantized weights ({describe_quantisation(packed)}), which cannot be read as "
            "numbers here. Give the unquantized checkpoint it was made from"
            + (", and the adapter with it." if checkpoint.adapter else ".")
        )
    return config


def _ask_hub(checkpoint: Checkpoint) -> None:
    """Fail at once when the hub is out of reach: transformers would ask again and again for half a minute."""
    place, revision = checkpoint.location, checkpoint.revision
    try:
        if not isinstance(try_to_load_from_cache(place, "config.json", revision=revision), str):
            file_exists(place, "config.json", revision=revision)
    except Exception as error:
        if type(error).__module__.startswith("httpx"):  # the connection; all else transformers explains better
            raise


def empty_model(checkpoint: Checkpoint, config: Any, *, attention: str | None = "eager") -> Any:
    """The model's modules without any weights, for counting; made under a FakeTensorMode it can also be run.

    By default attention and experts compute in the open, where torch counts their FLOP, and look at no data.

    Args:
        checkpoint: where the config is from.
        config: loaded from it.
        attention: transformers' name of its implementation; None is the family's own.
    """
    how = {"attn_implementation": attention, "experts_implementation": "batched_mm"}
    auto: Any = AutoModelForCausalLM
    with clear_errors(checkpoint, "its architecture"):
        return auto.from_config(config, trust_remote_code=checkpoint.trust_remote_code, **how)


def load_model(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The model with its weights, on the CPU.

    Raises:
        ModelError: transformers cannot load it, or it does not hold the weights its config asks for.
    """
    how: dict[str, Any] = {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    packed = None if checkpoint.kind == "gguf" else quantisation(load_config(checkpoint))
    if checkpoint.kind == "gguf":
        how |= _dequantised()
    else:  # None takes safetensors when there are any
        how["use_safetensors"] = None if checkpoint.allow_pickle else True
    if packed is not None:
        how["quantization_config"] = unpacking(packed)
    auto: Any = AutoModelForCausalLM
    with clear_errors(checkpoint, "the model"):
        model, report = auto.from_pretrained(checkpoint.place, **checkpoint.arguments, **how)
    if (
        packed is not None
    ):  # unpacked to bfloat16 whatever was asked; buffers such as rotary frequencies stay as they are
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
    _check_complete(checkpoint.source, model, report)
    if checkpoint.adapter is None:
        return model
    with clear_errors(checkpoint, "its adapter"):
        return merge_adapter(model, checkpoint.adapter)


def _check_complete(source: str, model: Any, report: dict[str, Any]) -> None:
    """Refuse a checkpoint that does not hold just the model its config describes."""
    missing, mismatched = sorted(report["missing_keys"]), sorted(report["mismatched_keys"])
    if missing:
        raise ModelError(
            f"{source}: {len(missing)} weights are not in the checkpoint and would be random "
            f"({', '.join(missing[:3])}, ...). Is it a {type(model).__name__} checkpoint?"
        )
    if mismatched:
        name, found, expected = mismatched[0]
        raise ModelError(
            f"{source}: {len(mismatched)} weights have other shapes than the config says: {name} is {tuple(found)}, "
            f"expected {tuple(expected)}. Does this config.json belong to these weights?"
        )
    layers, prefix = find_layers(model)
    numbers = [re.match(rf"{re.escape(prefix)}(\d+)\.", name) for name in report["unexpected_keys"]]
    last = max((int(number[1]) for number in numbers if number), default=0)
    if last >= len(layers):
        raise ModelError(
            f"{source}: the checkpoint holds layers up to number {last}, but its config says {len(layers)} layers. "
            "Does this config.json belong to these weights?"
        )


def _dequantised() -> dict[str, Any]:
    """What makes transformers unpack a GGUF file's weights; older versions always do and know no such option."""
    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The checkpoint's own tokenizer; an adapter's, where it brings one.

    Raises:
        ModelError: there is none, or it cannot be built.
    """
    own = checkpoint.adapter if checkpoint.adapter is not None and checkpoint.adapter.has_tokenizer else None
    place, how = (checkpoint.place, checkpoint.arguments) if own is None else (str(own.folder), {})
    with clear_errors(checkpoint, "its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(place, **how)
    if checkpoint.kind == "gguf" and own is None:
        _drop_invented_tokens(tokenizer, load_config(checkpoint).vocab_size)
    return tokenizer


def _drop_invented_tokens(tokenizer: Any, n_tokens: int) -> None:
    """Take out what transformers adds to byte-level GGUF tokenizers: an <|endoftext|> that Llama 3 has no row for."""
    if len(tokenizer) > n_tokens:
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        backend["added_tokens"] = [token for token in backend["added_tokens"] if token["id"] < n_tokens]
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(backend))


def load_gguf(path: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, its weights dequantised (else they could be neither trained nor saved)."""
    checkpoint = Checkpoint(str(path), "gguf", str(path))
    return load_model(checkpoint, dtype), load_tokenizer(checkpoint)
