"""The Prove page: the shipped validation as it is, none as plainly, and a new one as a command."""

import json
import shlex
from dataclasses import replace
from urllib.parse import parse_qs

import pytest

from semfreeze_core.plan.candidate_depths import candidates_of
from semfreeze_core.plan.opinions import gather_opinions
from semfreeze_core.records.defaults import MIN_SEEDS
from semfreeze_core.records.validation import IntervalEntry, LiveArm, ShownItem
from semfreeze_core.runs.folder import write_run
from semfreeze_core.runs.jobs import JOBS
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.sources.data.samples import resolve_data
from semfreeze_dashboard.charts import finetunes
from semfreeze_dashboard.charts.numbers import numbers_of
from semfreeze_dashboard.data.run_folder import DEMO_VARIABLE, PATHS_VARIABLE
from semfreeze_dashboard.forms.validation_form import FinetuneRequest, with_split
from semfreeze_dashboard.panels import tables
from semfreeze_dashboard.text import validation_text
from semfreeze_dashboard.views import prove
from tests.core.runs.tiny_run import task_rows, write_jsonl
from tests.dashboard.test_pages import html_of, opened, sentence


@pytest.fixture(scope="module")
def report(example):
    return list_validations(example.folder)["sentence_to_json_train"]


def test_page_tells_the_shipped_verdict_and_its_numbers(report):
    app = opened("prove", figures="true")
    assert sentence(app) == (
        "Measured: freeze 19 of 30 layers (128 eval examples, 3 seeds). Same steps: pass. 100% of full finetuning's "
        "loss reduction (95% CI 99–101%; required: 95%). Same compute: pass. 100% of full finetuning's loss reduction "
        "(95% CI 100–101%; required: 95%)."
    )
    assert ">measured</span>" not in html_of(app), "said in the headline"
    quality = app.dataframe[0].value.set_index("variant")
    assert quality["loss reduction, same steps"]["planned"] == "100% [99, 101]"
    table = app.dataframe[1].value.set_index("variant")
    assert table["memory, measured"]["planned"] == f"{report.arms['planned'].peak_bytes.measured / 2**30:.1f} GiB"
    assert list(table.index) == list(report.arms)


def test_page_says_when_no_finetune_has_tested_the_plan(doubtful):
    app = opened("prove", run="doubtful", depth="11")
    assert sentence(app).startswith("Not measured yet: no finetune has tested")
    (step,) = [link.proto for link in app.get("page_link") if "Test freezing 11" in link.proto.label]
    assert parse_qs(step.query_string) == {"prove": ["true"]}, "the form begins at the depth of the page"
    assert app.number_input(key="tested").value == 11
    assert "Layer stack: 11 of 30 layers frozen" in html_of(app)


def test_page_of_a_demonstration_trains_nothing(monkeypatch):
    monkeypatch.setenv(DEMO_VARIABLE, "1")
    app = opened("prove")
    assert sentence(app)
    assert any("trains nothing" in info.value for info in app.info)
    assert not app.button


def test_form_starts_the_command_it_shows(doubtful, runs, monkeypatch):
    monkeypatch.setenv(PATHS_VARIABLE, "1")  # to others it shows no folders
    asked = []
    monkeypatch.setattr(prove, "submit", lambda *what: asked.append(what))
    app = opened("prove", run="doubtful")
    app.number_input(key="form proof-steps").set_value(7).run()
    shown = app.code[-1].value
    app.button[-1].click().run()
    ((folder, command, title, out),) = asked
    assert any(toast.value.startswith("Started: validation of doubtful") for toast in app.toast)
    assert folder == runs
    assert command[:2] == ("validate", str(doubtful))
    assert "--steps=7" in command
    assert "--eval=sample:sentence_to_json_eval" in command
    assert title == "validation of doubtful"
    assert out.parent == doubtful / "validations"
    assert f"--out={out}" in shown
    assert not (runs / JOBS).exists()


def test_folder_of_a_validation_is_a_name_of_its_own():
    finetune = FinetuneRequest("validation", "../../x.jsonl", "e.jsonl", "../../my task.jsonl", 1, 1, 1, 1, 2)
    assert finetune.folder_name.startswith("my-task-")
    assert "/" not in finetune.folder_name
    assert (
        finetune.folder_name
        != FinetuneRequest("validation", "y", "e.jsonl", "../../my task.jsonl", 1, 1, 1, 1, 2).folder_name
    )


