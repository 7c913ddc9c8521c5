"""Runs side by side: each as by itself, differences of the right sign, paired where they read the same; refusals."""

from dataclasses import replace

import numpy as np
import pytest

from semfreeze_core.errors import PlanError
from semfreeze_core.plan import curve_of, gather_opinions
from semfreeze_core.plan.compare import side_by_side
from tests.core.plan.conftest import STEADY

LATE = [0.0] * 9 + [0.1, 0.4, 0.9, 1.6]


def reading_other(run, **data):
    manifest = run.manifest.model_copy(update={"data": run.manifest.data.model_copy(update=data)})
    return replace(run, manifest=manifest)


def test_each_run_is_as_it_is_by_itself(make_run):
    runs = {"a": make_run(), "b": make_run(advantage=LATE)}
    comparison = side_by_side(runs)
    for column in comparison.columns:
        alone = gather_opinions(runs[column.name]).rules["coverage"]
        assert column.opinion.freeze_depth == alone.freeze_depth
        assert np.array_equal(column.curve.coverage.mean, curve_of(runs[column.name], "semantic").coverage.mean)
    assert comparison.columns[1].relative_depth == comparison.columns[1].opinion.freeze_depth / 12


def test_differences_are_each_later_run_less_the_first(make_run):
    runs = {"a": make_run(), "b": make_run(advantage=LATE), "c": make_run()}
    comparison = side_by_side(runs)
    assert list(comparison.differences) == ["b", "c"]
    apart = comparison.differences["b"]["gain coverage"]
    one, other = (curve_of(runs[name], "semantic").coverage.mean for name in "ba")
    assert apart.band.mean == pytest.approx(one - other, nan_ok=True)
    assert np.nanmax(apart.band.mean) > 0.05, "what comes late is still to be had above deeper boundaries"
    assert apart.surely
    same = comparison.differences["c"]
    assert same["gain coverage"].paired
    assert all(held.surely == [] for held in same.values())
    assert np.nanmax(np.abs(same["advantage"].band.high)) == pytest.approx(0, abs=1e-9), "paired, all noise cancels"


def test_other_examples_are_not_paired(make_run):
    runs = {"a": make_run(), "b": reading_other(make_run(), tokens_digest="e" * 64)}
    held = side_by_side(runs).differences["b"]["advantage"]
    assert not held.paired
    assert held.surely == []
    assert np.nanmin(held.band.high) > 1e-6, "the noise of both is in it"


def test_models_of_other_depth_and_vocabulary_are_held_by_share_and_warned_of(make_run, measured):
    small = measured(n_layers=4)
    runs = {"a": make_run(), "b": make_run(small, advantage=[0.0, 0.01, 0.02, 0.04, 0.08])}
    model = runs["b"].manifest.model.model_copy(update={"real_vocab_rows": 50})
    runs["b"] = replace(runs["b"], manifest=runs["b"].manifest.model_copy(update={"model": model}))
    comparison = side_by_side(runs)
    assert len(comparison.differences["b"]["gain coverage"].band.mean) == 13
    warning_text = " ".join(comparison.warnings)
    assert "layers: depths are compared as shares" in warning_text
    assert "compare shares and shapes, not heights" not in warning_text, (
        "the source is the same, and so is its vocabulary"
    )
    identity = replace(model.identity, source="other")
    manifest = runs["b"].manifest.model_copy(update={"model": model.model_copy(update={"identity": identity})})
    warning_text = " ".join(side_by_side(runs | {"b": replace(runs["b"], manifest=manifest)}).warnings)
    assert "97" in warning_text
    assert "other 50 tokens" in warning_text


def test_runs_without_evidence_are_named(make_run):
    comparison = side_by_side({"a": make_run(), "b": make_run(difference=0.0)})
    assert any("No evidence that the layers do the task in b" in warning for warning in comparison.warnings)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_too_few_or_too_many_runs_are_refused(make_run, n):
    with pytest.raises(PlanError, match=f"Expected 2 to 6 different runs to compare, found {n}"):
        side_by_side({str(i): make_run() for i in range(n)})


def test_a_run_without_the_metric_is_named(make_run):
    with pytest.raises(PlanError, match="a: The run has no logit_z, only semantic"):
        side_by_side({"a": make_run(), "b": make_run(advantage=STEADY)}, "logit_z")
