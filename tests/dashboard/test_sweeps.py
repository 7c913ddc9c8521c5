"""A run's sweep on the Prove page: measured over predicted, every rule's mark and its regret."""

import json

import pytest

from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.sweep import RuleRegret, SweepDepth, SweepReport
from semfreeze_core.records.training import DepthSwitch
from semfreeze_core.runs.reports import list_sweeps, list_validations
from semfreeze_core.wording.pilots import pilots_sentence
from semfreeze_core.wording.sweep import regret_table, sweep_table
from semfreeze_dashboard.charts.sweeps import draw_sweep
from semfreeze_dashboard.text.validation_text import sweep_sentence
from tests.core.plan.pilots import MEASURED
from tests.dashboard.test_pages import opened, sentence

ENDS = {"steps": (0.9, 1.1), "compute": (0.8, 1.2)}


def at(depth, share, coverage):
    shares = {"steps": share, "compute": share + 0.05}
    return SweepDepth(
        freeze_depth=depth, seeds=[0, 1, 2], improvement=shares, interval=ENDS, share=shares, share_interval=ENDS,
        gain_coverage=coverage, relative_flop=1 - depth / 40,
    )  # fmt: skip


def picked(depth, regret, reason=""):
    regrets = {"steps": regret, "compute": regret}
    ends = {"steps": None, "compute": None if regret is None else (regret - 0.01, regret + 0.01)}
    return RuleRegret(
        freeze_depth=depth, recommendation="freeze" if depth else "abstain", regret=regrets, regret_interval=ends,
        beyond_half=regrets, beyond_half_interval=ends, reason=reason,
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(example):
    return SweepReport(
        settings=list_validations(example.folder)["sentence_to_json_train"].settings,
        n_layers=30,
        n_items=64,
        loss_before=2.0,
        best_depth={"steps": 0, "compute": 19},
        depths=[at(0, 1.0, 1.0), at(15, 0.98, 0.97), at(19, 0.97, None)],
        rules={
            "half": picked(15, 0.02),
            "coverage": picked(19, 0.0),
            "paper": picked(None, None, "its formula gives no depth"),
        },
        reason="",
        finished=True,
        provenance=provenance_now(0),
    )


def test_sentence_says_which_depth_gained_most(report):
    assert sweep_sentence(report) == (
        "Same steps: freezing 0 of 30 layers reduced the loss most. "
        "Same compute: freezing 19 of 30 layers reduced the loss most."
    )
    assert sweep_sentence(report.model_copy(update={"finished": False})).endswith("Not finished.")
    assert sweep_sentence(report.model_copy(update={"reason": "Nothing to compare."})) == "Nothing to compare."


def test_chart_draws_what_was_measured_over_what_was_predicted(report):
    figure = draw_sweep(report, {"half": 15, "coverage": 19})
    predicted, compute, steps = figure.data
    assert (list(predicted.x), list(predicted.y)) == ([0, 15], [100.0, 97.0])
    assert list(compute.x) == list(steps.x) == [0, 15, 19]
    assert compute.y[2] == pytest.approx(102)
    assert compute.error_y.array[2] == pytest.approx(18)
    assert [note.text for note in figure.layout.annotations] == ["half", "coverage"]


def test_a_finetune_that_froze_deeper_at_a_step_stands_by_the_depths_and_is_none(report):
    deeper = report.depths[1].model_copy(update={"freeze_depth": 7, "switch": DepthSwitch(7, 19, 20)})
    both = report.model_copy(update={"progressive": [deeper]})
    stars = [trace for trace in draw_sweep(both, {}).data if trace.mode == "markers"]
    assert [(list(trace.x), list(trace.customdata)) for trace in stars] == 2 * [
        ([19], ["freeze 7 for 20 steps, then 19"])
    ]
    assert [trace.y[0] for trace in stars] == pytest.approx([100 * deeper.share[b] for b in ("compute", "steps")])
    assert sweep_table(both).dicts()[-1]["frozen layers"] == "7 for 20 steps, then 19"
    assert len(draw_sweep(report, {}).data) == 3


def test_table_has_the_least_regret_first_and_reasons_last(report):
    rows = regret_table(report).dicts()
    assert [row["method"] for row in rows] == ["coverage", "half", "paper"]
    assert rows[1]["regret, same compute"] == "2.0% [1.0, 3.0]"
    assert rows[2]["regret, same compute"] == "its formula gives no depth"
    assert rows[2]["selects"] == "none (not recommended)"


def test_page_shows_the_runs_sweep(report, doubtful):
    folder = doubtful / "sweeps" / "task"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(report.model_dump_json())
    app = opened("prove", run="doubtful")
    assert sentence(app)
    assert any(sweep_sentence(report) in m.value for m in app.markdown)
    assert list(app.dataframe[-1].value["method"]) == ["coverage", "half", "paper"]
    assert any("measured, same compute" in chart.proto.spec for chart in app.get("plotly_chart"))


def test_page_shows_what_pilots_decided(doubtful):
    folder = doubtful / "pilots" / "task"
    folder.mkdir(parents=True)
    (folder / "measurement.json").write_text(MEASURED.model_dump_json())
    app = opened("prove", run="doubtful")
    assert sentence(app)
    decided = "The pilot runs (12% of the compute of one full finetune of 90 steps) selected freezing 3 of 4 layers."
    assert any(decided in m.value for m in app.markdown)
    table = app.dataframe[-1].value
    assert list(table["frozen layers"]) == ["2", "3"]
    assert list(table["kept"]) == ["no", "yes"]
    nothing = MEASURED.model_copy(update={"freeze_depth": None})
    assert pilots_sentence(nothing).endswith("found no significant winner.")


def test_page_says_that_a_sweep_is_damaged(doubtful):
    folder = doubtful / "sweeps" / "task"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps({"kind": "semfreeze sweep"}))
    app = opened("prove", run="doubtful")
    assert any("sweep.json is damaged" in error.value for error in app.error)


def test_page_of_the_example_shows_its_shipped_sweep(example):
    ((name, shipped),) = list_sweeps(example.folder).items()
    assert shipped.finished
    assert len(shipped.depths) == 5
    app = opened("prove")
    assert sentence(app)
    assert any(sweep_sentence(shipped) in m.value for m in app.markdown)
    assert name == "sentence_to_json_train"