def test_kept_shares_are_the_reports_with_their_intervals(report):
    figure = finetunes.draw_reduction_shares(report)
    compute = figure.data[1]
    assert compute.x[0] == pytest.approx(100 * report.arms["planned"].improvement_kept_compute.estimate)
    low = 100 * report.arms["planned"].improvement_kept_compute.low
    assert compute.x[0] - compute.error_x.arrayminus[0] == pytest.approx(low)
    assert len(numbers_of(figure)) == 3 * (len(report.arms) - 1)
    json.loads(figure.to_json())


def test_shares_of_runs_stopped_at_their_lowest_are_drawn_where_they_are_known(report):
    share = IntervalEntry(estimate=0.9, low=0.8, high=1.1)
    without = {
        name: arm.model_copy(update={"improvement_kept_stopped": IntervalEntry(estimate=None, low=None, high=None)})
        for name, arm in report.arms.items()
    }
    planned = report.arms["planned"].model_copy(update={"improvement_kept_stopped": share})
    figure = finetunes.draw_reduction_shares(report.model_copy(update={"arms": without | {"planned": planned}}))
    assert [trace.name for trace in figure.data] == ["same steps", "same compute", "each stopped at its lowest"]
    assert (list(figure.data[2].x), list(figure.data[2].y)) == ([90], ["planned (freeze 19)"])
    assert len(finetunes.draw_reduction_shares(report.model_copy(update={"arms": without})).data) == 2


def live_arm(report, **changed):
    points = report.runs[0].points[:2]
    base = LiveArm(
        arm="lora", seed=0, step=7, total_steps=24, seconds=9.0, cache_seconds=2.0, train_loss=0.5,
        peak_bytes=2**30, points=points,
    )  # fmt: skip
    return base.model_copy(update=changed)


def test_page_draws_an_arm_that_trains(doubtful, report):
    folder = doubtful / "validations" / "task"
    (folder / "runs").mkdir(parents=True)
    unfinished = report.model_copy(
        update={"arms": {}, "runs": [], "finished": False, "verdict": "undecided", "reason": "nothing yet"}
    )
    (folder / "report.json").write_text(unfinished.model_dump_json())
    app = opened("prove", run="doubtful")
    assert (
        sentence(app) == "No result yet: freeze 19 of 30 layers (128 eval examples, 3 seeds). No variant is finished."
    )
    assert not app.get("plotly_chart"), "there is nothing yet that a chart could show"
    (folder / "runs" / "lora-seed0.live").write_text(live_arm(report).model_dump_json())
    app = opened("prove", run="doubtful")
    assert any("No variant is finished yet" in info.value for info in app.info)
    assert not app.dataframe, "there is nothing yet that a table could show"
    assert len(app.get("plotly_chart")) == 1
    captions = [caption.value for caption in app.caption]
    assert "lora (seed 0): step 7 of 24, 1.00 s per step, train loss 0.500, peak memory 1.0 GiB." in captions
    assert any("lora, training" in chart.proto.spec for chart in app.get("plotly_chart"))


def test_answers_that_changed_from_right_to_wrong_or_back_stand_first(report):
    shown = tuple(
        ShownItem(prompt=f"p{i}", reference=" yes", answer=answer)
        for i, answer in enumerate(("yes", "no", "no", "yes"))
    )
    given = {"planned": ["yes", "perhaps", "yes ", "yes"], "full": ["yes", "no", "no", "yes"]}
    runs = []
    for arm, said in given.items():
        run = next(run for run in report.runs if run.arm == arm)
        points = [*run.points[:-1], run.points[-1].model_copy(update={"answers": said})]
        runs.append(run.model_copy(update={"points": points}))
    grown = report.model_copy(update={"runs": runs, "baseline": report.baseline.model_copy(update={"shown": shown})})
    rows = tables.answer_rows(grown)
    assert [row["prompt"] for row in rows] == ["p2", "p1", "p0", "p3"]
    assert rows[0] == {"prompt": "p2", "reference": " yes", "before": "no", "planned": "yes ", "full": "no"}
    nothing_shown = report.model_copy(update={"baseline": report.baseline.model_copy(update={"shown": ()})})
    assert tables.answer_rows(nothing_shown) == []


