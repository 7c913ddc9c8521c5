"""What short finetunes will take, against the cost model on the run's own lengths."""

import pytest

from semfreeze_core.cost import full_cost
from semfreeze_core.plan.forecast import forecast_finetunes, trained_rate
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.runs.store import example_run


def test_forecast_is_full_finetunings_price_at_the_runs_own_lengths_times_the_runs():
    run = read_run(example_run())
    data = run.manifest.data
    setup = TrainingSetup(
        batch_size=4,
        sequence_length=round(data.n_tokens / data.n_examples),
        supervised_fraction=data.n_supervised_tokens / data.n_tokens,
        train_examples=96,
        steps=24,
        loss="supervised-only",
    )
    full = full_cost(run.shape, setup)
    forecast = forecast_finetunes(run, batch_size=4, steps=24, n_runs=15, flop_per_second=1e9)
    assert forecast.flop == 15 * full.flop
    assert forecast.seconds == pytest.approx(forecast.flop / 1e9)
    assert forecast.peak_bytes == full.bytes.total
    assert forecast_finetunes(run, batch_size=4, steps=24, n_runs=0.15, flop_per_second=None).seconds is None


def test_rate_of_a_validation_is_all_its_flop_over_all_its_training():
    (report,) = list_validations(example_run()).values()
    seconds = sum(sum(run.step_seconds) + run.cache_seconds for run in report.runs)
    assert trained_rate(report) == pytest.approx(sum(run.flop.counted for run in report.runs) / seconds, rel=0.01)
    one, two = report.runs[:2]
    failed = two.model_copy(update={"status": "failed"})
    rate = trained_rate(report.model_copy(update={"runs": [one, failed]}))
    assert rate == pytest.approx(one.flop.counted / one.points[-1].seconds)
    assert trained_rate(report.model_copy(update={"runs": []})) is None
