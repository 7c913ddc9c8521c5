"""Reading examples layer by layer where layers are kept off the device."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from semfreeze_core.semantics.positions import Batch
from semfreeze_core.sources.models.by_layer import (
    StateReader,
    StatesIn,
    between_layers_bytes,
    pass_by_layer,
    room_for_states,
)
from semfreeze_core.sources.models.decoder import Decoder

# Called once a latent space, in order 0..L, with the raw states (n, d) of the batch's positions.
SpaceReader = Callable[[int, Tensor], None]


def reads_by_layer(decoder: Decoder, batches: Sequence[Batch]) -> StatesIn | None:
    """Where states are kept while batches are read layer by layer; None where that is not cheaper, or has no room.

    It is cheaper where layers are kept off the device, and more than one batch would bring them in.
    """
    if len(batches) < 2 or not decoder.probe_spaces:
        return None
    width = decoder.probe_spaces[0].shape[-1]
    return room_for_states(between_layers_bytes(sum(batch.input_ids.size for batch in batches), width, decoder.dtype))


@torch.inference_mode()
def read_by_layer(
    decoder: Decoder,
    batches: Sequence[tuple[Batch, SpaceReader]],
    states_in: StatesIn,
    advance: Callable[[int], None],
) -> None:
    """Hand the states of all batches' positions to their readers, as passes from the embedding do.

    Args:
        decoder: a model of which the first layers are kept off the device.
        batches: each with its reader.
        states_in: where states between layers are kept.
        advance: receives the number of layers done.

    Raises:
        StatesDiffer: the layers hand on more than a state.
        OSError: the file cannot be written.
    """
    readers = [(batch.input_ids, _at_positions(decoder, batch, read)) for batch, read in batches]
    pass_by_layer(decoder, readers, len(decoder.layers), states_in, advance=advance)


def _at_positions(decoder: Decoder, batch: Batch, read: SpaceReader) -> StateReader:
    rows, columns = (torch.from_numpy(index).to(decoder.device) for index in (batch.rows, batch.columns))
    return lambda space, state: read(space, state[rows, columns])
