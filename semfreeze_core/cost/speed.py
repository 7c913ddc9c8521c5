"""At what rate a finetune would run, as far as anybody said or measured."""

from dataclasses import dataclass

from semfreeze_core.cost.hardware import Gpu
from semfreeze_core.errors import PlanError
from semfreeze_core.records.defaults import UTILIZATION
from semfreeze_core.records.training import TrainingSetup


@dataclass(frozen=True)
class Speed:
    """A rate and where it is from.

    Attributes:
        flop_per_second: None when nobody knows, or only within a range.
        source: in words, or None.
        reason: why there is none, or None.
        flop_per_second_range: lowest and highest, where it is known within a range; else None.
    """

    flop_per_second: float | None
    source: str | None
    reason: str | None
    flop_per_second_range: tuple[float, float] | None = None

    @property
    def rates(self) -> tuple[float, ...]:
        """The rate, the lowest and highest, or nothing."""
        if self.flop_per_second_range is not None:
            return self.flop_per_second_range
        return () if self.flop_per_second is None else (self.flop_per_second,)


def training_speed(
    flop_per_second: float | None,
    tflops: float | None,
    setup: TrainingSetup,
    *,
    gpu: Gpu | None = None,
    measured: float | None = None,
) -> Speed:
    """The rate the user gave; else what trainings reach of a named GPU's peak; else that of a real finetune.

    An analysis is timed too, but its forward passes say little of a training, and nothing of another device's.

    Args:
        flop_per_second, tflops: given by the user, in FLOP/s and TFLOP/s.
        setup: of the finetune; its precision decides which peak.
        gpu: whose peak is taken.
        measured: FLOP/s of a finetune of the same run.

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
    if gpu is not None:
        return _of_peak(gpu, setup)
    if measured is not None:
        return Speed(measured, "measured in this run's last finetune", None)
    return Speed(None, None, "no rate is known: name a GPU (--gpu), or give a rate (--tflops)")


def _of_peak(gpu: Gpu, setup: TrainingSetup) -> Speed:
    peak = gpu.peak_flop_per_second(setup.precision)
    if peak is None:
        return Speed(
            None, None, f"the peak rate of {gpu.name} in {setup.precision} is unknown or it has none: give --tflops"
        )
    low, high = UTILIZATION
    source = f"{utilization_range()} of the peak rate of {gpu.name} in {setup.precision}"
    return Speed(None, source, None, (low * peak, high * peak))


def utilization_range() -> str:
    """The shares of a GPU's peak rate that an estimated time assumes, like "30–55%"."""
    low, high = UTILIZATION
    return f"{100 * low:.0f}–{100 * high:.0f}%"