@pytest.mark.parametrize(
    ("kind", "first", "folder"),
    [("sweep", ("sweep",), "sweeps"), ("pilots", ("plan",), "pilots")],
)
def test_form_starts_sweeps_and_pilots_and_says_what_they_take(doubtful, monkeypatch, kind, first, folder):
    asked = []
    monkeypatch.setattr(prove, "submit", lambda *what: asked.append(what))
    app = opened("prove", run="doubtful")
    assert any(
        "Estimated:" in m.value and "time unknown (no finetune of this run was timed)" in m.value for m in app.markdown
    )
    app.button_group(key="start").set_value(kind).run()
    app.button[-1].click().run()
    ((_, command, title, out),) = asked
    assert command[:1] == first
    assert ("--rule=measured" in command) is (kind == "pilots")
    assert title == f"{kind} of doubtful"
    assert folder in out.parts


def test_a_quick_look_is_two_variants_and_one_seed(doubtful, monkeypatch):
    asked = []
    monkeypatch.setattr(prove, "submit", lambda *what: asked.append(what))
    app = opened("prove", run="doubtful", prove="true", start="quick look")
    assert validation_text.QUICK_LOOK in [caption.value for caption in app.caption]
    app.button[-1].click().run()
    ((_, command, _, out),) = asked
    assert {"--arms=full,planned", "--seeds=1", "--steps=12", "--eval-examples=32"} <= set(command)
    assert "validations" in out.parts
    app.button_group(key="start").set_value("validate").run()
    assert app.number_input(key="form proof-seeds").value == MIN_SEEDS, "what a quick look takes stays with it"


def test_form_begins_with_what_was_read_and_warns_of_other_data(doubtful, monkeypatch):
    asked = []
    monkeypatch.setattr(prove, "submit", lambda *what: asked.append(what))
    app = opened("prove", run="doubtful")
    app.button[-1].click().run()
    assert {"--train=sample:sentence_to_json_train", "--eval=sample:sentence_to_json_eval"} <= set(asked[0][1])
    app.button_group(key="form train of doubtful-kind").set_value("sample").run()
    app.selectbox(key="form train of doubtful-sample").set_value("quantity_problems_train").run()
    assert any("was made from sample:sentence" in warning.value.replace("\\", "") for warning in app.warning)


def test_forecast_counts_the_arms_that_will_be_trained(example):
    def wished(kind):
        return FinetuneRequest(kind, "a", "b", "a", 24, 3, 8, 192, 64).n_runs(example)

    assert wished("validation") == 15
    depths = {0, 7, 15, 20, 22} | {
        p.depth for p in candidates_of(gather_opinions(example.run, metric="semantic")).values()
    }
    assert wished("sweep") == 3 * len(depths - {None})
    assert wished("pilots") == 0.15


def test_a_hub_datasets_split_goes_into_its_name():
    assert with_split("hf:a/b", "test") == "hf:a/b#test"
    assert (with_split("c.jsonl", None), with_split(None, "test")) == ("c.jsonl", None)


def test_plan_leads_to_the_form_at_its_own_depth(doubtful, monkeypatch):
    asked = []
    monkeypatch.setattr(prove, "submit", lambda *what: asked.append(what))
    app = opened("decide", run="doubtful")
    app.slider(key="depth").set_value(11).run()
    (link,) = [link.proto for link in app.get("page_link") if "Test this depth" in link.proto.label]
    asked_for = {name: value for name, (value,) in parse_qs(link.query_string).items()}
    app = opened("prove", run="doubtful", depth="11", **asked_for)  # the depth goes along with every link
    assert app.expander[0].proto.expanded
    assert app.number_input(key="tested").value == 11
    app.multiselect(key="form proof-arms").set_value(["planned", "full"]).run()
    assert "--arms=full,planned --depth=11" in app.code[-1].value
    app.button[-1].click().run()
    assert {"--depth=11", "--arms=full,planned"} <= set(asked[0][1])
    app.multiselect(key="form proof-arms").set_value(["progressive", "full"]).run()
    assert "--arms=full,progressive --depth=11" in app.code[-1].value
    app.multiselect(key="form proof-arms").set_value(["dynamic", "full"]).run()
    assert "--arms=full,dynamic --depth=11" in app.code[-1].value
    app.multiselect(key="form proof-arms").set_value(["progressive", "full"]).run()
    app.number_input(key="tested").set_value(7).run()
    assert any("freezes 7 layers at first" in info.value for info in app.info)
    assert "--arms=full --depth=7" in app.code[-1].value
    app.multiselect(key="form proof-arms").set_value(["half"]).run()
    assert any("Select both full and planned" in info.value for info in app.info)


def test_form_follows_the_depth_until_it_has_one_of_its_own(doubtful):
    app = opened("prove", run="doubtful")
    app.number_input(key="depth").set_value(10).run()
    assert app.number_input(key="tested").value == 10
    app.number_input(key="tested").set_value(7).run()
    app.number_input(key="depth").set_value(12).run()
    assert app.number_input(key="tested").value == 7


