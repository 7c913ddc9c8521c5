"""Finetuning from the Prove page: the form and its link, a race that runs, and what a finished one gave."""

import json
from types import SimpleNamespace

import pytest

from semfreeze_core.guided.forecast import ForecastRequest, forecast_lines
from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.finetune_report import DECISION
from semfreeze_core.records.job import JobEnd
from semfreeze_core.records.options import TrainingOptions
from semfreeze_core.records.race import RACE_FOLDER, RACE_RESULT, Objective
from semfreeze_core.runs.folder import FINETUNES, read_run
from semfreeze_core.runs.job_events import EventWriter
from semfreeze_core.runs.job_folder import this_process
from semfreeze_core.runs.jobs import JOBS
from semfreeze_core.wording.race import PRIVATE_FOLDER, finetune_lines
from semfreeze_dashboard.data.run_folder import PATHS_VARIABLE
from semfreeze_dashboard.panels import finetune_panel
from semfreeze_dashboard.text.analysis_text import escaped
from tests.dashboard.finetunes import raced, report, trial, write_finished, write_racing
from tests.dashboard.test_data import job
from tests.dashboard.test_pages import html_of, opened, sentence

LINK = {"run": "doubtful", "prove": "true", "start": "finetune"}


@pytest.fixture
def asked(monkeypatch):
    """What the page starts, which starts nothing here."""
    started = []

    def submit(*what):
        started.append(what)
        return SimpleNamespace(spec=SimpleNamespace(out=str(what[-1])))

    monkeypatch.setattr(finetune_panel, "submit", submit)
    return started


def texts(app):
    return "\n".join(element.value for kind in (app.markdown, app.caption, app.code, app.info) for element in kind)


def running(runs, folder, **messages):
    """A job that makes a finetune and runs, with its messages by stage."""
    job(runs, "1-finetune", this_process(5.0), command=("finetune", "--model=m", "--data=d.jsonl"))
    spec = runs / JOBS / "1-finetune" / "job.json"
    spec.write_text(json.dumps(json.loads(spec.read_text()) | {"out": str(folder)}))
    tell = EventWriter(spec.parent)
    for stage, message in messages.items():
        tell(ProgressEvent(stage, message=message))


def test_form_starts_the_command_it_shows(doubtful, runs, asked, monkeypatch):
    monkeypatch.setenv(PATHS_VARIABLE, "1")
    app = opened("prove", **LINK, batch="4", epochs="2")
    command, python = (code.value for code in app.code)
    app.button[-1].click().run()
    assert not app.exception
    ((folder, arguments, title, out),) = asked
    assert (folder, title, out) == (runs, "finetune of doubtful", doubtful / FINETUNES / "doubtful-finetuned")
    assert {"--data=sample:sentence_to_json_train", "--batch-size=4", "--epochs=2"} <= set(arguments)
    assert arguments[0] == "finetune"
    assert not any(word.startswith("--eval") for word in arguments), "rows are held out"
    assert all(word in command for word in arguments)
    assert f"--out={out}" in command
    assert f"Path('{out}')" in python
    assert [toast.value for toast in app.toast] == ["Started: finetune of doubtful. Follow it under Jobs."]


def test_form_says_before_the_start_what_the_command_will_do_and_take(doubtful, example):
    app = opened("prove", **LINK, batch="4", steps="300", objective="quality")
    request = ForecastRequest(
        n_rows=example.run.manifest.data.n_usable, objective=Objective(kind="quality"),
        options=TrainingOptions(batch_size=4), steps=300,
    )  # fmt: skip
    lines = forecast_lines(read_run(doubtful), request)
    assert any(line.startswith("Race: train all layers") for line in lines)
    assert all(escaped(line) in texts(app) for line in lines)
    app.button_group(key="form finetune of doubtful-kind").set_value("sample").run()
    app.selectbox(key="form finetune of doubtful-sample").set_value("quantity_problems_eval").run()
    assert escaped(lines[0]) not in texts(app), "other examples, other numbers"
    app.button_group(key="form finetune of doubtful-kind").set_value("hub").run()
    app.text_input(key="form finetune of doubtful-hub").set_value("org/data").run()
    assert "on 800 training examples, evaluated on 200." in texts(app)
    assert "for 1,000 rows, as the dataset is not fetched yet" in texts(app)
    app.selectbox(key="objective").set_value("time").run()
    app.number_input(key="steps").set_value(20).run()
    assert "needs a race" in texts(app)
    assert any(button.label == "Finetune" for button in app.button), "the dataset may have more examples"


