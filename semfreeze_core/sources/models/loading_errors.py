"""Making the library's many exceptions clear: one message each, with what to do, and nothing else on the terminal."""

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from typing import Any

import transformers
from transformers.utils import logging as transformers_logging

from semfreeze_core.device import is_out_of_memory
from semfreeze_core.errors import ModelError, ResourceError, SemfreezeError
from semfreeze_core.sources.models.checkpoint import Checkpoint

_VERSION = transformers.__version__
# Of transformers, where tensors that it joins to one, as those of experts, do not fit together.
CONVERSION = "automatic conversion of the weights"
# What code raises that did not look at its input: its words alone explain nothing.
_BY_CHANCE = (LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, NameError, NotImplementedError)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' and accelerate's own log lines, warnings and progress bars off the terminal."""
    control: Any = transformers_logging
    before, bars = control.get_verbosity(), control.is_progress_bar_enabled()
    accelerate = logging.getLogger("accelerate")
    accelerate_before = accelerate.level
    control.set_verbosity(logging.ERROR)
    accelerate.setLevel(logging.ERROR)
    control.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        control.set_verbosity(before)
        accelerate.setLevel(accelerate_before)
        if bars:
            control.enable_progress_bar()


@contextmanager
def clear_errors(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """Turn the library's many exceptions into one message, and keep it quiet.

    Raises:
        ResourceError: memory ran out.
        ModelError: it failed in any other way.
    """
    # The bar over a GGUF file's tensors can be switched off in no other way.
    hidden_bar = redirect_stderr(io.StringIO()) if checkpoint.kind == "gguf" else nullcontext()
    try:
        with quiet_transformers(), hidden_bar:
            yield
    except SemfreezeError:
        raise  # clear already
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of libraries in Rust
            raise
        if is_out_of_memory(error):
            raise ResourceError(
                f"{checkpoint.source}: memory ran out while {what} was loaded. Close other programs, or use a smaller "
                "dtype, a smaller model or a machine with more memory."
            ) from error
        # transformers and the libraries below it report unusable checkpoints with nearly any exception.
        text, hint = _reason(error, _files(checkpoint, what)), _hint(checkpoint, what, error)
        raise ModelError(f"{checkpoint.source}: {what} could not be loaded: {text}.{hint}") from error


def _files(checkpoint: Checkpoint, what: str) -> str:
    """The files in which the reason lies."""
    if checkpoint.kind == "gguf":
        return "the file"
    if what == "its tokenizer":
        return "tokenizer.json or tokenizer_config.json"
    return "adapter_config.json or its weights" if what == "its adapter" else "config.json"


def _reason(error: BaseException, files: str) -> str:
    """The exception's own words, without what helps nobody here, cut to whole sentences."""
    text = " ".join(str(error).split("Exception raised from")[0].split())  # torch goes on with its own calls
    if CONVERSION in text:  # which ones, only transformers' log says
        return "some of its weights are missing, or have other shapes than the config says"
    if "weights_only" in text:
        return "the pickle is damaged, or holds other things than tensors"
    if "does not recognize this architecture" in text:
        named = re.search(r"model type `(.*?)`", text)
        return f"its model_type {named[1] if named else ''!r} is no architecture that transformers {_VERSION} knows"
    if "contains custom code" in text:
        return "it needs its own code"
    if "instantiate the backend tokenizer" in text:
        return "no file there holds a tokenizer that can be used"
    if "connect to 'https://huggingface.co'" in text:
        return "the Hugging Face hub cannot be reached, and nothing was downloaded before"
    if "Should have a `model_type` key" in text:
        return "it names no architecture (model_type)"
    if "Unrecognized configuration class" in text:
        made = re.search(r"\.(\w+)'>", text)
        return f"transformers makes no causal language model of a {made[1] if made else 'config like this'}"
    if len(text) > 400:
        text = f"{text[:400].rsplit('. ', 1)[0]} [...]"
    name = type(error).__name__
    if isinstance(error, RecursionError):
        return f"{files} is nested too deeply"
    if isinstance(error, _BY_CHANCE) or not text:
        detail = f"{name}: {text}" if text else name
        return f"{files} holds a value that cannot be used ({detail.rstrip('.')})"
    return text.rstrip(".")


def _hint(checkpoint: Checkpoint, what: str, error: BaseException) -> str:
    text = str(error)
    if "does not recognize this architecture" in text:
        return " Is the name right? A new model may need a newer transformers."
    if "Unrecognized configuration class" in text:
        return " semfreeze supports decoder-only language models."
    if "trust_remote_code" in text and not checkpoint.trust_remote_code:
        return " This checkpoint brings its own code; if you trust it, add --trust-remote-code, which runs it."
    if checkpoint.kind == "gguf":
        return " Is the file whole, and does transformers read its architecture?"
    if checkpoint.kind == "hub":
        if "use_safetensors" in text:
            return " Its weights are pickle, which can run code while loading; if you trust them, add --allow-pickle."
        if checkpoint.adapter is not None and what != "its adapter":
            base = f" Its base {checkpoint.location} is no folder here, so it was looked for on the Hugging Face hub."
            return f"{base} {checkpoint.adapter.advice}"
        return (
            " There is no such folder, so it was looked for on the Hugging Face hub: is the name right, and the hub "
            "within reach? A local folder or a GGUF file works offline."
        )
    if "deserializing header" in text:
        return " A safetensors file is damaged or cut short."
    if what == "its tokenizer":
        return " Expected a whole tokenizer.json beside the weights; a finetuned model can take its base model's."
    if what in ("its config", "its architecture"):
        return f" Check {checkpoint.location}/config.json."
    return ""
