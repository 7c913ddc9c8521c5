"""Loading a causal language model: memory checked first, dtype chosen on a probe, parts verified, size counted."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from semfreeze_core.device import (
    choose_device,
    dtype_name,
    free_bytes,
    has_own_memory,
    make_current,
    multiplies_bfloat16,
    weight_dtype,
)
from semfreeze_core.errors import ResourceError
from semfreeze_core.processes import gathered, launch, own_share
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.model import ModelIdentity, ModelShape
from semfreeze_core.records.training import DtypeName, Precision
from semfreeze_core.sources.models.checkpoint import Checkpoint
from semfreeze_core.sources.models.decoder import Decoder, find_decoder, find_parts
from semfreeze_core.sources.models.loading import empty_model, load_config, load_model, load_tokenizer, may_be_placed
from semfreeze_core.sources.models.loading_errors import clear_errors
from semfreeze_core.sources.models.memory_forecast import model_bytes
from semfreeze_core.sources.models.model_shape import check_price, identify, measure_shape
from semfreeze_core.sources.models.opening import open_checkpoint
from semfreeze_core.sources.models.placement import Placement, Placing
from semfreeze_core.sources.models.probe import find_layers, hidden_state, probe_ids
from semfreeze_core.sources.models.quantization import describe_quantization, quantization_entry
from semfreeze_core.sources.models.vocabulary import Vocabulary, read_vocabulary, require_rows
from semfreeze_core.wording.runs import placement_sentence, prefix_placement_sentence

# Mean cosine between float32 and bfloat16 latent spaces on the probe. The embedded model reaches 0.9998; a model that
# overflows or loses its small differences in bfloat16 falls far below.
_AGREEMENT = 0.999


class ModelTooLarge(ResourceError):  # noqa: N818 - says what is wrong
    """A model finds no room on its device, with the numbers."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be analyzed or trained.

    Attributes:
        decoder: the model and its verified parts.
        tokenizer: the checkpoint's own.
        shape: counted sizes.
        identity: digests that tell it from another model.
        vocabulary: which head rows are real, and which look untrained.
        notes: what was decided on the way, in words (the dtype, warnings).
        placement: of what is kept off the device; None where it holds the whole model.
    """

    decoder: Decoder
    tokenizer: Any
    shape: ModelShape
    identity: ModelIdentity
    vocabulary: Vocabulary
    notes: tuple[str, ...]
    placement: Placement | None = None


def measure_empty(checkpoint: Checkpoint) -> ModelShape:
    """Count a model from its config alone: no weights are read.

    Raises:
        ModelError: the config is not that of a supported decoder.
    """
    return _measure(checkpoint, load_config(checkpoint))


def require_rows_of(checkpoint: Checkpoint, tokenizer: Any, shape: ModelShape) -> None:
    """Refuse a tokenizer with more tokens than a model has rows, as loading the model would.

    A pickled adapter may bring rows of its own, which only its weights show: loading tells.

    Args:
        checkpoint: of the model.
        tokenizer: as loaded with it.
        shape: from `measure_empty`.

    Raises:
        ModelError: the tokenizer has ids without a row.
    """
    if checkpoint.adapter is None or checkpoint.adapter.has_safetensors:
        require_rows(tokenizer, shape.vocab_rows, shape.vocab_rows)


def _measure(checkpoint: Checkpoint, config: Any) -> ModelShape:
    with clear_errors(checkpoint, "its architecture"):
        with FakeTensorMode():  # runs the probe with shapes alone
            model = empty_model(checkpoint, config)
            parts = find_parts(model)
        shape = measure_shape(model, parts)
        check_price(model, shape, parts.forward_flop)
        return replace(shape, stored_in_bfloat16=_stored_in_bfloat16(checkpoint, config))


def _stored_in_bfloat16(checkpoint: Checkpoint, config: Any) -> bool:
    """Whether a checkpoint's weights are stored in bfloat16, as its config says; merged or unpacked ones are none."""
    plain = checkpoint.kind != "gguf" and checkpoint.adapter is None and quantization_entry(config) is None
    return plain and config.dtype in (torch.bfloat16, "bfloat16")