def test_full_finetuning_is_no_depth_to_test(doubtful):
    app = opened("decide", run="doubtful")
    app.slider(key="depth").set_value(0).run()
    (link,) = [link.proto for link in app.get("page_link") if "Test this depth" in link.proto.label]
    assert parse_qs(link.query_string) == {"prove": ["true"]}
    app = opened("prove", run="doubtful", prove="true")
    assert (app.number_input(key="tested").min, app.number_input(key="tested").value) == (1, 15)


def test_what_was_started_is_shown_once_it_has_told_something(doubtful, report, monkeypatch):
    monkeypatch.setattr(prove, "submit", lambda *what: None)
    older = doubtful / "validations" / "older"
    older.mkdir(parents=True)
    (older / "report.json").write_text(report.model_dump_json())
    app = opened("prove", run="doubtful", prove="true")
    assert app.selectbox(key="validation").value == "older"
    assert any("at the rate of this run's last finetune" in element.value for element in app.markdown)
    app.button[-1].click().run()
    (name,) = [name.split("/")[-1] for name in app.code[-1].value.split("--out=")[1:]]
    begun = doubtful / "validations" / name.strip("'")
    begun.mkdir()
    (begun / "report.json").write_text(report.model_copy(update={"finished": False}).model_dump_json())
    app.run()
    assert app.selectbox(key="validation").value == begun.name


def test_page_names_the_layers_of_a_set(doubtful, report):
    folder = doubtful / "validations" / "set"
    folder.mkdir(parents=True)
    arms = {"full": report.arms["full"], "planned": report.arms["planned"], "layers:1-2": report.arms["half"]}
    runs = [run.model_copy(update={"arm": "layers:1-2"}) if run.arm == "half" else run for run in report.runs]
    shown = report.model_copy(update={"layers": "0-3,26-29", "freeze_depth": 0, "arms": arms, "runs": runs})
    (folder / "report.json").write_text(shown.model_dump_json())
    app = opened("prove", run="doubtful")
    assert sentence(app).startswith("Measured: train layers 0-3,26-29 of 30 (128 eval examples, 3 seeds).")
    labels = [finetunes.arm_label(shown, name) for name in arms]
    assert labels == ["full finetuning", "planned (train 0-3,26-29)", "train 1-2"]
    drawn = [chart.proto.spec for chart in app.get("plotly_chart")]
    assert all(any(word in spec for spec in drawn) for word in labels)
    assert not any("30 trained" in html.proto.body for html in app.get("html"))


def test_no_more_examples_are_offered_than_the_data_have(doubtful, example, monkeypatch, tmp_path):
    monkeypatch.setenv(PATHS_VARIABLE, "1")
    run = example.run
    file = write_jsonl(tmp_path / "few.jsonl", task_rows(75))
    read = run.manifest.data.model_copy(update={"source": str(file), "n_rows": 75, "n_usable": 75})
    write_run(replace(run, manifest=run.manifest.model_copy(update={"data": read})), doubtful, overwrite=True)
    app = opened("prove", run="doubtful", prove="true")
    n_train, n_eval = (app.number_input(key=f"form proof-{name}") for name in ("train", "eval"))
    assert (n_train.value, n_train.max, n_eval.value, n_eval.max) == (59, 59, 16, 16)
    assert {"--train-examples=59", "--eval-examples=16"} <= set(shlex.split(app.code[-1].value))
    app.button_group(key="form eval of doubtful-kind").set_value("sample").run()
    assert app.number_input(key="form proof-train").max == 75
    app.number_input(key="form proof-train").set_value(70).run()
    app.button_group(key="form eval of doubtful-kind").set_value("held").run()
    assert app.number_input(key="form proof-train").value == 59, "what was typed is lowered to what there is"


def test_eval_rows_are_held_out_where_nobody_gives_any(doubtful, example, monkeypatch):
    monkeypatch.setenv(PATHS_VARIABLE, "1")
    run = example.run
    manifest = run.manifest.model_copy(
        update={"data": run.manifest.data.model_copy(update={"source": resolve_data("sample:sentence_to_json_train")})}
    )
    write_run(replace(run, manifest=manifest), doubtful, overwrite=True)
    app = opened("prove", run="doubtful", prove="true")
    assert not app.exception
    assert "--eval=held-out" in app.code[-1].value
    assert any("20% of the rows" in caption.value for caption in app.caption)
