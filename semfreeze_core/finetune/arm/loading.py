"""Loading a model to train it, with the frozen layers off the device that a prefix cache stands in for."""

import functools

from semfreeze_core.errors import ResourceError
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.processes import launch
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.training import DepthSwitch, FrozenBits, TrainableParts, TrainingSetup
from semfreeze_core.sources.models.causal_lm import LoadedModel, ModelTooLarge, load_causal_lm
from semfreeze_core.sources.models.placement import Placing, place_layers, place_prefix


def load_to_train(
    source: ModelSource,
    parts: TrainableParts | None,
    setup: TrainingSetup,
    switch: DepthSwitch | None = None,
    *,
    bits: FrozenBits | None = None,
    progress: Progress = silent,
) -> LoadedModel:
    """A model ready to be frozen; where the device has no room for all of it, without its frozen prefix.

    Args:
        source: of the model.
        parts: what is trained, at first where it freezes deeper at a step; None for a model that is only evaluated, of
            which all layers may be kept elsewhere.
        setup: how.
        switch: that step, or None.
        bits: of the base, which is rounded on its way from the CPU to the device; None keeps its precision.
        progress: receives what is being done.

    Raises:
        ModelError: it cannot be loaded.
        ResourceError: it does not fit into memory; with the reason where its frozen layers cannot be kept elsewhere.
    """
    reason, depth = "", 0
    placing: Placing | None = place_layers
    if parts is not None:
        reason, depth = whole_model_reason(parts, setup, switch, bits), parts.freeze_depth
        placing = None if reason else functools.partial(place_prefix, depth)
    try:
        return load_causal_lm(
            source.source,
            revision=source.revision,
            dtype=setup.precision,
            device=source.device if bits is None else "cpu",
            trust_remote_code=source.trust_remote_code,
            allow_pickle=source.allow_pickle,
            placing=placing,
            progress=progress,
        )
    except ModelTooLarge as error:
        if parts is None:
            raise
        advice = (
            f"Frozen layers are kept off the device where a prefix cache stands in for them, but {reason}."
            if reason
            else f"The first {depth} layers would be kept off the device if the others had room there, and if the "
            "weights were plain safetensors. A plan that freezes more layers needs less."
        )
        raise ResourceError(f"{error} {advice}") from error


def whole_model_reason(
    parts: TrainableParts, setup: TrainingSetup, switch: DepthSwitch | None = None, bits: FrozenBits | None = None
) -> str:
    """Why a training needs the whole model on its device, as the end of a sentence; "" where it does not.

    Args:
        parts, setup, switch, bits: as `load_to_train` takes them.
    """
    reasons = (
        (launch().count > 1, "several processes train together"),
        (bits is not None, "these are quantized"),
        (switch is not None, "the plan freezes deeper at a step"),
        (parts.freeze_depth == 0, "no layer below the trained ones is frozen"),
        (parts.embeddings, "the embedding is trained"),
        (not setup.prefix_cache, "the training has none (--no-prefix-cache)"),
        (not setup.prefix_off_device, "the plan keeps them there (--keep-prefix)"),
    )
    return next((reason for holds, reason in reasons if holds), "")
