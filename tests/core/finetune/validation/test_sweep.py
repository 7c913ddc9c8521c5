"""A sweep says which depth was best and what each rule would have lost, from the runs of its arms."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from semfreeze_core.cli.printing.sweep import print_sweep
from semfreeze_core.errors import PlanError
from semfreeze_core.finetune.arm.arms import make_arms
from semfreeze_core.finetune.arm.job import read_job
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.validation.report import build_report, failed_run
from semfreeze_core.finetune.validation.request import VALIDATION_SETUP, ValidationRequest
from semfreeze_core.finetune.validation.sweep import build_sweep, sweep
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.plan.candidate_depths import Candidate, depth_arms, progressive_arm
from semfreeze_core.plan.make import curve_of
from semfreeze_core.records.sweep import SWEEP, SweepReport
from semfreeze_core.records.training import DepthSwitch
from semfreeze_core.records.validation import Baseline
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.store import example_run
from semfreeze_core.wording.sweep import sweep_table
from tests.core.finetune.arms_here import arms_in_this_process
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task
from tests.core.finetune.validation.test_report import BEFORE, ITEMS, SETUP, run, settings

NAMES = ("full", "depth:1", "depth:2", "depth:3")


@pytest.fixture(autouse=True)
def arms_here():
    with arms_in_this_process():
        yield


@pytest.fixture(scope="module")
def curve():
    return curve_of(read_run(example_run()), "semantic")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_plan(tmp_path_factory.mktemp("sweep") / "model")


def report(tiny, gains, failed=()):
    """A validation whose arms gained so much at each mark, and of which some failed."""
    plan, loaded = tiny
    arms = {arm.name: arm for arm in make_arms(tuple(dict.fromkeys((*NAMES, *gains))), loaded.shape, None)}
    asked = settings().model_copy(update={"arms": list(gains)})
    runs = [
        failed_run(arms[name], ArmSettings(SETUP, seed=seed, warmup_steps=1), seed, "It failed.")
        if name in failed
        else run(arms[name], seed, marks)
        for name, marks in gains.items()
        for seed in range(3)
    ]
    base = Baseline(
        loss=float(BEFORE.mean()), item_losses=BEFORE.tolist(), accuracy=None, n_items=ITEMS, n_accuracy_items=0
    )
    return build_report(plan, asked, base, runs, dict.fromkeys(gains, 0.5), [])


def test_sweep_finds_the_best_depth_at_either_budget_and_each_rules_regret(tiny, curve):
    gains = {
        "full": {"steps+compute": 1.0},
        "depth:1": {"steps": 0.9, "compute": 1.2},
        "depth:2": {"steps": 0.6, "compute": 1.0},
    }
    validation = report(tiny, gains)
    half = validation.n_layers // 2
    candidates = {
        "coverage": Candidate(1, True),
        "paper": Candidate(7, False),
        "compute": Candidate(None, False),
        "half": Candidate(half, True),
    }
    sweep_report = build_sweep(validation, curve, candidates)
    assert sweep_report.best_depth == {"steps": 0, "compute": 1}
    shares = {depth.freeze_depth: depth.share for depth in sweep_report.depths}
    assert shares[0] == {"steps": pytest.approx(1.0), "compute": pytest.approx(1.0)}
    assert shares[1]["compute"] == pytest.approx(1.2, abs=0.02)
    coverage = sweep_report.rules["coverage"]
    assert coverage.regret == {"steps": pytest.approx(0.1, abs=0.01), "compute": 0.0}
    assert sweep_report.rules["half"].beyond_half["compute"] == 0.0
    assert coverage.beyond_half["compute"] == pytest.approx(-sweep_report.rules["half"].regret["compute"])
    assert sweep_report.rules["paper"].regret == {"steps": None, "compute": None}
    assert sweep_report.rules["paper"].reason == "its depth was not swept"
    assert sweep_report.rules["paper"].recommendation == "abstain"
    assert "no depth" in sweep_report.rules["compute"].reason
    assert sweep_report.reason == ""


def test_a_finetune_that_freezes_deeper_at_a_step_is_compared_and_is_no_depth(tiny, curve):
    name = progressive_arm("1-2@5", tiny[1].shape, SETUP.steps)
    gains = {
        "full": {"steps+compute": 1.0},
        "depth:1": {"steps": 0.6, "compute": 0.7},
        name: {"steps": 0.9, "compute": 1.2},
    }
    sweep_report = build_sweep(report(tiny, gains), curve, {"a": Candidate(2, True)})
    assert [depth.freeze_depth for depth in sweep_report.depths] == [0, 1]
    assert sweep_report.best_depth == {"steps": 0, "compute": 0}, "among depths"
    assert sweep_report.rules["a"].reason == "its depth was not swept"
    (deeper,) = sweep_report.progressive
    assert (deeper.switch, deeper.gain_coverage) == (DepthSwitch(1, 2, 5), None)
    assert deeper.share == {"steps": pytest.approx(0.9, abs=0.02), "compute": pytest.approx(1.2, abs=0.02)}
    assert SweepReport.model_validate_json(sweep_report.model_dump_json()) == sweep_report


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("3-2", r"--progressive 3-2: freezes 3 layers at first and 2 later; the second must be more"),
        ("@auto", r"--progressive @auto: only `semfreeze train` decides by trials .* name a step, as in @20\."),
    ],
)
def test_what_cannot_be_swept_is_refused(tiny, text, problem):
    with pytest.raises(PlanError, match=problem):
        progressive_arm(text, tiny[1].shape, 60)


def test_sweep_compares_nothing_where_full_finetuning_gains_nothing(tiny, curve):
    gains = {"full": {"steps+compute": 0.0}, "depth:1": {"steps": 0.0, "compute": -0.1}}
    sweep_report = build_sweep(report(tiny, gains), curve, {"a": Candidate(1, True)})
    assert "nothing to compare" in sweep_report.reason
    assert sweep_report.rules["a"].regret["compute"] is None


def test_a_depth_that_failed_leaves_the_others_compared(tiny, curve):
    gains = {"full": {"steps+compute": 1.0}, "depth:1": {"steps": 0.9, "compute": 1.2}, "depth:2": {}}
    candidates = {"coverage": Candidate(1, True), "half": Candidate(2, True)}
    sweep_report = build_sweep(report(tiny, gains, failed=("depth:2",)), curve, candidates)
    assert sweep_report.best_depth == {"steps": 0, "compute": 1}
    assert sweep_report.rules["coverage"].regret == {"steps": pytest.approx(0.1, abs=0.01), "compute": 0.0}
    assert (sweep_report.rules["half"].regret["compute"], sweep_report.rules["half"].reason) == (
        None,
        "its depth failed",
    )
    assert sweep_report.reason == ""
    alone = build_sweep(report(tiny, gains, failed=("full", "depth:2")), curve, candidates)
    assert alone.reason == "Full finetuning failed, so there is nothing to compare with."


@pytest.mark.slow
def test_depths_that_share_caches_go_on_from_each_other_and_train_alike(tiny, curve, tmp_path, monkeypatch):
    plan, _ = tiny
    request = ValidationRequest(
        plan=plan,
        train=str(write_task(tmp_path / "train.jsonl", 24)),
        evaluation=str(write_task(tmp_path / "eval.jsonl", 12, seed=9)),
        arms=depth_arms([0, 1, 3]),
        setup=replace(VALIDATION_SETUP, steps=2, batch_size=4),
        n_accuracy=0,
    )
    losses = {}
    for shared in (False, True):
        monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / f"home-{shared}"))
        report = validate(replace(request, share_caches=shared), tmp_path / f"out-{shared}")
        losses[shared] = [run.points[-1].item_losses for run in report.runs]
    for one, other in zip(losses[False], losses[True], strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    jobs = {p.stem: read_job(p) for p in (tmp_path / "out-True" / "jobs").glob("d*.json")}
    assert {name: job.cache_shared_from for name, job in jobs.items()} == {"depth-1-seed0": 0, "depth-3-seed0": 1}
    assert not list(tmp_path.glob("home-False/cache/prefix/*/*.safetensors"))
    assert len(list(tmp_path.glob("home-True/cache/prefix/[0-9a-f]*"))) == 2


@pytest.mark.slow
def test_sweep_trains_every_depth_and_goes_on_where_it_ended(tiny, curve, tmp_path):
    plan, _ = tiny
    request = ValidationRequest(
        plan=plan,
        train=str(write_task(tmp_path / "train.jsonl", 24)),
        evaluation=str(write_task(tmp_path / "eval.jsonl", 12, seed=9)),
        arms=depth_arms([0, 1, 2]),
        setup=replace(VALIDATION_SETUP, steps=2, batch_size=4),
        seeds=2,
        n_accuracy=0,
    )
    sweep_report = sweep(request, curve, {"half": Candidate(2, True)}, tmp_path / "out")
    assert sweep_report.finished
    assert [depth.freeze_depth for depth in sweep_report.depths] == [0, 1, 2]
    assert SweepReport.model_validate_json((tmp_path / "out" / SWEEP).read_text()) == sweep_report
    (tmp_path / "out" / "runs" / "depth-2-seed1.json").unlink()
    again = sweep(request, curve, {"half": Candidate(2, True)}, tmp_path / "out")
    assert again.depths == sweep_report.depths


def test_sweep_tells_shares_where_every_run_is_stopped_at_its_lowest(tiny, curve):
    gains = {
        "full": {"between": 1.0, "between+between": 0.9, "steps+compute": 0.8},
        "depth:1": {"between": 0.5, "steps": 0.7, "compute": 0.2},
    }
    sweep_report = build_sweep(report(tiny, gains), curve, {"a": Candidate(1, True)})
    stopped = {depth.freeze_depth: depth.share_stopped for depth in sweep_report.depths}
    assert stopped == {0: pytest.approx(1.0), 1: pytest.approx(0.7, abs=0.01)}
    assert "of full, best checkpoint" in [column.title for column in sweep_table(sweep_report).columns]


def test_sweep_names_arms_whose_loss_rose_again_and_prints_it(tiny, curve):
    gains = {"full": {"steps+compute": 1.0}, "depth:1": {"steps": 0.9, "compute": 0.5}}
    sweep_report = build_sweep(report(tiny, gains), curve, {"a": Candidate(1, True)})
    (warning,) = sweep_report.warnings
    assert "depth:1 after 10 of 11 steps, then up by 0.400" in warning
    out = Console(file=io.StringIO(), width=400)
    print_sweep(sweep_report, out)
    assert warning in out.file.getvalue()
    titles = [column.title for column in sweep_table(sweep_report).columns]
    assert "of full, best checkpoint" not in titles, "nothing was evaluated between the marks"
    assert SweepReport.model_validate_json(sweep_report.model_dump_json()) == sweep_report
