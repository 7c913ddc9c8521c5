"""Visitors of a server that others reach: what they may name, and what they learn of the machine."""

from dataclasses import replace

import pytest

from semfreeze_core.errors import InputError
from semfreeze_core.runs import jobs
from semfreeze_core.runs.folder import read_manifest, write_run
from semfreeze_core.runs.jobs import JOBS
from semfreeze_dashboard.data import task_data
from semfreeze_dashboard.data.analysis_request import UPLOADS, AnalysisForm, keep_upload
from semfreeze_dashboard.data.run_choice import NEW_ANALYSIS
from semfreeze_dashboard.data.run_folder import PATHS_VARIABLE
from semfreeze_dashboard.data.visitor_requests import require_data, require_model, submit
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.visitor_text import command_text, error_text, visitor_file, visitor_text
from tests.core.saved_models import save_tiny
from tests.dashboard.test_data import job
from tests.dashboard.test_pages import opened

PLACES = ("/etc", "/etc/passwd", "~", "~/model", "~root/x", ".", "..", "../up", "a/../../etc", "a/b/c", "./a", "C:\\x")


@pytest.mark.parametrize("name", [*PLACES, "a//b", "file:///etc", "https://a.example/b", "hf:a/b", "a b", "", "a\n"])
def test_a_visitor_names_models_as_the_hub_does(name):
    with pytest.raises(InputError, match="is not the name of a hub model"):
        require_model(name)


@pytest.mark.parametrize("name", ["embedded", "gpt2", "org/model", "org/model-1.5_b", "0-hero/m"])
def test_hub_models_and_the_bundled_one_can_be_named(name):
    require_model(name)


@pytest.mark.parametrize(
    "data",
    [
        *PLACES,
        *(f"hf:{path}" for path in PLACES),
        "hf:csv",  # a reader of local files, by the datasets library
        "hf:a/b:../c",
        "hf:a/b#/etc",
        "hf:file:///etc",
        "sample:../../x",
        "sample:absent",
        "task.jsonl",
        "",
    ],
)
def test_a_visitor_names_data_as_the_hub_does(data):
    with pytest.raises(InputError, match="is not the name of a hub dataset"):
        require_data(data)


@pytest.mark.parametrize(
    "data",
    [
        "sample:sentence_to_json_train",
        "hf:org/data",
        "hf:org/data:main",
        "hf:org/data:main#train",
        "hf:org/data#test:9",
    ],
)
def test_hub_datasets_and_samples_can_be_named(data):
    require_data(data)


def test_a_folder_with_the_name_of_a_repository_is_not_opened_in_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_model("org/model")
    (tmp_path / "org" / "model").mkdir(parents=True)
    with pytest.raises(InputError, match="'org/model' is not the name of a hub model"):
        require_model("org/model")
    with pytest.raises(InputError, match="'org/model#train' is not the name of a hub dataset"):
        require_data("hf:org/model#train")


