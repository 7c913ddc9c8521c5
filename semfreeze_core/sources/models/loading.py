"""Loading a checkpoint's config, model and tokenizer: transformers' own loaders with their errors made clear."""

import json
import re
import weakref
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import file_exists, try_to_load_from_cache
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from semfreeze_core.errors import ModelError, SemfreezeError
from semfreeze_core.sources.models.adapters import attach_adapter, merge_adapter, resize_vocabulary
from semfreeze_core.sources.models.checkpoint import Checkpoint
from semfreeze_core.sources.models.families import multi_token_layers
from semfreeze_core.sources.models.files import (
    check_sizes,
    check_tokenizer_config,
    check_weights,
    tensor_shapes,
)
from semfreeze_core.sources.models.finite_weights import check_values
from semfreeze_core.sources.models.hub import model_file
from semfreeze_core.sources.models.loading_errors import CONVERSION, clear_errors, quiet_transformers
from semfreeze_core.sources.models.placement import Placement
from semfreeze_core.sources.models.probe import find_layers
from semfreeze_core.sources.models.quantization import describe_quantization, quantization_entry, unpacking
from semfreeze_core.sources.models.weightless import fix_rotary_frequencies
from semfreeze_core.temporary import scratch_parent, temporary_folder

CPU = torch.device("cpu")
_SENSES = ("vision", "audio", "image", "vq")  # what the parts of multimodal models are named after


def load_config(checkpoint: Checkpoint) -> Any:
    """The checkpoint's config, refused early when it is not a language model's.

    Which code computes attention and experts is not the config's to say here, and is taken out of it.

    Raises:
        ModelError: it cannot be read, holds impossible sizes, or names an encoder-decoder, a multimodal model or,
            unless it alone is wanted, packed weights that cannot be unpacked.
    """
    with clear_errors(checkpoint, "its config"):
        if checkpoint.kind == "hub":
            _ask_hub(checkpoint)
        if checkpoint.kind != "gguf":  # transformers makes lists as long as there are layers
            entries, _ = PreTrainedConfig.get_config_dict(checkpoint.folder_or_id, **checkpoint.arguments)
            check_sizes(entries, f"{checkpoint.folder_or_id}/config.json")
        config = AutoConfig.from_pretrained(checkpoint.folder_or_id, **checkpoint.arguments)
        if checkpoint.kind == "gguf":
            check_sizes(config.to_dict(), checkpoint.location)
        config._attn_implementation = config._experts_implementation = None
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{checkpoint.model_name} is an encoder-decoder ({config.model_type}): semfreeze supports decoder-only "
            "models."
        )
    parts = [name.removesuffix("_config") for name in config.sub_configs if name != "text_config"]
    # Some keep the text's settings beside the other parts' configs instead of in one of their own.
    if config.get_text_config(decoder=True) is not config or any(part.startswith(_SENSES) for part in parts):
        raise ModelError(
            f"{checkpoint.model_name} is a multimodal model ({config.model_type}: text and "
            f"{', '.join(parts) or 'more'}): semfreeze supports decoders of text alone. Save its language model as a "
            "checkpoint of its own, or use the text-only model of its family."
        )
    packed = None if checkpoint.kind == "gguf" or checkpoint.config_only else quantization_entry(config)
    if packed is not None and unpacking(packed) is None:
        raise ModelError(
            f"{checkpoint.model_name} holds quantized weights ({describe_quantization(packed)}), which semfreeze "
            "cannot unpack. Give the unquantized checkpoint it was made from."
            + (f" {checkpoint.adapter.advice}" if checkpoint.adapter else "")
        )
    return config


def _ask_hub(checkpoint: Checkpoint) -> None:
    """Fail at once when the hub is out of reach: transformers would ask again and again for half a minute."""
    location, revision = checkpoint.location, checkpoint.revision
    try:
        if not isinstance(try_to_load_from_cache(location, "config.json", revision=revision), str):
            file_exists(location, "config.json", revision=revision)
    except Exception as error:
        if type(error).__module__.startswith("httpx"):  # the connection; all else transformers explains better
            raise


def empty_model(checkpoint: Checkpoint, config: Any, *, attention: str | None = "eager") -> Any:
    """The model's modules without any weights, for counting; made under a FakeTensorMode it can also be run.

    By default attention and experts compute in the open, where torch counts their FLOPs, and look at no data.

    Args:
        checkpoint: where the config is from.
        config: loaded from it.
        attention: transformers' name of its implementation; None is the family's own.
    """
    options = {"attn_implementation": attention, "experts_implementation": "batched_mm"}
    auto: Any = AutoModelForCausalLM
    with clear_errors(checkpoint, "its architecture"):
        model = auto.from_config(config, trust_remote_code=checkpoint.trust_remote_code, **options)
        if checkpoint.adapter is not None:
            resize_vocabulary(model, checkpoint.adapter)
    fix_rotary_frequencies(model)
    return model


