"""Data: what a run was analyzed on, a new analysis from the form to the job, and how jobs are told."""

import json
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

import semfreeze_core.sources.models.memory_forecast
from semfreeze_core.errors import InputError
from semfreeze_core.records.job import JobEnd, JobProcess, JobSpec
from semfreeze_core.records.validation import REPORT
from semfreeze_core.runs.folder import VALIDATIONS, write_run
from semfreeze_core.runs.job_folder import END, LOG, PROCESS, SPEC, this_process
from semfreeze_core.runs.jobs import JOBS
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.runs.store import example_run
from semfreeze_core.storage import write_atomically
from semfreeze_core.wording.escaping import markdown_text
from semfreeze_dashboard.data import task_data
from semfreeze_dashboard.data.run_choice import NEW_ANALYSIS
from semfreeze_dashboard.data.run_folder import DEMO_VARIABLE, PATHS_VARIABLE
from semfreeze_dashboard.panels import jobs_panel
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.analysis_text import escaped
from semfreeze_dashboard.text.data_text import STRIP
from semfreeze_dashboard.views import data as data_view
from tests.core.runs.tiny_run import task_rows, write_jsonl
from tests.core.saved_models import save_tiny
from tests.dashboard.test_pages import opened, sentence


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny(folder)
    return folder


@pytest.fixture
def task(tmp_path):
    return write_jsonl(tmp_path / "task.jsonl", task_rows())


@pytest.fixture
def form(monkeypatch, model, task):
    """The form with a tiny model and task, on a server that only its own machine reaches."""
    monkeypatch.setenv(PATHS_VARIABLE, "1")
    # The page begins with the bundled model, whose conversion would take most of a minute in each test's own home.
    monkeypatch.setattr("semfreeze_core.sources.models.opening.convert_embedded", lambda progress: model)
    app = opened("data", do=NEW_ANALYSIS)
    app.button_group(key="form model-kind").set_value("folder")
    app.button_group(key="form data-kind").set_value("path").run()
    app.text_input(key="form data-path").set_value(str(task))
    app.text_input(key="form model-folder").set_value(str(model)).run()
    assert not app.exception
    return app


def figures(app):
    """Each figure's value and what stands below it, by its title."""
    return {metric.label: (metric.value, metric.delta) for metric in app.metric}


def test_data_says_how_many_prompts_stand_in_the_eval_examples_too(example, runs, task):
    app = opened("data")
    assert figures(app)["Prompts in eval too"] == ("0", "of 300 eval rows")
    assert "Eval rows: sample:sentence_to_json_eval, of the newest validation." in text_of(app)
    run = example.run
    source = run.manifest.data.model_copy(update={"source": str(task)})
    write_run(replace(run, manifest=run.manifest.model_copy(update={"data": source})), runs / "mine")
    assert figures(opened("data", run="mine"))["Prompts in eval too"] == ("0", "eval rows are held out")
    (report,) = list_validations(example_run()).values()
    evaluation = write_jsonl(runs.parent / "eval.jsonl", [*task_rows()[:3], {"prompt": "New", "completion": " a"}])
    settings = report.settings.model_copy(update={"eval": str(evaluation)})
    document = report.model_copy(update={"settings": settings}).model_dump_json()
    write_atomically(runs / "mine" / VALIDATIONS / "one" / REPORT, document)
    assert figures(opened("data", run="mine"))["Prompts in eval too"][0] == "3"
    evaluation.unlink()
    assert figures(opened("data", run="mine"))["Prompts in eval too"][0] == "not known"


def text_of(app):
    return " ".join(element.value for element in (*app.markdown, *app.caption)).replace("\\", "")


def job(runs, name, process=None, end=None, log="", command=None):
    """A job's folder as a process would have left it."""
    folder = runs / JOBS / name
    spec = JobSpec(command=command or ("analyze", name), title=name, out=str(runs / name), created=1.0)
    write_atomically(folder / SPEC, spec.model_dump_json())
    write_atomically(folder / LOG, log)
    if process is not None:
        write_atomically(folder / PROCESS, process.model_dump_json())
    if end is not None:
        write_atomically(folder / END, end.model_dump_json())


def test_form_shows_how_the_data_would_be_read_and_what_that_takes(form, task):
    assert not form.error, [error.value for error in form.error]
    assert "48 of 48 rows can be used." in text_of(form)
    assert "Read as prompt and completion: the prompt from 'prompt'" in text_of(form)
    assert ":orange-background[" in text_of(form)
    assert "The analysis needs about" in text_of(form)
    assert f"--data={task}" in form.code[-1].value


