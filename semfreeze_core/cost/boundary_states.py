"""What the states of a prefix cache take, outside the device: in the machine's memory, or in files."""

from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import Precision, TrainingSetup

# A number of the states has the dtype that matrices are multiplied in.
STATE_BYTES: dict[Precision, int] = {"float32": 4, "bf16-autocast": 2, "bf16": 2}


def boundary_state_bytes(shape: ModelShape, precision: Precision, tokens: int) -> int:
    """Bytes of the boundary states of so many distinct tokens, at whichever freeze depth: tokens x d x bytes a number.

    Exact where the prefix's bfloat16 agrees with its float32 on a probe; else bf16-autocast takes float32's.

    Args:
        shape: the counted model.
        precision: that it trains in.
        tokens: of all different examples, without padding.
    """
    return tokens * shape.d_model * STATE_BYTES[precision]


def estimated_state_bytes(shape: ModelShape, setup: TrainingSetup) -> int | None:
    """Bytes of the states of a finetune's examples, each taken to be as long as the longest; None without a cache."""
    if not setup.prefix_cache:
        return None
    return boundary_state_bytes(shape, setup.precision, setup.train_examples * setup.sequence_length)
