"""The page of a new analysis takes and refuses the files that the commands do, for the same reasons."""

import pytest

from semfreeze_core.errors import InputError
from semfreeze_dashboard.data import task_data
from semfreeze_dashboard.data.analysis_request import AnalysisForm, keep_upload
from semfreeze_dashboard.data.run_folder import PATHS_VARIABLE
from tests.core.cli.test_cli_same_judgment import REFUSED, TAKEN, N
from tests.core.saved_models import save_tiny
from tests.core.tiny_tokenizer import CHATML, build_tiny_tokenizer

SKIPPED = {
    "a wrong row",
    "a line that is no JSON",
    "a comment before the first row",
    "a key given twice",
    "a row that is a list",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a chat model."""
    folder = tmp_path_factory.mktemp("model")
    save_tiny(folder, tokenizer=build_tiny_tokenizer(chat_template=CHATML))
    return folder


@pytest.fixture
def judgment(model, runs, monkeypatch):
    """What the page finds in an uploaded file: how many rows it takes and skips, or why it refuses it."""
    monkeypatch.setenv(PATHS_VARIABLE, "1")

    def judge(text):
        upload = str(keep_upload(runs, "task.jsonl", text.encode()))
        try:
            task_data.columns(upload, None, task_data.stamp_of(upload))
            preview = task_data.data_preview(AnalysisForm(str(model), upload), task_data.stamp_of(upload))
        except InputError as error:
            return str(error)
        return preview.n_usable, preview.n_skipped

    return judge


@pytest.mark.parametrize("name", TAKEN)
def test_the_page_takes_what_the_commands_take_and_skips_the_same_rows(judgment, name):
    usable, skipped = judgment(TAKEN[name])
    assert usable + skipped == TAKEN[name].count("\n")
    assert skipped == (1 if name in SKIPPED else 0)
    assert usable >= N - 1


@pytest.mark.parametrize("name", REFUSED)
def test_the_page_refuses_what_the_commands_refuse_for_the_same_reason(judgment, name):
    text, reason = REFUSED[name]
    assert reason in judgment(text)