def test_form_starts_the_command_it_shows(form, runs, monkeypatch, model, task):
    asked = []

    def submit(*what):
        asked.append(what)
        return SimpleNamespace(name="job", spec=SimpleNamespace(out=str(what[-1])))

    monkeypatch.setattr(data_view, "submit", submit)
    form.button[-1].click().run()
    assert [toast.value for toast in form.toast] == [
        markdown_text("Started: tiny on task.jsonl. Its progress is below the button.")
    ]
    ((folder, command, title, out),) = asked
    assert (folder, title, out) == (runs, "tiny on task.jsonl", runs / "tiny-task")
    assert command == ("analyze", f"--model={model}", f"--data={task}")


def upload(app, name, rows):
    content = "\n".join(map(json.dumps, rows)).encode()
    return app.file_uploader(key="upload data").set_value((name, content, "application/json")).run()


def test_columns_that_no_name_tells_are_asked_for(form):
    form.button_group(key="form data-kind").set_value("upload").run()
    asks = [{"Nr": i, "Frage": f"Was ist {i}?", "Antwort": f"Es ist {i}."} for i in range(8)]
    app = upload(form, "fragen.jsonl", asks)
    app.selectbox(key="form read-as").set_value("pair").run()
    assert [info.value for info in app.info] == [page_text.CHOOSE_FIRST], "a number is no prompt"
    app.selectbox(key="form column-prompt").set_value("Frage").run()
    app.selectbox(key="form column-completion").set_value("Antwort").run()
    assert not app.info
    assert "8 of 8 rows can be used" in text_of(app)


def test_another_upload_begins_with_its_own_columns(form):
    form.button_group(key="form data-kind").set_value("upload").run()
    asks = [{"question": f"What is {i}?", "answer": f"It is {i}.", "topic": "numbers"} for i in range(8)]
    app = upload(form, "asks.jsonl", asks)
    assert "8 of 8 rows can be used." in text_of(app)
    assert "the prompt from 'question'" in text_of(app)
    app.selectbox(key="form read-as").set_value("pair").run()
    app.selectbox(key="form column-prompt").set_value("topic").run()
    app.selectbox(key="form label").set_value("topic").run()
    assert "--prompt-field=topic" in app.code[-1].value
    pairs = [{"prompt": f"Count to {i}.", "completion": f"{i}", "lang": "en"} for i in range(8)]
    app = upload(app, "pairs.jsonl", pairs)
    assert not app.error, [error.value for error in app.error]
    assert app.selectbox(key="form read-as").value == "guess"
    assert "-field" not in app.code[-1].value
    app.selectbox(key="form read-as").set_value("pair").run()
    assert app.selectbox(key="form column-prompt").value == "prompt"
    assert app.selectbox(key="form column-prompt").options == ["prompt", "completion", "lang"]
    assert app.selectbox(key="form label").value == "none"


def test_an_upload_that_is_no_data_is_refused_by_its_own_name(form, runs):
    form.button_group(key="form data-kind").set_value("upload").run()
    app = form.file_uploader(key="upload data").set_value(("plan.json", b'{"kind": "plan"}', "application/json")).run()
    (error,) = app.error
    assert error.value.startswith("plan.json holds an object")
    assert str(runs) not in error.value


def test_form_refuses_what_cannot_fit_with_the_reason(form, monkeypatch):
    monkeypatch.setattr(semfreeze_core.sources.models.memory_forecast, "_PROCESS_BYTES", 2**60)
    form.run()
    assert "Not enough memory" in form.error[0].value
    assert form.button[-1].disabled


@pytest.mark.parametrize("name", ["../up", "example", "a b"])
def test_form_refuses_a_name_that_is_none(form, name):
    form.text_input(key="form name-tiny-task").set_value(name).run()
    assert "is not a valid run name" in form.error[0].value


def test_form_does_not_write_over_a_run(form, runs):
    (runs / "mine").mkdir()
    form.text_input(key="form name-tiny-task").set_value("mine").run()
    form.button[-1].click().run()
    assert "already exists" in form.error[0].value
    assert not (runs / JOBS).exists()


def test_form_says_what_is_wrong_with_model_and_data(form, tmp_path):
    (tmp_path / "empty").mkdir()
    form.text_input(key="form model-folder").set_value(str(tmp_path / "empty")).run()
    assert "expected a config.json" in form.error[0].value
    form.text_input(key="form data-path").set_value(str(tmp_path / "absent.jsonl")).run()
    assert "does not exist" in form.error[0].value


def test_form_maps_columns_that_have_other_names(form, tmp_path):
    rows = [{"q": row["prompt"], "a": row["completion"]} for row in task_rows()]
    form.text_input(key="form data-path").set_value(str(write_jsonl(tmp_path / "qa.jsonl", rows))).run()
    assert "fields are not clear" in form.error[0].value
    assert "under Read it" in form.error[0].value
    assert "--" not in form.error[0].value
    form.selectbox(key="form read-as").select("pair").run()
    assert not form.error
    assert "prompt from 'q', completion from 'a'" in text_of(form)
    assert "--prompt-field=q --completion-field=a" in form.code[-1].value


