"""A look before the work: how the data would be read, and whether the model would fit. No weights are loaded."""

from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from semfreeze_core.device import choose_device, free_bytes
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.preview import DataPreview, MemoryForecast, RenderedExample, RenderedPiece
from semfreeze_core.sources.data.encode import encode_all
from semfreeze_core.sources.data.examples import read_examples
from semfreeze_core.sources.data.samples import resolve_data
from semfreeze_core.sources.models.causal_lm import first_dtype, measure_empty
from semfreeze_core.sources.models.loading import load_tokenizer
from semfreeze_core.sources.models.memory_forecast import forecast_memory, process_bytes
from semfreeze_core.sources.models.opening import open_checkpoint
from semfreeze_core.workflow import AnalysisRequest, length_limit


@dataclass(frozen=True)
class InspectedModel:
    """What is known of a model without its weights.

    Attributes:
        tokenizer: its own.
        shape: counted from its config.
    """

    tokenizer: Any
    shape: ModelShape


def inspect_model(request: AnalysisRequest, progress: Progress = silent) -> InspectedModel:
    """A request's model without its weights; the embedded one is converted first, once.

    Raises:
        ModelError: there is no such model, it has no tokenizer, or it is of a kind that cannot be read.
    """
    checkpoint = open_checkpoint(
        request.model,
        revision=request.revision,
        trust_remote_code=request.trust_remote_code,
        allow_pickle=request.allow_pickle,
        progress=progress,
    )
    return InspectedModel(load_tokenizer(checkpoint), measure_empty(checkpoint))


def preview_data(
    request: AnalysisRequest, look: InspectedModel, n: int = 3, progress: Progress = silent
) -> DataPreview:
    """How a request's data would be read, with `n` examples, drawn as it draws, written out.

    Args:
        request: what would be analyzed.
        look: at its model.
        n: examples shown.
        progress: told the rows read.

    Raises:
        DataError: the data cannot be read in this way.
    """
    found = read_examples(
        resolve_data(request.data),
        mapping=request.mapping,
        split=request.split,
        n=n,
        seed=request.seed,
        tokenizer=look.tokenizer,
        progress=progress,
    )
    limit = length_limit(look.shape.max_positions, request.max_length)
    encoded = encode_all(look.tokenizer, found.examples, max_length=limit, add_eos=request.add_eos, allow_few=True)
    return DataPreview(
        mapping=asdict(found.mapping),
        n_rows=found.n_rows,
        n_usable=found.n_usable,
        notes=(*found.notes, *(note for note in encoded.notes if not note.startswith("Only "))),
        examples=tuple(_rendered(look.tokenizer, example) for example in encoded.tokenized),
    )


def forecast_analysis(request: AnalysisRequest, shape: ModelShape) -> MemoryForecast:
    """The memory that reading a model of this shape needs, beside what is free now.

    Raises:
        InputError: there is no such device.
    """
    device = choose_device(request.device)
    free = free_bytes(device)
    dtype = first_dtype(request.dtype, shape.total_parameters, device, free - process_bytes(device))
    return forecast_memory(shape, dtype, device, free, request.display_positions)


def _rendered(tokenizer: Any, example: TokenizedExample) -> RenderedExample:
    pieces = []
    pairs = zip(example.supervised.tolist(), example.input_ids.tolist(), strict=True)
    for supervised, group in groupby(pairs, key=lambda pair: pair[0]):
        ids = [token for _, token in group]
        pieces.append(RenderedPiece(tokenizer.decode(ids), supervised, len(ids)))
    return RenderedExample(example.row, example.label, tuple(pieces), example.truncated)