def test_a_finetune_that_cannot_be_made_is_refused_before_it_starts(doubtful):
    app = opened("prove", **LINK, objective="time", steps="20")
    assert any("needs a race" in error.value for error in app.error)
    assert not any(button.label == "Finetune" for button in app.button)


def test_a_finetune_takes_the_depth_of_the_page_decide_where_it_is_told_to(doubtful, asked):
    app = opened("prove", **LINK, depth="12", decided="as on Decide")
    assert "depth 12" in texts(app), "the plan's reason says whose depth it is"
    app.button[-1].click().run()
    ((_, arguments, _, _),) = asked
    assert "--depth=12" in arguments
    app.button_group(key="decided").set_value("by the finetune").run()
    assert not any("--depth" in code.value for code in app.code)
    app.button_group(key="decided").set_value("as on Decide").run()
    app.selectbox(key="objective").set_value("quality").run()
    assert not any("--depth" in code.value for code in app.code), "an objective chooses the depth"
    assert app.session_state["decided"] == "as on Decide"


def test_what_the_runs_examples_would_be_refused_for_stops_no_finetune_of_others(doubtful):
    app = opened("prove", **LINK, objective="time", steps="20")
    app.button_group(key="form finetune of doubtful-kind").set_value("sample").run()
    app.selectbox(key="form finetune of doubtful-sample").set_value("quantity_problems_eval").run()
    assert "needs a race" in texts(app)
    assert not app.error
    assert any(button.label == "Finetune" for button in app.button)


def test_choices_are_in_the_link_and_outlive_other_pages(doubtful, asked):
    chosen = LINK | {"objective": "memory", "gib": "12.5", "steps": "150", "judged": "given", "output": "my-model"}
    app = opened("prove", **chosen)
    assert sentence(app)
    assert not app.warning
    for page in ("decide", "home", "present", "prove"):
        app.switch_page(f"views/{page}.py").run()
        assert {name: app.session_state[name] for name in ("objective", "gib", "steps", "judged", "output")} == {
            "objective": "memory", "gib": 12.5, "steps": 150, "judged": "given", "output": "my-model"
        }  # fmt: skip
    app.button[-1].click().run()
    ((_, arguments, _, out),) = asked
    assert {"--objective=memory 12.5", "--steps=150", "--eval=sample:sentence_to_json_eval"} <= set(arguments)
    assert out.name == "my-model"
    assert not any(word.startswith("--epochs") for word in arguments)


def test_choices_stay_while_the_page_shows_the_other_form(doubtful):
    app = opened("prove", **LINK, objective="time", hours="3")
    app.button_group(key="start").set_value("validate").run()
    assert [button.label for button in app.button] == ["Start"]
    assert (app.session_state["objective"], app.session_state["hours"]) == ("time", 3)
    app.button_group(key="start").set_value("finetune").run()
    assert "--objective=time 3h" in app.code[0].value


@pytest.mark.parametrize(
    ("name", "message"),
    [("../up", "is not a valid run name"), ("/tmp/x", "is not a valid"), ("done", "already exists")],
)
def test_a_name_that_cannot_be_or_is_taken_starts_nothing(doubtful, asked, name, message):
    write_finished(doubtful / FINETUNES / "done")
    app = opened("prove", **LINK, output=name)
    app.button[-1].click().run()
    assert asked == []
    assert any(message in error.value for error in app.error)


