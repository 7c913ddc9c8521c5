"""Estimated cost of short finetunes: FLOPs, time at a rate, and the memory of the most expensive arm."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from semfreeze_core.cost import full_cost, run_seconds
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.validation import ValidationReport

if TYPE_CHECKING:
    from semfreeze_core.records.run import Run  # brings pandas, which a rate does not need


@dataclass(frozen=True)
class FinetuneForecast:
    """Estimated cost of a validation, a sweep or pilots.

    Attributes:
        flop: of all arms and seeds, without evaluations.
        seconds: at the given rate; None without one.
        peak_bytes: estimated for full finetuning, the most expensive arm; None where activations are unknown.
    """

    flop: int
    seconds: float | None
    peak_bytes: int | None


def trained_rate(report: ValidationReport) -> float | None:
    """FLOP/s of a validation's arms in training, without evaluations; None where none has ended."""
    done = [run for run in report.runs if run.status == "done" and run.points]
    seconds = sum(run.points[-1].seconds for run in done)
    return sum(run.flop.counted for run in done) / seconds if seconds else None


def forecast_finetunes(
    run: "Run", *, batch_size: int, steps: int, n_runs: float, flop_per_second: float | None
) -> FinetuneForecast:
    """Estimate from the run's own example lengths.

    Args:
        run: a finished analysis.
        batch_size: examples per step.
        steps: of full finetuning.
        n_runs: finetunes that each cost what full finetuning does: arms at equal compute times seeds.
        flop_per_second: of the machine, or None.
    """
    data = run.manifest.data
    setup = TrainingSetup(
        batch_size=batch_size,
        sequence_length=max(2, round(data.n_tokens / data.n_examples)),
        supervised_fraction=data.n_supervised_tokens / data.n_tokens,
        train_examples=batch_size * steps,
        steps=steps,
        loss="supervised-only",
    )
    full = full_cost(run.shape, setup)
    flop = round(n_runs * full.flop)
    return FinetuneForecast(flop, run_seconds(flop, flop_per_second), full.bytes.total)