def load_model(
    checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device = CPU, placement: Placement | None = None
) -> Any:
    """The model with its weights, on a device.

    Plain safetensors are read to the device one by one, so that the machine's memory need not hold the whole model;
    what has to be unpacked or merged first is so on the CPU.

    Args:
        checkpoint: what to load.
        dtype: of the weights.
        device: that computes.
        placement: which layers are kept elsewhere; of a checkpoint that `may_be_placed`.

    Raises:
        ModelError: transformers cannot load it, or it does not hold the weights its config asks for.
    """
    options: dict[str, Any] = {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    packed = None
    if checkpoint.kind == "gguf":
        options |= _dequantized()
    else:  # None takes safetensors when there are any
        options["use_safetensors"] = None if checkpoint.allow_pickle else True
        options["config"] = load_config(checkpoint)
        packed = quantization_entry(options["config"])
    if checkpoint.kind == "folder":
        check_weights(Path(checkpoint.location))
    if packed is not None:
        options["quantization_config"] = unpacking(packed)
    elif placement is not None:
        options["device_map"] = placement.device_map
    elif checkpoint.kind != "gguf" and checkpoint.adapter is None and device.type != "cpu":
        options["device_map"] = {"": device}
    auto: Any = AutoModelForCausalLM
    with ExitStack() as held, clear_errors(checkpoint, "the model"):
        if placement is not None:  # for weights that transformers puts together anew, as those of stacked experts
            options["offload_folder"] = held.enter_context(temporary_folder(scratch_parent()))
        model, report = auto.from_pretrained(checkpoint.folder_or_id, **checkpoint.arguments, **options)
        weakref.finalize(model, held.pop_all().close)
    if packed is not None:
        # Unpacked to bfloat16 whatever was asked; buffers such as rotary frequencies stay as they are.
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
    _check_complete(checkpoint.model_name, model, report)
    if checkpoint.adapter is not None:
        with clear_errors(checkpoint, "its adapter"):
            model = merge_adapter(model, checkpoint.adapter)
    if placement is None:
        with clear_errors(checkpoint, "the model"):
            model.to(device)
        model.__dict__.pop("hf_device_map", None)  # it is all on one device: nobody has to look after that
    return model


def may_be_placed(checkpoint: Checkpoint, config: Any) -> bool:
    """Whether layers may be kept off the device: those of plain safetensors may, which are read where they are."""
    if checkpoint.kind == "gguf" or checkpoint.adapter is not None or quantization_entry(config) is not None:
        return False
    return checkpoint.kind == "hub" or tensor_shapes(Path(checkpoint.location)) is not None


def check_weightless(checkpoint: Checkpoint) -> None:
    """Refuse, without loading the model, what loading it would refuse: files, names and shapes that are not its own.

    Safetensors of at most 2 GiB are read for NaN and infinity. Whether larger ones, GGUF files and quantized weights
    are finite, and whether a merged adapter answers as it did beside its base, only loading shows.

    Raises:
        ModelError: its files are not whole, they hold another model than its config describes or values that are not
            finite, or its adapter is of a kind that cannot be merged or is another model's.
    """
    folder = Path(checkpoint.location) if checkpoint.kind == "folder" else None
    if folder is not None:
        check_weights(folder)
    elif checkpoint.adapter is None:
        return
    config = load_config(checkpoint)
    with torch.device("meta"):
        model = empty_model(checkpoint, config)
    try:
        with quiet_transformers():
            shapes = None if folder is None or quantization_entry(config) is not None else tensor_shapes(folder)
            if folder is not None and shapes is not None:  # an adapter's vocabulary is in the config by now
                loaded = _load_shapes(type(model), load_config(checkpoint), shapes)
                _check_complete(checkpoint.model_name, *loaded)
                check_values(folder, {*loaded[1]["unexpected_keys"], *_rows_by_token(loaded[0], shapes)})
            if checkpoint.adapter is not None:
                attach_adapter(model, checkpoint.adapter)
    except SemfreezeError:
        raise
    except Exception as error:  # what a library cannot do without weights is no fault of the model
        if CONVERSION in str(error):
            with clear_errors(checkpoint, "the model"):
                raise


def _rows_by_token(model: Any, names: Iterable[str]) -> list[str]:
    """The checkpoint's input embedding, unless it is the head too: a row of it counts only where its token stands."""
    if model.config.tie_word_embeddings:
        return []
    rows = model.get_input_embeddings().weight
    ends = [name for name, weight in model.named_parameters() if weight is rows]
    return [name for name in names for end in ends if end.endswith(name) or name.endswith(end)]


def _load_shapes(kind: Any, config: Any, shapes: dict[str, list[int]]) -> tuple[Any, dict[str, Any]]:
    """A model loaded as transformers loads it, of tensors that have shapes alone; and its report."""
    meta = torch.device("meta")
    tensors = {name: torch.empty(shape, device=meta) for name, shape in shapes.items()}
    options = {"device_map": {"": meta}, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, report = kind.from_pretrained(None, config=config, state_dict=tensors, **options)
    return model, report


def _check_complete(name: str, model: Any, report: dict[str, Any]) -> None:
    """Refuse a checkpoint that does not hold just the model its config describes."""
    missing, mismatched = sorted(report["missing_keys"]), sorted(report["mismatched_keys"])
    if missing:
        count = "1 weight is" if len(missing) == 1 else f"{len(missing)} weights are"
        kind, named = type(model).__name__, getattr(model.config, "architectures", None) or []
        raise ModelError(
            f"{name}: {count} not in the checkpoint and would be random ({', '.join(missing[:3])}"
            + (", ...)" if len(missing) > 3 else ")")
            + f". Is it a {kind} checkpoint?"
            + (f" Its config.json names {named[0]}." if named and named[0] != kind else "")
        )
    if mismatched:
        weight, actual, expected = mismatched[0]
        count = "1 weight has another shape" if len(mismatched) == 1 else f"{len(mismatched)} weights have other shapes"
        raise ModelError(
            f"{name}: {count} than the config says: {weight} is {tuple(actual)}, expected {tuple(expected)}. Does this "
            "config.json belong to these weights?"
        )
    layers, prefix = find_layers(model)
    numbers = [re.match(rf"{re.escape(prefix)}(\d+)\.", key) for key in report["unexpected_keys"]]
    last = max((int(number[1]) for number in numbers if number), default=0)
    if last >= len(layers) + multi_token_layers(model.config):
        raise ModelError(
            f"{name}: the checkpoint holds layers up to number {last}, but its config says {len(layers)} layers. "
            "Does this config.json belong to these weights?"
        )


def _dequantized() -> dict[str, Any]:
    """What makes transformers unpack a GGUF file's weights; older versions always do and know no such option."""
    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The checkpoint's own tokenizer; an adapter's, where it brings one.

    Raises:
        ModelError: there is none, or it cannot be built.
    """
    adapter = checkpoint.adapter if checkpoint.adapter is not None and checkpoint.adapter.has_tokenizer else None
    location, options = checkpoint.folder_or_id, checkpoint.arguments
    if adapter is not None:  # without leave or a refusal, transformers asks on the terminal whether to run its code
        location, options = str(adapter.folder), {"trust_remote_code": checkpoint.trust_remote_code}
    with clear_errors(checkpoint, "its tokenizer"):
        if checkpoint.kind == "hub" if adapter is None else adapter.repository is not None:
            check_tokenizer_config(get_tokenizer_config(location, revision=options.get("revision")), checkpoint.source)
        tokenizer = AutoTokenizer.from_pretrained(location, **options)
        _try_out(tokenizer)
    if checkpoint.kind == "gguf" and adapter is None:
        _drop_invented_tokens(tokenizer, load_config(checkpoint).vocab_size)
    return tokenizer


def local_tokenizer(model: str, revision: str | None = None) -> Any | None:
    """The tokenizer of a model whose files are on this machine, or None; nothing is downloaded.

    Args:
        model: a folder, or a repository whose files may be in the hub's cache.
        revision: branch, tag or commit of a repository.
    """
    config = model_file(model, "tokenizer_config.json", revision)
    if config is None:
        return None
    try:
        return load_tokenizer(Checkpoint(model, "folder", str(config.parent)))
    except ModelError:  # a part of it is not here, or it has code of its own
        return None


def _try_out(tokenizer: Any) -> None:
    """Do once what is done later, so that settings of a wrong type are met while the tokenizer is loaded."""
    ids = tokenizer(["a", "b c"], add_special_tokens=False, padding=False, truncation=False).input_ids
    tokenizer.decode(tokenizer("a").input_ids + ids[0], skip_special_tokens=True)
    special = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, *tokenizer.all_special_ids]
    if not tokenizer.get_vocab() or not all(i is None or isinstance(i, int) for i in special):
        raise ValueError("expected a vocabulary, and special tokens that are in it")
    template = tokenizer.chat_template
    texts = template.values() if isinstance(template, dict) else [template or ""]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("expected chat_template to be a text, or texts by name")


def _drop_invented_tokens(tokenizer: Any, n_tokens: int) -> None:
    """Take out what transformers adds to byte-level GGUF tokenizers: an <|endoftext|> that Llama 3 has no row for."""
    if len(tokenizer) > n_tokens:
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        backend["added_tokens"] = [token for token in backend["added_tokens"] if token["id"] < n_tokens]
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(backend))


def load_gguf(path: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, its weights dequantized (else they could be neither trained nor saved)."""
    checkpoint = Checkpoint(str(path), "gguf", str(path))
    return load_model(checkpoint, dtype), load_tokenizer(checkpoint)
