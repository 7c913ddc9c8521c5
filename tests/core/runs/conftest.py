import os

import pytest

from semfreeze_core.runs import job_folder as folders
from semfreeze_core.runs.job_folder import end_group
from semfreeze_core.runs.job_process import AT_ONCE_VARIABLE
from semfreeze_core.runs.jobs import JOBS, list_jobs
from tests.core.runs.held_job import STAND_STILL, HeldCommand
from tests.core.runs.left_job import GONE
from tests.core.runs.tiny_run import read_tiny, task_rows, write_jsonl
from tests.core.saved_models import save_tiny


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path, measured_once, no_garbage):
    """Everything semfreeze keeps goes below the test's own folder."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SEMFREEZE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A reading with a task null, of a tied model, lens_loss and every score included."""
    folder = tmp_path_factory.mktemp("reading")
    save_tiny(folder / "model", "llama", tied=True)
    data = write_jsonl(folder / "task.jsonl", task_rows())
    return read_tiny(folder / "model", data, lens_loss=True, scores=("gradient_norm",))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of runs; whatever still runs there is ended."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv(AT_ONCE_VARIABLE, raising=False)
    folder = tmp_path / "runs"
    yield folder
    for job in list_jobs(folder):
        if (process := folders.read_process(folder / JOBS / job.name)) and process.pid not in (os.getpid(), GONE.pid):
            end_group(process)


@pytest.fixture
def held(tmp_path, monkeypatch):
    """Makes commands that stand still until they are let go."""
    monkeypatch.setenv("PYTHONPATH", STAND_STILL)
    made = []

    def make():
        made.append(HeldCommand(tmp_path / f"held-{len(made)}"))
        return made[-1]

    yield make
    for command in made:
        command.close()