def test_the_bundled_run_shows_a_command_and_starts_nothing():
    app = opened("prove", prove="true", start="finetune")
    assert app.button[-1].disabled
    assert app.code[0].value.endswith("--out=example-finetuned")
    assert "Analyze a model on the page Data" in texts(app)


def test_adapters_of_the_setup_do_not_count_and_the_page_says_so(doubtful, asked):
    app = opened("prove", **LINK, adapters="true")
    assert "trains whole layers" in texts(app)


@pytest.mark.parametrize("paths", ["", "1"])
def test_a_finished_finetune_says_what_it_chose_and_where_its_model_is(doubtful, runs, monkeypatch, paths):
    monkeypatch.setenv(PATHS_VARIABLE, paths)
    folder = write_finished(doubtful / FINETUNES / "best")
    running(runs, folder)
    job(runs, "2-done", end=JobEnd(state="done", ended=9.0), command=("finetune", "--model=m", "--data=d.jsonl"))
    app = opened("prove", run="doubtful")
    assert sentence(app)
    shown = texts(app)
    for line in finetune_lines(report(folder)):
        assert escaped(line) in shown
    rows = next(frame.value for frame in app.dataframe if "compute, whole finetune" in frame.value)
    assert list(rows["variant"]) == ["train all layers", "freeze 7 (chosen)", "freeze 20"]
    command, python = (
        next(code.value for code in app.code if start in code.value) for start in ("semfreeze finetune ", "GuidedReq")
    )
    assert "semfreeze finetune --model=m --data=d.jsonl --out=" in command
    assert "GuidedRequest(" in python
    assert (escaped(str(folder)) in shown) is bool(paths)
    assert (PRIVATE_FOLDER in shown) is bool(paths)
    badges = {depth: html_of(opened("decide", run="doubtful", depth=depth)) for depth in ("7", "8")}
    assert ">checked</span>" in badges["7"], "the race chose this depth"
    assert ">estimated</span>" in badges["8"]
    if not paths:
        assert str(runs) not in shown.replace("\\", "")
        assert "kept on the server under the name best" in shown


def test_a_finetune_that_runs_says_what_it_does_and_what_the_race_knows(doubtful, runs):
    folder = write_racing(
        doubtful / FINETUNES / "best", {"depth:7": 1.25}, full=[trial(1e-4, 1.5), trial(3e-4, 1.9, "behind")]
    )
    running(runs, folder, Race="Race: freeze 7 and all.", full="a trial", Finetune=f"Finetune: {runs}/x.jsonl")
    app = opened("prove", run="doubtful")
    assert sentence(app)
    shown = texts(app)
    assert escaped("Race: freeze 7 and all.") in shown
    assert "a trial" not in shown, "the table has it"
    assert "Finetune: x.jsonl" in shown.replace("\\", "")
    assert "Lowest eval loss so far: freeze 7, 1.250" in shown
    (rows,) = (frame.value for frame in app.dataframe)
    assert list(rows["variant"]) == ["freeze 7", "train all layers"]
    (race,) = [chart for chart in app.get("plotly_chart") if "optimizer steps of the race" in chart.proto.spec]
    assert "train all layers, rate 3e-4, stopped" in race.proto.spec
    (folder / DECISION / RACE_FOLDER / RACE_RESULT).write_text(raced().model_dump_json())
    app.run()
    (rows,) = (frame.value for frame in app.dataframe)
    assert list(rows["variant"])[1] == "freeze 7 (chosen)"


def test_a_finetune_that_was_stopped_can_be_resumed(doubtful, runs):
    folder = write_racing(doubtful / FINETUNES / "best", full=[trial(1e-4, 1.5)])
    running(runs, folder, Race="Race: soon.")
    (runs / JOBS / "1-finetune" / "end.json").write_text(JobEnd(state="cancelled", ended=9.0).model_dump_json())
    app = opened("prove", run="doubtful")
    assert "stopped before its end" in texts(app)
    assert "No variant is evaluated yet" in texts(app)
    assert any(button.label == "Resume" for button in app.button)
