import pytest

from tests.core.runs.tiny_run import read_tiny, task_rows, write_jsonl
from tests.core.saved_models import save_tiny


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
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
