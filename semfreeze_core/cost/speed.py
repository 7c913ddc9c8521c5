"""At what rate a finetune would run, as far as anybody said or measured."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from semfreeze_core.cost.flops import forward_rate
from semfreeze_core.errors import PlanError
from semfreeze_core.records.training import TrainingSetup

if TYPE_CHECKING:
    from semfreeze_core.records.run import Run  # brings pandas, which a price has no use for

# What a reading computes in is what each of these multiplies in.
_READING_DTYPES = {"float32": "float32", "bf16-autocast": "bfloat16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Speed:
    """A rate and where it is from.

    Attributes:
        flop_per_second: None when nobody knows.
        source: in words, or None.
        reason: why there is none, or None.
    """

    flop_per_second: float | None
    source: str | None
    reason: str | None


def training_speed(
    flop_per_second: float | None, tflops: float | None, reading: "Run | None", setup: TrainingSetup
) -> Speed:
    """The rate the user gave, else the one at which the run itself was read, if in the setup's precision.

    Raises:
        PlanError: both rates are given, or one that is no positive number.
    """
    if flop_per_second is not None and tflops is not None:
        raise PlanError("--flop-per-second and --tflops say the same thing twice: give one.")
    for flag, value, unit in (("flop-per-second", flop_per_second, 1.0), ("tflops", tflops, 1e12)):
        if value is not None:
            if not 0 < value < float("inf"):
                raise PlanError(f"--{flag} must be a positive number, found {value:g}.")
            return Speed(value * unit, f"given with --{flag}", None)
    if reading is None:
        return Speed(None, None, "no rate is known: give --tflops, or a run, which was timed")
    model, took = reading.manifest.model, reading.manifest.extraction
    if model.dtype != _READING_DTYPES[setup.precision]:
        return Speed(
            None, None, f"the run was read in {model.dtype}, which says nothing of {setup.precision}: give --tflops"
        )
    rate = forward_rate(reading.shape, took.tokens, took.seconds)
    return Speed(rate, f"forward passes of the reading on {model.device} in {model.dtype}", None)
