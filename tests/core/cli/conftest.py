import shutil
from dataclasses import replace

import numpy as np
import pytest

from semfreeze_core.progress import ProgressEvent
from semfreeze_core.runs.folder import read_run, write_run
from semfreeze_core.storage import runs_folder
from semfreeze_core.workflow import analysis as steps
from tests.core.cli.terminal import ask
from tests.core.runs.tiny_run import read_tiny, task_rows, write_jsonl
from tests.core.saved_models import save_tiny


@pytest.fixture(scope="module", autouse=True)
def loads_quickly(measured_once, no_garbage):
    """These tests are of commands, not of how they load a model."""


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """Everything semfreeze keeps, and every relative path, is below the test's own folder."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SEMFREEZE_HOME", str(folder))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with the models `tied` and `untied` (Llama) and `gpt2`."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny(folder / "tied", "llama", tied=True)
    save_tiny(folder / "untied", "llama", tied=False)
    save_tiny(folder / "gpt2", "gpt2")
    return folder


@pytest.fixture(scope="session")
def task(tmp_path_factory):
    """A task file of 48 rows with the fields prompt, completion and label."""
    return write_jsonl(tmp_path_factory.mktemp("task") / "task.jsonl", task_rows())


@pytest.fixture(scope="session")
def readings(models, task, tmp_path_factory):
    """A finished run of each model, below one folder."""
    folder = tmp_path_factory.mktemp("readings")
    for name in ("tied", "untied", "gpt2"):
        write_run(read_tiny(models / name, task), folder / name)
    return folder


@pytest.fixture
def stored(readings, home):
    """Puts a finished run into the store under the model's name."""

    def put(name):
        shutil.copytree(readings / name, runs_folder() / name)
        return name

    return put


@pytest.fixture
def quick_umap(monkeypatch):
    """Places drawn from the seed and the number of neighbors stand for UMAP's, whose first layout takes long."""

    def lay_out(points, seed, n_neighbors, progress):
        progress(ProgressEvent("Loading UMAP"))
        return np.random.default_rng([seed, n_neighbors]).normal(size=(len(points), 2)).astype(np.float32)

    monkeypatch.setattr("semfreeze_core.semantics.umap_projection._layout", lay_out)


@pytest.fixture
def read_already(readings, monkeypatch):
    """`analyze` finds its reading done, that of the untied model on the task: for tests of what comes after it."""
    run = read_run(readings / "untied")
    begun = replace(run, display=None)
    analysis = steps.Analysis(begun, lambda progress: run.display, lambda progress: iter(()))
    monkeypatch.setattr(steps, "begin_shared_analysis", lambda request, progress: analysis)


@pytest.fixture
def analyze(models, task):
    """Runs `analyze` quietly in float32 on the CPU, on the untied model and the task unless told otherwise."""

    def call(*args, model=models / "untied", data=task):
        return ask("analyze", "--model", model, "--data", data, "--dtype", "float32", "--device", "cpu", "-q", *args)

    return call


@pytest.fixture
def rows_file(tmp_path):
    """Writes rows as a task file."""

    def write(rows, name="rows.jsonl"):
        return write_jsonl(tmp_path / name, rows)

    return write


@pytest.fixture
def nothing_kept(home):
    """Whatever was refused left nothing in the store, not even hidden; tests that begin with runs have this off."""
    yield
    if not (home / "begun").exists():
        assert [p for p in home.rglob("*") if p.is_file()] == []


@pytest.fixture
def begun(home):
    """For tests with runs in the store, which look themselves."""
    home.mkdir(exist_ok=True)
    (home / "begun").touch()


@pytest.fixture
def never_loaded(monkeypatch):
    """No model is loaded: for refusals that come before any work."""

    def load(*_, **__):
        raise AssertionError("work was begun")

    monkeypatch.setattr(steps, "load_causal_lm", load)