def test_form_starts_from_the_columns_that_the_data_most_likely_mean(form, tmp_path):
    rows = [{"id": str(i), "instruction": "Add.", "input": f"{i}", "output": f"{i}"} for i in range(40)]
    rows[7]["output"] = 7
    form.text_input(key="form data-path").set_value(str(write_jsonl(tmp_path / "alpaca.jsonl", rows))).run()
    assert not form.error
    assert "Read as Alpaca" in text_of(form).replace("\\", "")
    (chips,) = [element.proto.body for element in form.get("html") if "ShareGPT" in element.proto.body]
    assert re.findall('aria-current="true".*?><span[^>]*>(.*?)<', chips) == ["Alpaca"]
    assert "1 of 40 rows is skipped: line 8" in text_of(form).replace("\\", "")
    assert [button.label for button in form.get("download_button")] == ["Download skipped rows"]
    form.selectbox(key="form read-as").select("template").run()
    assert form.selectbox(key="form column-completion").value == "output"
    assert form.text_input(key="form template").value == "{instruction}\\n{input?}\\n"
    assert not form.error


def test_other_data_begin_with_a_mapping_of_their_own(form, tmp_path):
    rows = [{"q": row["prompt"], "a": row["completion"]} for row in task_rows()]
    form.text_input(key="form data-path").set_value(str(write_jsonl(tmp_path / "qa.jsonl", rows))).run()
    form.selectbox(key="form read-as").select("pair").run()
    assert form.selectbox(key="form column-prompt").value == "q"
    other = [{"x": "more", **row} for row in task_rows()]
    form.text_input(key="form data-path").set_value(str(write_jsonl(tmp_path / "other.jsonl", other))).run()
    assert not form.error, [error.value for error in form.error]
    assert form.selectbox(key="form read-as").value == "guess"
    form.selectbox(key="form read-as").select("pair").run()
    assert form.selectbox(key="form column-prompt").value == "prompt"


def test_form_keeps_what_was_typed_while_another_page_is_looked_at(form):
    form.switch_page("views/analyze.py").run()
    form.switch_page("views/data.py").run()
    form.button_group(key="do").set_value(NEW_ANALYSIS).run()
    assert form.text_input(key="form model-folder").value


def test_the_open_run_shows_what_it_was_analyzed_on(example):
    app = opened("data")
    data = example.run.manifest.data
    assert (
        sentence(app)
        .replace("\\", "")
        .startswith(f"{data.n_examples} of {data.n_usable} usable rows of sample:sentence_to_json_train were analyzed")
    )
    shown = {metric.label: (metric.value, metric.delta) for metric in app.metric}
    assert shown["Usable rows"] == ("700", "0 of 700 skipped")
    assert shown["Tokens per example"][0] == f"{example.run.examples['n_tokens'].median():,.0f}"
    (table,) = [frame.value for frame in app.dataframe if "prompt ends" in frame.value.columns]
    assert len(table) == data.n_examples
    display = example.run.display
    first = example.run.examples.iloc[int(display.example[: len(display.read_top)].min())]
    assert escaped(first["completion"].strip()) in " ".join(text.value for text in app.markdown)
    assert len(table[STRIP].dropna()) == len(set(display.example[: len(display.read_top)]))
    (strip,) = [
        element.proto.body for element in app.get("html") if "predicted from hidden state" in element.proto.body
    ]
    assert strip.count("<span") <= first["n_supervised"]


def test_a_run_that_cannot_be_read_is_refused_on_data(doubtful):
    (doubtful / "arrays.safetensors").write_bytes(b"damage")
    app = opened("data", run="doubtful")
    assert not app.exception
    assert "Choose another run" in app.error[0].value


def test_visitors_from_elsewhere_cannot_name_files_of_this_machine(monkeypatch):
    def refuse(*what):
        raise InputError("not looked at")

    monkeypatch.setattr(task_data, "data_preview", refuse)
    app = opened("data", do=NEW_ANALYSIS)
    assert not app.exception
    assert set(app.button_group(key="form model-kind").options) == {"bundled", "hub id"}
    assert set(app.button_group(key="form data-kind").options) == {"sample", "upload", "hub dataset"}


def test_a_demonstration_starts_nothing(monkeypatch):
    monkeypatch.setenv(DEMO_VARIABLE, "1")
    app = opened("data", do=NEW_ANALYSIS)
    assert "700 usable rows" in sentence(app)
    assert not app.button
    assert not app.file_uploader


