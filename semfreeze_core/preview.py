"""What an analysis or a training would do: how data is read, and whether the model fits. No model is loaded."""

from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import torch

from semfreeze_core.cost.memory import loading_bytes
from semfreeze_core.device import choose_device, free_bytes, weight_dtype
from semfreeze_core.errors import PlanError
from semfreeze_core.finetune.arm.loading import whole_model_reason
from semfreeze_core.finetune.quantize.quantize import trained_bits
from semfreeze_core.plan.document import FreezePlan, require_recommendation
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.preview import (
    DataPreview,
    MemoryForecast,
    ReadingForecast,
    RenderedExample,
    RenderedPiece,
    TrainingForecast,
)
from semfreeze_core.semantics.extraction import default_batch_tokens
from semfreeze_core.sources.data.encode import encode_all
from semfreeze_core.sources.data.examples import chat_renderer as renderer_of
from semfreeze_core.sources.data.examples import read_examples
from semfreeze_core.sources.data.fields import RenderChat
from semfreeze_core.sources.data.samples import resolve_data
from semfreeze_core.sources.models.by_layer import between_layers_bytes, room_for_states
from semfreeze_core.sources.models.causal_lm import first_dtype, measure_empty, place_model, require_rows_of
from semfreeze_core.sources.models.checkpoint import Checkpoint
from semfreeze_core.sources.models.loading import check_weightless, load_config, load_tokenizer, local_tokenizer
from semfreeze_core.sources.models.memory_forecast import forecast_memory, process_bytes
from semfreeze_core.sources.models.opening import open_checkpoint
from semfreeze_core.sources.models.placement import place_layers, place_prefix
from semfreeze_core.workflow.request import AnalysisRequest
from semfreeze_core.workflow.task import length_limit


@dataclass(frozen=True)
class InspectedModel:
    """A model without its weights.

    Attributes:
        checkpoint: where it is from.
        tokenizer: the model's.
        shape: counted from its config.
    """

    checkpoint: Checkpoint
    tokenizer: Any
    shape: ModelShape


def inspect_model(request: AnalysisRequest, progress: Progress = silent) -> InspectedModel:
    """A request's model without its weights; the bundled one is converted first, once.

    Raises:
        ModelError: there is no such model, its files are not whole, it has no tokenizer, or it is of an unsupported
            kind.
    """
    checkpoint = open_checkpoint(
        request.model,
        revision=request.revision,
        trust_remote_code=request.trust_remote_code,
        allow_pickle=request.allow_pickle,
        progress=progress,
    )
    check_weightless(checkpoint)
    tokenizer, shape = load_tokenizer(checkpoint), measure_empty(checkpoint)
    require_rows_of(checkpoint, tokenizer, shape)
    return InspectedModel(checkpoint, tokenizer, shape)


def preview_data(
    request: AnalysisRequest, model: InspectedModel, n: int = 3, progress: Progress = silent
) -> DataPreview:
    """How a request's data would be read, with `n` rendered examples, drawn as the analysis draws.

    Args:
        request: what would be analyzed.
        model: from `inspect_model`.
        n: examples shown.
        progress: receives the number of rows read.

    Raises:
        DataError: the data cannot be read in this way.
    """
    examples = read_examples(
        resolve_data(request.data),
        mapping=request.mapping,
        split=request.split,
        n=n,
        seed=request.seed,
        tokenizer=model.tokenizer,
        progress=progress,
    )
    limit = length_limit(model.shape.max_positions, request.max_length)
    encoded = encode_all(
        model.tokenizer,
        examples.examples,
        max_length=limit,
        add_eos=request.add_eos,
        allow_few=True,
        counts=examples.counts,
    )
    return DataPreview(
        mapping=asdict(examples.mapping),
        n_rows=examples.n_rows,
        n_usable=examples.n_usable,
        notes=(*examples.notes, *(note for note in encoded.notes if not note.startswith("Only "))),
        examples=tuple(_rendered(model.tokenizer, example) for example in encoded.tokenized),
        n_skipped=examples.n_skipped,
        skipped=examples.skipped,
    )


