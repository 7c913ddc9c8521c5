"""The store's finetunes as predictions beside measurements, from the shipped validation."""

import shutil
from pathlib import Path

import pytest

from semfreeze_core.runs.calibration import bundled_calibration, coverage_calibration, read_calibration
from semfreeze_core.runs.folder import VALIDATIONS
from semfreeze_core.runs.reports import list_sweeps, list_validations
from semfreeze_core.runs.store import example_run

((NAME, SHIPPED),) = list_validations(example_run()).items()
SWEEPS_SHIPPED = list_sweeps(example_run())


@pytest.fixture
def runs(tmp_path):
    """A folder of runs with the shipped validation in one of them, and beside them."""
    source = example_run() / VALIDATIONS / NAME
    shutil.copytree(source, tmp_path / "runs" / "mine" / VALIDATIONS / NAME)
    shutil.copytree(source, tmp_path / VALIDATIONS / "example-other")
    return tmp_path / "runs"


def test_every_arm_is_there_with_what_was_predicted_and_measured(runs):
    report = read_calibration(runs)
    assert {pair.finetune for pair in report.pairs} == {f"runs/mine/validations/{NAME}", "validations/example-other"}
    pairs = {(p.quantity, p.arm): p for p in report.pairs if p.finetune.startswith("runs/")}
    planned, full = SHIPPED.arms["planned"], SHIPPED.arms["full"]
    assert pairs["memory", "planned"].predicted == planned.peak_bytes.predicted
    assert pairs["memory", "planned"].measured == planned.peak_bytes.measured
    assert pairs["FLOP", "full"].predicted == full.flop.predicted
    assert pairs["seconds", "planned"].predicted == planned.relative_flop
    assert pairs["seconds", "planned"].measured == planned.train_seconds / full.train_seconds
    assert ("seconds", "full") not in pairs
    assert pairs["coverage at equal steps", "planned"].predicted == SHIPPED.predicted_gain_coverage
    assert pairs["coverage at equal steps", "planned"].measured == planned.improvement_kept.estimate
    assert coverage_calibration(report).n_finetunes == 2


def test_an_unfinished_validation_says_nothing_of_coverage(runs):
    path = runs / "mine" / VALIDATIONS / NAME / "report.json"
    path.write_text(SHIPPED.model_copy(update={"finished": False}).model_dump_json())
    assert coverage_calibration(read_calibration(runs)).n_finetunes == 1


def test_a_damaged_report_is_left_out_and_named(runs):
    path = runs / "mine" / VALIDATIONS / NAME / "report.json"
    path.write_text("{")
    report = read_calibration(runs)
    assert [str(path) in problem for problem in report.problems] == [True]
    assert {pair.finetune for pair in report.pairs} == {"validations/example-other"}


def test_nothing_kept_is_nothing_known(tmp_path):
    report = read_calibration(tmp_path / "runs")
    assert report.calibrations == report.pairs == report.problems == []
    assert coverage_calibration(report) is None


def test_the_bundled_runs_finetunes_are_apart_and_their_depths_next_to_what_they_measured():
    report = bundled_calibration()
    assert report.problems == []
    finetunes = {pair.finetune for pair in report.pairs}
    assert finetunes == {f"example/validations/{NAME}", *(f"example/sweeps/{sweep}" for sweep in SWEEPS_SHIPPED)}
    for name, sweep in SWEEPS_SHIPPED.items():
        pairs = {(p.quantity, p.arm): p for p in report.pairs if p.finetune == f"example/sweeps/{name}"}
        for depth in (depth for depth in sweep.depths if depth.freeze_depth):
            pair = pairs["coverage at equal steps", f"depth:{depth.freeze_depth}"]
            assert (pair.predicted, pair.measured) == (depth.gain_coverage, depth.share["steps"])


def test_the_folder_may_be_the_current_one_or_below_a_hidden_one(runs, tmp_path, monkeypatch):
    hidden = tmp_path / ".local" / "share"
    hidden.mkdir(parents=True)
    shutil.move(tmp_path / "runs", hidden)
    shutil.move(tmp_path / VALIDATIONS, hidden)
    names = {f"runs/mine/validations/{NAME}", "validations/example-other"}
    assert {pair.finetune for pair in read_calibration(hidden / "runs").pairs} == names
    monkeypatch.chdir(hidden / "runs")
    assert {pair.finetune for pair in read_calibration(Path(".")).pairs} == names
    shutil.move(hidden / "runs" / "mine", hidden / "runs" / ".mine")  # not a run that is listed
    assert {pair.finetune for pair in read_calibration(Path(".")).pairs if pair.finetune.startswith("runs/")} == set()


def test_a_validation_of_zero_seconds_has_no_ratio_of_them(runs):
    path = runs / "mine" / VALIDATIONS / NAME / "report.json"
    arms = {name: arm.model_copy(update={"train_seconds": 0.0}) for name, arm in SHIPPED.arms.items()}
    path.write_text(SHIPPED.model_copy(update={"arms": arms}).model_dump_json())
    pairs = [(p.quantity, p.finetune) for p in read_calibration(runs).pairs]
    assert ("seconds", f"runs/mine/validations/{NAME}") not in pairs
    assert ("memory", f"runs/mine/validations/{NAME}") in pairs
