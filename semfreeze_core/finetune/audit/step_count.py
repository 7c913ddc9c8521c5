"""One real training step, counted: FLOPs by torch's counter, and the bytes autograd saves for the backward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from semfreeze_core.finetune.audit.model_state import state_preserved
from semfreeze_core.sources.models.saved_tensors import saving_observed


@dataclass(frozen=True)
class CountedStep:
    """What one forward and backward pass took.

    Attributes:
        flop: as torch.utils.flop_counter counts them: matrix products alone, and none of a CPU's fused attention.
        saved_bytes: live storages that autograd saved between the two passes, without parameters.
    """

    flop: int
    saved_bytes: int


def count_step(network: nn.Module, model: Any, batch: dict[str, Any]) -> CountedStep:
    """Count a step and restore the model: FLOPs with eager attention; saved bytes, without inputs, with its own.

    Args:
        network: called with the batch, gives {"loss"}.
        model: the transformers model inside it, whose attention is eager while FLOPs are counted.
        batch: tensors on the model's device.
    """
    with state_preserved(network, ()):
        with saving_observed() as saved:
            loss = network(**batch)["loss"]
        saved_bytes = saved.bytes(leaving_out=[*network.parameters(), *batch.values()])
        del loss
        with eager_attention(model), FlopCounterMode(display=False) as counter:
            network(**batch)["loss"].backward()
    return CountedStep(counter.get_total_flops(), saved_bytes)


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Attention as plain matrix products, all of which torch's counter counts; of fused kernels it may count none."""
    original = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(original)