def chat_renderer(model: str, revision: str | None = None) -> RenderChat | None:
    """What turns the messages of a chat into segments by a model's template; None where its tokenizer is not here.

    Args:
        model: a folder, or a repository whose files may be in the hub's cache; nothing is downloaded.
        revision: branch, tag or commit of a repository.

    Raises:
        DataError: the model has no chat template.
    """
    tokenizer = local_tokenizer(model, revision)
    return None if tokenizer is None else renderer_of(tokenizer)


def forecast_analysis(
    request: AnalysisRequest, model: InspectedModel, data: DataPreview | None = None
) -> MemoryForecast:
    """The memory that analyzing a model needs, what is free now, and where layers go that find no room.

    Args:
        request: what would be analyzed.
        model: from `inspect_model`.
        data: from `preview_data`, whose examples tell how they pass through such layers; None where that is not asked.

    Raises:
        InputError: there is no such device.
    """
    device, shape = choose_device(request.device), model.shape
    free = free_bytes(device)
    dtype = first_dtype(request.dtype, shape.total_parameters, device, free - process_bytes(device))
    whole = forecast_memory(shape, dtype, device, free, request.display_positions)
    if whole.fits:
        return whole
    room = free - whole.process_bytes - whole.states_bytes
    placement = place_model(model.checkpoint, load_config(model.checkpoint), dtype, device, room, place_layers)
    if placement is None:
        return whole
    reading = None if data is None else _forecast_reading(request, data, shape, dtype, device)
    return replace(whole, placement=placement.layers, reading=reading)


def forecast_training(request: AnalysisRequest, model: InspectedModel, plan: FreezePlan) -> TrainingForecast:
    """The memory that training a plan takes, what is free now, and where its frozen layers go that find no room.

    Args:
        request: of an analysis of the model, for the device.
        model: from `inspect_model`.
        plan: trained as it was estimated.

    Raises:
        PlanError: it makes no recommendation, or has another number of layers than the model.
        InputError: there is no such device.
    """
    parts = require_recommendation(plan)
    if model.shape.n_layers != plan.n_layers:
        raise PlanError(f"The plan is for {plan.n_layers} layers, {request.model} has {model.shape.n_layers}.")
    assert plan.cost.planned is not None, "it makes a recommendation"
    device, setup = choose_device(request.device), plan.cost.setup
    free = free_bytes(device)
    reason, placement = whole_model_reason(parts, setup, plan.switch, trained_bits(plan)), None
    if not reason:
        placing = partial(place_prefix, parts.freeze_depth)
        config, dtype = load_config(model.checkpoint), weight_dtype(setup.precision)
        placement = place_model(model.checkpoint, config, dtype, device, free, placing)
    return TrainingForecast(
        parts.freeze_depth,
        setup.precision,
        str(device),
        loading_bytes(model.shape, replace(setup, prefix_cache=False), parts),
        plan.cost.planned.bytes.total,
        free,
        None if placement is None else placement.prefix,
        reason,
    )


def _forecast_reading(
    request: AnalysisRequest, data: DataPreview, shape: ModelShape, dtype: torch.dtype, device: torch.device
) -> ReadingForecast:
    """How the examples pass through layers off the device, if each is as long as the mean of those shown."""
    lengths = [sum(piece.n_tokens for piece in example.pieces) for example in data.examples]
    n_examples = min(request.examples or data.n_usable, data.n_usable)
    tokens = round(n_examples * sum(lengths) / len(lengths))
    n_batches = max(1, -(-tokens // (request.batch_tokens or default_batch_tokens(device))))
    n_bytes = between_layers_bytes(tokens, shape.d_model, dtype)
    return ReadingForecast(n_batches, room_for_states(n_bytes) if n_batches > 1 else None, n_bytes)


def _rendered(tokenizer: Any, example: TokenizedExample) -> RenderedExample:
    pieces = []
    pairs = zip(example.supervised.tolist(), example.input_ids.tolist(), strict=True)
    for supervised, group in groupby(pairs, key=lambda pair: pair[0]):
        ids = [token for _, token in group]
        pieces.append(RenderedPiece(tokenizer.decode(ids), supervised, len(ids)))
    return RenderedExample(example.row, example.label, tuple(pieces), example.truncated)