def load_causal_lm(
    source: str,
    *,
    revision: str | None = None,
    dtype: DtypeName | Precision = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    placing: Placing | None = None,
    progress: Progress = silent,
) -> LoadedModel:
    """Load `source`, find and verify its parts, and count it.

    Args:
        source: "embedded", a local folder, a hub id, or a GGUF file.
        revision: branch, tag or commit of a hub model.
        dtype: "auto" is bfloat16 on CUDA, and on CPUs that compute it natively when it agrees with float32 on a probe;
            a precision of training is the dtype of its weights.
        device: auto, cpu, cuda, cuda:N or mps.
        trust_remote_code: run Python code that comes with the checkpoint.
        allow_pickle: accept weights stored as pickle, which can run code while loading.
        placing: chooses what is kept in the machine's memory and on disk where the device has no room for the whole
            model; that runs forward and cannot be trained. None keeps all on the device.
        progress: receives what is being done.

    Raises:
        ModelError: it cannot be loaded or its parts cannot be verified.
        ModelTooLarge: it cannot fit into memory.
    """
    target = choose_device(device)
    make_current(target)
    checkpoint = open_checkpoint(
        source, revision=revision, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle, progress=progress
    )
    config = load_config(checkpoint)
    empty = _measure(checkpoint, config)  # refused before its weights are fetched, if it must be
    parameters = empty.total_parameters
    progress(ProgressEvent("Loading the model"))
    tokenizer = load_tokenizer(checkpoint)
    require_rows_of(checkpoint, tokenizer, empty)
    notes: list[str] = []
    free = _own_free_bytes(target)
    first = first_dtype(dtype, parameters, target, free)
    placement = None if placing is None else place_model(checkpoint, config, first, target, free, placing)
    if placement is not None:
        model = load_model(checkpoint, first, target, placement)
        where = placement_sentence(placement.layers, str(target))
        if placement.prefix is not None:
            where = prefix_placement_sentence(placement.prefix, str(target))
        notes.append(f"Computed in {dtype_name(first)}. {where}")
    elif dtype == "auto":
        model, note = _load_auto(checkpoint, parameters, target, free)
        notes.append(note)
    else:
        chosen = weight_dtype(dtype)
        _require_memory(source, parameters, chosen, target, free)
        model = load_model(checkpoint, chosen, target)
    if checkpoint.adapter is not None:
        notes.append(f"{checkpoint.adapter.description} merged into {checkpoint.adapter.base}.")
        if unused := checkpoint.adapter.unused_weights:
            notes.append(f"Its folder also holds {unused}, which was not read: the adapter's base was.")
    packed = quantization_entry(config)
    if packed is not None:
        notes.append(f"Its quantized weights ({describe_quantization(packed)}) were unpacked.")
    if placement is None:
        model.to(target)  # where it was compared on the CPU first, or brought buffers of its own
    progress(ProgressEvent("Verifying the model's parts"))
    decoder = find_decoder(model)
    vocabulary = read_vocabulary(tokenizer, decoder)
    if vocabulary.padded_rows:
        notes.append(f"{vocabulary.padded_rows} padded rows of the head have no token and are left out.")
    identity = identify(model, source=source, revision=_resolved_revision(checkpoint, config, revision))
    shape = replace(measure_shape(model, decoder), stored_in_bfloat16=empty.stored_in_bfloat16)
    return LoadedModel(decoder, tokenizer, shape, identity, vocabulary, tuple(notes), placement)


def _resolved_revision(checkpoint: Checkpoint, config: Any, revision: str | None) -> str | None:
    """The commit of what was opened on the hub, so that a plan opens the same again; None for what is here."""
    if checkpoint.adapter is not None and checkpoint.adapter.repository is not None:
        return checkpoint.adapter.folder.name  # the hub's cache names its snapshots after commits
    return (getattr(config, "_commit_hash", None) or revision) if checkpoint.kind == "hub" else None