def test_only_what_was_uploaded_can_be_read_where_uploads_are_kept(runs, tmp_path):
    upload = keep_upload(runs, "a.jsonl", b"{}")
    require_data(str(upload))
    (tmp_path / "secret.jsonl").write_text("{}")
    (runs / UPLOADS / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    for data in (runs / UPLOADS / "link.jsonl", runs / UPLOADS, runs / UPLOADS / ".." / "a.jsonl", runs / "one.jsonl"):
        with pytest.raises(InputError):
            require_data(str(data))


def test_whoever_sits_at_the_machine_names_what_is_on_it(monkeypatch):
    monkeypatch.setenv(PATHS_VARIABLE, "1")
    for path in PLACES:
        require_model(path)
        require_data(f"hf:{path}")


@pytest.mark.parametrize(
    "command",
    [
        ("analyze", "--model=/etc", "--data=sample:sentence_to_json_train"),
        ("analyze", "--model=embedded", "--data=hf:/etc"),
        ("validate", "example", "--train=/etc/passwd", "--eval=sample:sentence_to_json_eval"),
        ("validate", "example", "--train=sample:sentence_to_json_train", "--eval=hf:/etc"),
        ("validate", "/etc/passwd", "--train=/etc/passwd", "--eval=sample:sentence_to_json_eval"),
    ],
)
def test_no_job_starts_that_would_open_what_a_visitor_may_not_name(runs, monkeypatch, command):
    monkeypatch.setattr(jobs, "submit", lambda *what: pytest.fail("it started"))
    with pytest.raises(InputError, match="this server opens no folders or files of its machine for visitors"):
        submit(runs, command, "title")
    assert not (runs / JOBS).exists()


def test_the_data_of_a_run_can_be_used_again_wherever_they_are(example, runs, monkeypatch):
    manifest = example.run.manifest
    data = manifest.data.model_copy(update={"source": "hf:/srv/tasks", "split": "train"})
    write_run(replace(example.run, manifest=manifest.model_copy(update={"data": data})), runs / "own")
    started = []
    monkeypatch.setattr(jobs, "submit", lambda *what: started.append(what))
    command = ("validate", str(runs / "own"), "--train=hf:/srv/tasks#train", "--eval=sample:sentence_to_json_eval")
    submit(runs, command, "title")
    assert len(started) == 1
    with pytest.raises(InputError):
        submit(runs, ("validate", "example", *command[2:]), "title")


def test_looking_at_model_or_data_is_refused_like_starting():
    with pytest.raises(InputError, match="hub dataset"):
        task_data.columns("/etc/passwd", None, 0)
    with pytest.raises(InputError, match="hub dataset"):
        task_data.data_preview(AnalysisForm("org/model", "hf:/etc"), 0)
    for look in (lambda form: task_data.data_preview(form, 0), task_data.memory_forecast):
        with pytest.raises(InputError, match="hub model"):
            look(AnalysisForm("/etc", "sample:sentence_to_json_train"))


@pytest.fixture
def bundled(monkeypatch, tmp_path_factory):
    """A tiny model in place of the bundled one, with which the form begins and whose conversion takes a minute."""
    folder = tmp_path_factory.mktemp("bundled")
    save_tiny(folder)
    monkeypatch.setattr("semfreeze_core.sources.models.opening.convert_embedded", lambda progress: folder)


@pytest.mark.parametrize("path", ["folder", "folder/../folder"])
def test_the_hub_field_opens_no_folder_and_lists_no_files(tmp_path, bundled, path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "secret-name").write_text("x")
    app = opened("data", do=NEW_ANALYSIS)
    app.session_state["form model-kind"] = "hub"
    app.session_state["form model-hub"] = str(tmp_path / path)
    app.run()
    assert "is not the name of a hub model" in app.error[0].value
    assert "secret-name" not in app.error[0].value


def test_the_dataset_field_opens_no_folder(tmp_path, bundled):
    app = opened("data", do=NEW_ANALYSIS)
    app.button_group(key="form data-kind").set_value("hub").run()
    app.text_input(key="form data-hub").set_value(str(tmp_path)).run()
    assert "is not the name of a hub dataset" in app.error[0].value


@pytest.mark.parametrize(
    ("choice", "kind", "field"),
    [("form data-kind", "path", "form data-path"), ("form model-kind", "folder", "form model-folder")],
)
def test_a_choice_that_the_form_does_not_offer_opens_nothing(monkeypatch, choice, kind, field, tmp_path):
    looked_at = []

    def refuse(form, *stamp):
        looked_at.append((form.model, form.data))
        raise InputError("not looked at")

    monkeypatch.setattr(task_data, "data_preview", refuse)
    app = opened("data", do=NEW_ANALYSIS)
    app.session_state[choice] = kind
    app.session_state[field] = str(tmp_path)
    app.run()
    assert looked_at
    assert not any(str(tmp_path) in forms for forms in looked_at)


MESSAGES = [
    ("{home}/runs/my run/manifest.json is damaged.", "runs/my run/manifest.json is damaged."),
    ("/srv/data/x.jsonl, line 3 is not JSON", "x.jsonl, line 3 is not JSON"),
    ("'/srv/my data/x.jsonl' does not exist", "'x.jsonl' does not exist"),
    ("hf:/srv/tasks cannot be opened", "hf:tasks cannot be opened"),
    ("~/secret/x.jsonl is empty", "x.jsonl is empty"),
    ('File "/usr/lib/python3/json.py", line 3', 'File "json.py", line 3'),
    (
        "org/model on https://huggingface.co/org/model, 3 TFLOP/s",
        "org/model on https://huggingface.co/org/model, 3 TFLOP/s",
    ),
]


@pytest.mark.parametrize(("text", "shown"), MESSAGES)
def test_visitors_learn_names_of_files_and_not_where_they_lie(text, shown, tmp_path, monkeypatch):
    text = text.replace("{home}", str(tmp_path / "home"))
    assert visitor_text(text) == shown
    monkeypatch.setenv(PATHS_VARIABLE, "1")
    assert visitor_text(text) == text


@pytest.mark.parametrize("paths", ["", "1"])
def test_an_upload_is_called_by_its_own_name_and_not_by_where_it_is_kept(paths, runs, monkeypatch):
    monkeypatch.setenv(PATHS_VARIABLE, paths)
    upload = keep_upload(runs, "my data.jsonl.gz", b"x")
    assert (
        visitor_text(f"A/B: {upload} holds {upload}, line 3.")
        == "A/B: my_data.jsonl.gz holds my_data.jsonl.gz, line 3."
    )
    assert page_text.data_name(str(upload)) == "my_data.jsonl.gz"
    assert page_text.data_name(str(upload).replace(str(runs), "/moved")) == "my_data.jsonl.gz"


def test_a_command_names_folders_only_to_who_sits_at_the_machine(runs, monkeypatch):
    upload = keep_upload(runs, "a.jsonl", b"x")
    command = ("analyze", "--model=owner/name", f"--data={upload}", f"--out={runs / 'name-a'}")
    assert command_text(command) == "semfreeze analyze --model=owner/name --data=a.jsonl --out=name-a"
    monkeypatch.setenv(PATHS_VARIABLE, "1")
    assert command_text(command).endswith(f"--data={upload} --out={runs / 'name-a'}")


@pytest.fixture
def local(example, runs):
    """A run of a model and data of this machine, whose warning names its folder."""
    manifest = example.run.manifest
    identity = replace(manifest.model.identity, source="/srv/secret models/tiny")
    manifest = manifest.model_copy(
        update={
            "model": manifest.model.model_copy(update={"identity": identity}),
            "data": manifest.data.model_copy(update={"source": "/srv/secret/x.jsonl"}),
            "warnings": ["'/srv/secret/x.jsonl' holds 8 examples"],
        }
    )
    write_run(replace(example.run, manifest=manifest), runs / "own")
    return runs / "own"


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("page", [None, "data", "analyze", "decide", "prove", "use", "library", "present"])
def test_pages_of_a_run_show_visitors_no_folders(local, runs, page):
    app = opened(page, run="own", trainer="hf-trainer")
    assert not app.exception
    assert not app.error, [error.value for error in app.error]
    kinds = (app.markdown, app.caption, app.code, app.warning, app.info, app.error)
    shown = "\n".join(element.value for kind in kinds for element in kind).replace("\\", "")
    assert "/srv" not in shown
    assert str(runs) not in shown
    assert not any(folder in frame.value.to_csv() for frame in app.dataframe for folder in ("/srv", str(runs)))
    if page != "data":
        assert "tiny" in shown, "the model's own name stays"
    if page in ("decide", "data"):
        assert "x.jsonl" in shown


def test_warnings_of_a_comparison_show_visitors_no_folders(local, example, runs):
    manifest = read_manifest(local)
    model = manifest.model.model_copy(update={"real_vocab_rows": manifest.model.real_vocab_rows - 1})
    write_run(replace(example.run, manifest=manifest.model_copy(update={"model": model})), local, overwrite=True)
    app = opened("library", run="own")
    app.multiselect(key="with").set_value(["example"]).run()
    (warning,) = (element.value for element in app.warning if "Vocabularies differ" in element.value)
    assert "tiny 49,1" in warning
    assert not any(part in warning for part in ("srv", "secret"))


def test_a_file_to_download_names_folders_only_to_who_sits_at_the_machine(monkeypatch):
    text = '{"source": "/srv/secret models/tiny", "data": "hf:/srv/tasks", "other": "#!/bin/sh"}'
    sources = ("/srv/secret models/tiny", "hf:/srv/tasks", None)
    assert visitor_file(text, sources) == '{"source": "tiny", "data": "hf:tasks", "other": "#!/bin/sh"}'
    monkeypatch.setenv(PATHS_VARIABLE, "1")
    assert visitor_file(text, sources) == text


def test_an_errors_message_is_no_markdown():
    assert error_text("[x](javascript:y) :red[z] \x1b[2J") == r"\[x\](javascript\:y) \:red\[z\] \\x1b\[2J"


def test_logs_and_failures_of_jobs_show_no_folders(runs):
    from semfreeze_core.records.job import JobEnd, JobProcess

    gone = JobProcess(pid=2**22, born=1.0, host="elsewhere", turn=5.0)
    log = "reading /srv/secret place/x.jsonl\nsemfreeze: /srv/secret/x.jsonl is empty.\x1b[2J\n"
    job(runs, "1-failed", gone, JobEnd(state="failed", ended=9.0), log)
    app = opened()
    texts = [element.value for element in (*app.caption, *app.code)]
    assert any("x.jsonl is empty" in text for text in texts)
    assert not any("/srv/secret/" in text or "\x1b" in text for text in texts)


def test_a_finetune_of_a_run_may_use_its_model_and_data_wherever_they_are_and_nothing_else(local, runs, monkeypatch):
    started = []
    monkeypatch.setattr(jobs, "submit", lambda *what: started.append(what))
    command = ("finetune", "--model=/srv/secret models/tiny", "--data=/srv/secret/x.jsonl")
    submit(runs, command, "title", local / "finetunes" / "one")
    assert len(started) == 1
    for out in (None, runs / "one", runs / "other" / "finetunes" / "one"):
        with pytest.raises(InputError, match="hub model"):
            submit(runs, command, "title", out)
    for word, kind in (("--model=/etc", "hub model"), ("--data=/etc/passwd", "hub dataset"), ("--eval=/x", "hub dat")):
        with pytest.raises(InputError, match=kind):
            submit(runs, (*command, word), "title", local / "finetunes" / "one")
    assert len(started) == 1
