"""Opening a checkpoint: which of the four kinds it is, and transformers' own loaders with their errors made clear."""

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from huggingface_hub import file_exists, try_to_load_from_cache
from tokenizers import Tokenizer
from torch._guards import active_fake_mode
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from semfreeze_core.errors import ModelError
from semfreeze_core.progress import Progress, silent
from semfreeze_core.sources.embedded import convert_embedded
from semfreeze_core.sources.probe import find_layers
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
    if is_folder:
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
def hushed() -> Iterator[None]:
    """Keep transformers' own log lines, warnings and progress bars off the terminal."""
    control: Any = transformers_logging
    before, bars = control.get_verbosity(), control.is_progress_bar_enabled()
    control.set_verbosity(logging.ERROR)
    control.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        control.set_verbosity(before)
        if bars:
            control.enable_progress_bar()


@contextmanager
def _clear_errors(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """Turn the library's many exceptions into one message, and hush it."""
    # The bar over a GGUF file's tensors can be switched off in no other way.
    unseen = redirect_stderr(io.StringIO()) if checkpoint.kind == "gguf" else nullcontext()
    try:
        with hushed(), unseen:
            yield
    except Exception as error:
        # transformers and the libraries below it report unusable checkpoints with nearly any exception.
        text, hint = _reason(error), _hint(checkpoint, what, error)
        raise ModelError(f"{checkpoint.source}: {what} could not be loaded: {text}.{hint}") from error


def _reason(error: Exception) -> str:
    """The exception's own words, without what helps nobody here, cut to whole sentences."""
    text = " ".join(str(error).split())
    if "weights_only" in text:
        return "the pickle is damaged, or holds other things than tensors"
    text = text.split(" Model type should be one of")[0]  # a list of all that would have been supported
    if len(text) > 400:
        text = f"{text[:400].rsplit('. ', 1)[0]} [...]"
    name = type(error).__name__
    return (f"{name} {text}" if isinstance(error, LookupError) else text or name).rstrip(".")


def _hint(checkpoint: Checkpoint, what: str, error: Exception) -> str:
    text = str(error)
    if "trust_remote_code" in text and not checkpoint.trust_remote_code:
        return " This checkpoint brings its own code; if you trust it, add --trust-remote-code, which runs it."
    if checkpoint.kind == "gguf":
        return " Is the file whole, and does transformers read its architecture?"
    if checkpoint.kind == "hub":
        if "use_safetensors" in text:
            return " Its weights are pickle, which can run code while loading; if you trust them, add --allow-pickle."
        return (
            " There is no such folder, so it was looked for on the Hugging Face hub: is the name right, and the hub "
            "within reach? A local folder or a GGUF file works offline."
        )
    if "deserializing header" in text:
        return " A safetensors file is damaged or cut short."
    if what == "its tokenizer":
        return " Expected a whole tokenizer.json beside the weights; a finetuned model can take its base model's."
    return ""


def load_config(checkpoint: Checkpoint) -> Any:
    """The checkpoint's config, refused early when it is not a language model's.

    Raises:
        ModelError: it cannot be read, or names an encoder-decoder.
    """
    with _clear_errors(checkpoint, "its config"):
        if checkpoint.kind == "hub":
            _ask_hub(checkpoint)
        config = AutoConfig.from_pretrained(checkpoint.place, **checkpoint.arguments)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{checkpoint.source} is an encoder-decoder ({config.model_type}): semfreeze reads decoder-only models."
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
        ModelError: transformers cannot load it, or it does not hold the weights its config asks for.
    """
    how: dict[str, Any] = {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    if checkpoint.kind == "gguf":
        how |= _dequantised()
    else:  # None takes safetensors when there are any
        how["use_safetensors"] = None if checkpoint.allow_pickle else True
    auto: Any = AutoModelForCausalLM
    with _clear_errors(checkpoint, "the model"):
        model, report = auto.from_pretrained(checkpoint.place, **checkpoint.arguments, **how)
    _check_complete(checkpoint.source, model, report)
    return model


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
    """The checkpoint's own tokenizer.

    Raises:
        ModelError: there is none, or it cannot be built.
    """
    with _clear_errors(checkpoint, "its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.place, **checkpoint.arguments)
    if checkpoint.kind == "gguf":
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