def test_jobs_are_told_by_their_state(runs):
    gone = JobProcess(pid=2**22, born=1.0, host=this_process().host, turn=5.0)
    job(runs, "1-done", gone, JobEnd(state="done", ended=9.0))
    job(runs, "2-failed", gone, JobEnd(state="failed", ended=9.0), "semfreeze: x.jsonl is empty.\n")
    job(runs, "3-dead", gone, log="Killed\n")
    job(runs, "4-running", this_process(time.time()))
    job(runs, "5-queued", this_process())
    app = opened()
    assert sentence(app)
    text = text_of(app)
    for part in (
        "1-done**: done in 4.0 s",
        "x.jsonl is empty.",
        "3-dead**: stopped without an error message",
        "4-running**: running for",
        "5-queued**: queued, behind 1 other",
    ):
        assert part in text
    assert [button.label for button in app.button].count("Cancel") == 2
    assert any("Killed" in code.value for code in app.code)


def test_an_analysis_is_followed_below_the_form_that_starts_them(form, runs):
    job(runs, "4-running", this_process(time.time()))
    job(runs, "5-other", this_process(), command=("validate", "5-other"))
    keys = [button.key for button in form.run().button if button.label == "Cancel"]
    assert keys == ["cancel-5-other above", "cancel-4-running above", "cancel-4-running on the page"]


@pytest.mark.parametrize("end", ["cancelled", "failed", "dead"])
def test_finetunes_that_stopped_early_resume_as_the_same_job(runs, monkeypatch, end):
    asked = []
    monkeypatch.setattr(jobs_panel, "submit", lambda *what: asked.append(what))
    gone = JobProcess(pid=2**22, born=1.0, host=this_process().host, turn=5.0)
    command = ("validate", "example", "--train=sample:sentence_to_json_train")
    for name in ("1-older", "2-newer"):
        job(runs, name, gone, None if end == "dead" else JobEnd(state=end, ended=9.0), command=command)
    job(runs, "3-analysis", gone, JobEnd(state="cancelled", ended=9.0))
    app = opened()
    (resume,) = [button for button in app.button if button.label == "Resume"]
    resume.click().run()
    assert asked == [(runs, command, "2-newer", runs / "2-newer")]
    assert any("2-newer resumes" in toast.value for toast in app.toast)


def test_a_finished_job_opens_its_run(runs, doubtful):
    gone = JobProcess(pid=2**22, born=1.0, host=this_process().host, turn=5.0)
    job(runs, "doubtful", gone, JobEnd(state="done", ended=9.0))
    app = opened()
    app.button[0].click().run()
    assert app.selectbox(key="run").value == "doubtful"


def position_of(app, key):
    """The way to a widget through the page's containers, each by its number among its neighbors."""

    def ways(node, way=()):
        if getattr(node, "key", None) == key:
            yield way
        for number, child in getattr(node, "children", {}).items():
            yield from ways(child, (*way, number))

    (way,) = ways(app.main)
    return way


def test_a_button_that_opens_a_run_stays_in_its_place_as_the_analysis_ends(form, runs, begun):
    """A press meets the button that was there, also where the page is drawn again at that moment."""
    job(runs, "begun", this_process(time.time()))
    keys = "open-begun above", "open-begun on the page"
    form.run()
    places = [position_of(form, key) for key in keys]
    job(runs, "begun", this_process(time.time()), JobEnd(state="done", ended=time.time()))
    form.run()
    assert [position_of(form, key) for key in keys] == places
    form.button(key=keys[1]).click().run()
    assert form.selectbox(key="run").value == "begun"


@pytest.mark.parametrize(("page", "key"), [("data", "form data-path"), ("prove", "form proof-steps")])
def test_a_form_stays_in_its_place_while_jobs_begin_and_end(request, runs, page, key):
    """A widget that another takes the place of is made anew in the browser, and forgets a file that is on its way."""
    if page == "data":
        app = request.getfixturevalue("form")
    else:
        request.getfixturevalue("doubtful")
        app = opened("prove", run="doubtful")
    without = position_of(app, key)
    out = str(runs / "doubtful" / "validations" / "one")
    spec = JobSpec(command=("validate", "one"), title="one", out=out, created=1.0)
    write_atomically(runs / JOBS / "one" / SPEC, spec.model_dump_json())
    write_atomically(runs / JOBS / "one" / PROCESS, this_process(turn=time.time()).model_dump_json())
    app.run()
    assert any(button.label == "Cancel" for button in app.button)
    assert position_of(app, key) == without
    write_atomically(runs / JOBS / "one" / END, JobEnd(state="cancelled", ended=time.time()).model_dump_json())
    app.run()
    assert any(button.label == "Resume" for button in app.button)
    assert position_of(app, key) == without