def place_model(
    checkpoint: Checkpoint, config: Any, dtype: torch.dtype, device: torch.device, free: int, placing: Placing
) -> Placement | None:
    """Where the layers of a model go that does not fit on a device; None where it fits, or cannot be placed.

    Args:
        checkpoint: of the model.
        config: loaded from it.
        dtype: that it is loaded in.
        device: that computes.
        free: bytes free there.
        placing: chooses.
    """
    with torch.device("meta"):
        model = empty_model(checkpoint, config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if model_bytes(parameters, dtype) <= free or not may_be_placed(checkpoint, config):
        return None
    return placing(model, dtype, device, free, _own_free_bytes(torch.device("cpu")))


def _own_free_bytes(device: torch.device) -> int:
    """Bytes free on a device; of several processes those that each can have, which all count with."""
    free = free_bytes(device)
    if own_share().of > 1 and not has_own_memory(device):
        free //= launch().local_count
    return min(gathered(free))


def first_dtype(dtype: DtypeName | Precision, parameters: int, device: torch.device, free: int) -> torch.dtype:
    """The dtype a model is loaded in first, which is when it takes the most memory.

    "auto" on a CPU that computes bfloat16 compares both, and begins with float32 where that has room.
    """
    if dtype != "auto":
        return weight_dtype(dtype)
    if multiplies_bfloat16(device):
        return torch.bfloat16
    if not (device.type == "cpu" and _native_bfloat16()):
        return torch.float32
    return torch.float32 if model_bytes(parameters, torch.float32) <= free else torch.bfloat16


def _require_memory(source: str, parameters: int, dtype: torch.dtype, device: torch.device, free: int) -> None:
    """Refuse a model that cannot fit on the device."""
    needed = model_bytes(parameters, dtype)
    if needed > free:
        other = "" if dtype == torch.bfloat16 else " bfloat16 needs half."
        raise ModelTooLarge(
            f"{source}: {parameters / 1e9:.2f} billion parameters in {dtype_name(dtype)} need about "
            f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free on {device}.{other}"
        )


def _load_auto(checkpoint: Checkpoint, parameters: int, device: torch.device, free: int) -> tuple[Any, str]:
    chosen = first_dtype("auto", parameters, device, free)
    native = device.type == "cpu" and _native_bfloat16()
    if not native or chosen == torch.bfloat16:
        _require_memory(checkpoint.source, parameters, chosen, device, free)
        model = load_model(checkpoint, chosen, device)
        if device.type == "cuda":
            reason = "the default on CUDA" if chosen == torch.bfloat16 else "this GPU has no native bfloat16"
            return model, f"Computed in {dtype_name(chosen)} ({reason})."
        if not native:
            return model, "Computed in float32 (this processor has no native bfloat16)."
        return model, "Computed in bfloat16, unchecked: there is no room for the float32 copy to compare it with."
    precise = _probe_spaces(load_model(checkpoint, torch.float32))
    # Loaded anew, not cast: casting would also round what belongs in float32, such as the rotary frequencies.
    model = load_model(checkpoint, torch.bfloat16)
    agreement = float(torch.cosine_similarity(precise, _probe_spaces(model), dim=-1).mean())
    if agreement >= _AGREEMENT:
        return model, f"Computed in bfloat16: mean cosine with float32 is {agreement:.4f} on a probe."
    note = f"Computed in float32: bfloat16 agrees too little on a probe (mean cosine {agreement:.4f} < {_AGREEMENT})."
    return load_model(checkpoint, torch.float32), note


def _native_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware (AVX-512 BF16, AMX, or ARM's own)."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch cannot say: then no
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))


@torch.no_grad()
def _probe_spaces(model: Any) -> torch.Tensor:
    """The outputs of every layer on the probe, float32 (L, 2, T, d)."""
    layers, _ = find_layers(model)
    outputs: list[torch.Tensor] = []
    handles = [layer.register_forward_hook(lambda _, __, out: outputs.append(hidden_state(out))) for layer in layers]
    try:
        model(input_ids=probe_ids(model), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(outputs).float()
