"""Opening a checkpoint: which of the four kinds it is, and transformers' own loaders with their errors made clear."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch._guards import active_fake_mode
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from semfreeze_core.errors import ModelError
from semfreeze_core.progress import Progress, silent
from semfreeze_core.sources.embedded import convert_embedded

CheckpointKind = Literal["folder", "hub", "gguf"]
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Checkpoint:
    """A place a model can be loaded from.

    Attributes:
        source: what the user wrote.
        kind: local folder, hub id, or GGUF file.
        location: folder, hub id, or path of the GGUF file.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run Python code that comes with the checkpoint.
        allow_pickle: load weights stored as pickle, which can run code while loading.
    """

    source: str
    kind: CheckpointKind
    location: str
    revision: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False

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

    Raises:
        ModelError: the folder holds no config or no weights that may be loaded, or nothing fits the name.
    """
    path = Path(source).expanduser()
    flags: dict[str, Any] = {"trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle}
    if source == "embedded":
        return Checkpoint(source, "folder", str(convert_embedded(progress)), None, **flags)
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ModelError(f"{source}: a model file must be .gguf; for safetensors give the folder that holds it.")
        return Checkpoint(source, "gguf", str(path), None, **flags)
    if path.is_dir():
        _check_folder(path, allow_pickle=allow_pickle, config_only=config_only)
        return Checkpoint(source, "folder", str(path), None, **flags)
    if source.count("/") > 1 or source.startswith((".", "~", "/")) or source.endswith(".gguf"):
        raise ModelError(f"{source}: no such folder or file.")
    return Checkpoint(source, "hub", source, revision, **flags)


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


@contextmanager
def _clear_errors(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """Hush the library's own chatter and turn its many exceptions into one message."""
    control: Any = transformers_logging
    before, bars = control.get_verbosity(), control.is_progress_bar_enabled()
    control.set_verbosity(logging.ERROR)
    control.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        # transformers and the libraries below it report unusable checkpoints with nearly any exception; the cause
        # stays readable in the message. Lists of everything that would have been supported do not.
        text = " ".join(str(error).split()).split(" Model type should be one of")[0]
        text = (text or type(error).__name__)[:400].rstrip(".")
        hint = _hint(checkpoint, text)
        raise ModelError(f"{checkpoint.source}: {what} could not be loaded: {text}.{hint}") from error
    finally:
        control.set_verbosity(before)
        if bars:
            control.enable_progress_bar()


def _hint(checkpoint: Checkpoint, text: str) -> str:
    if "trust_remote_code" in text and not checkpoint.trust_remote_code:
        return " This checkpoint brings its own code; if you trust it, add --trust-remote-code, which runs it."
    if checkpoint.kind != "hub":
        return ""
    if "use_safetensors" in text:
        return " Its weights are pickle, which can run code while loading; if you trust them, add --allow-pickle."
    return " Is the name right, and is the hub within reach? A local folder or GGUF file works offline."


def load_config(checkpoint: Checkpoint) -> Any:
    """The checkpoint's config, refused early when it is not a language model's.

    Raises:
        ModelError: it cannot be read, or names an encoder-decoder.
    """
    with _clear_errors(checkpoint, "its config"):
        config = AutoConfig.from_pretrained(checkpoint.place, **checkpoint.arguments)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{checkpoint.source} is an encoder-decoder ({config.model_type}): semfreeze reads decoder-only models."
        )
    return config


def empty_model(checkpoint: Checkpoint, config: Any) -> Any:
    """The model's modules without any weights, for counting.

    Made under the caller's FakeTensorMode it can also be run; else its tensors are on torch's `meta` device.
    """
    auto: Any = AutoModelForCausalLM
    with _clear_errors(checkpoint, "its architecture"), nullcontext() if active_fake_mode() else torch.device("meta"):
        return auto.from_config(config, trust_remote_code=checkpoint.trust_remote_code)


def load_model(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The model with its weights, on the CPU.

    Raises:
        ModelError: transformers cannot load it, or weights are missing from the checkpoint.
    """
    how: dict[str, Any] = {"dtype": dtype, "output_loading_info": True}
    if checkpoint.kind == "gguf":
        how |= _dequantised()
    else:  # None takes safetensors when there are any
        how["use_safetensors"] = None if checkpoint.allow_pickle else True
    auto: Any = AutoModelForCausalLM
    with _clear_errors(checkpoint, "the model"):
        model, report = auto.from_pretrained(checkpoint.place, **checkpoint.arguments, **how)
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{checkpoint.source}: {len(missing)} weights are not in the checkpoint and would be random "
            f"({', '.join(missing[:3])}, ...). Is it a {type(model).__name__} checkpoint?"
        )
    return model


def _dequantised() -> dict[str, Any]:
    """What makes transformers unpack a GGUF file's weights; older versions always do and know no such option."""
    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The checkpoint's own tokenizer.

    Raises:
        ModelError: there is none, or it cannot be built.
    """
    with _clear_errors(checkpoint, "its tokenizer"):
        return AutoTokenizer.from_pretrained(checkpoint.place, **checkpoint.arguments)


def load_gguf(path: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, its weights dequantised (else they could be neither trained nor saved)."""
    checkpoint = Checkpoint(str(path), "gguf", str(path))
    return load_model(checkpoint, dtype), load_tokenizer(checkpoint)
