"""The Validate page: the shipped validation as it is, none as plainly, and a new one as a command."""

import json

import pytest

from semfreeze_core.runs.jobs import JOBS
from semfreeze_core.runs.validations import list_validations
from semfreeze_dashboard.charts import finetunes
from semfreeze_dashboard.charts.numbers import numbers_of
from semfreeze_dashboard.proof_form import ProofWish
from semfreeze_dashboard.shelf import DEMO_VARIABLE
from tests.dashboard.test_pages import opened, sentence


@pytest.fixture(scope="module")
def report(example):
    return list_validations(example.folder)["sentence_to_json_train"]


def test_page_tells_the_shipped_verdict_and_its_numbers(report):
    app = opened("validate")
    assert sentence(app) == f"Freezing 19 of 30 layers holds at equal compute: {report.reason}."
    table = app.dataframe[0].value.set_index("arm")
    assert table["memory measured"]["planned"] == f"{report.arms['planned'].peak_bytes.measured / 2**30:.2f} GiB"
    assert list(table.index) == list(report.arms)


def test_page_says_when_no_finetune_has_tested_the_plan(doubtful):
    assert sentence(opened("validate", run="doubtful")).startswith("No finetune has tested")


def test_page_of_a_demonstration_trains_nothing(monkeypatch):
    monkeypatch.setenv(DEMO_VARIABLE, "1")
    app = opened("validate")
    assert sentence(app)
    assert any("trains nothing" in info.value for info in app.info)
    assert not app.button


def test_form_starts_the_command_it_shows(doubtful, runs, monkeypatch):
    asked = []
    monkeypatch.setattr("semfreeze_core.runs.jobs.submit", lambda *what: asked.append(what))
    app = opened("validate", run="doubtful")
    app.number_input(key="form proof-steps").set_value(3).run()
    shown = app.code[-1].value
    app.button[-1].click().run()
    ((folder, command, title, out),) = asked
    assert folder == runs
    assert command[:2] == ("validate", str(doubtful))
    assert "--steps=3" in command
    assert "--eval=sample:quantity_problems_eval" in command
    assert title == "validation of doubtful"
    assert out.parent == doubtful / "validations"
    assert f"--out={out}" in shown
    assert not (runs / JOBS).exists()


def test_folder_of_a_validation_is_a_name_of_its_own():
    wish = ProofWish("../../x.jsonl", "e.jsonl", "../../my task.jsonl", 1, 1, 1, 1, 2)
    assert wish.folder_name.startswith("my-task-")
    assert "/" not in wish.folder_name
    assert wish.folder_name != ProofWish("y", "e.jsonl", "../../my task.jsonl", 1, 1, 1, 1, 2).folder_name


def test_loss_curves_are_means_over_seeds(report):
    figure = finetunes.draw_losses(report, "steps")
    runs = [run for run in report.runs if run.arm == "planned"]
    expected = [sum(run.points[i].curve_loss for run in runs) / len(runs) for i in range(len(runs[0].points))]
    (planned,) = [trace for trace in figure.data if trace.name == "planned (freeze 19)"]
    assert list(planned.y) == pytest.approx(expected)
    assert list(planned.x) == [point.step for point in runs[0].points]
    seconds = finetunes.draw_losses(report, "seconds").data[0].x
    assert list(seconds) == sorted(seconds)


def test_kept_shares_are_the_reports_with_their_intervals(report):
    figure = finetunes.draw_kept(report)
    compute = figure.data[1]
    assert compute.x[0] == pytest.approx(100 * report.arms["planned"].improvement_kept_compute.estimate)
    low = 100 * report.arms["planned"].improvement_kept_compute.low
    assert compute.x[0] - compute.error_x.arrayminus[0] == pytest.approx(low)
    assert len(numbers_of(figure)) == 2 * (len(report.arms) - 1)
    json.loads(figure.to_json())
