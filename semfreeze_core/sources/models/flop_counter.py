"""FLOPs that torch's counter counts, of what the cost model prices."""

from torch.utils.flop_counter import FlopCounterMode

_ROTARY = "rotary"  # in the name of every module that makes a rotary embedding's tables


def model_flop(counter: FlopCounterMode) -> int:
    """FLOPs that were counted, less those of rotary tables.

    Some releases of transformers, and models' own code, multiply positions and frequencies as matrices, others element
    by element, which nobody counts. The tables are no matrix of the model, and there is one small product a pass.
    """
    counts = counter.get_flop_counts()
    rotary = [name for name in counts if _ROTARY in name.rpartition(".")[2]]
    return int(counter.get_total_flops()) - sum(sum(counts[name].values()) for name in rotary)
