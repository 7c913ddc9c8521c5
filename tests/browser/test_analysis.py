"""From an upload to a plan in a real browser, with a tiny model: preview, job, reload, cancel, second tab."""

import json

import pytest

from semfreeze_core.runs.plans import read_plan
from tests.browser.conftest import Reader, sync_api
from tests.core.runs.tiny_run import task_rows, write_jsonl
from tests.core.saved_models import save_tiny

FORM = "data?do=New+analysis"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny(folder)
    return folder


def fill(reader, model, upload):
    """The form with a local folder and an upload, until the preview of both stands."""
    window = reader.window
    window.goto(f"{reader.address}/{FORM}")
    reader.settle()
    window.get_by_text("local folder", exact=True).click()
    window.get_by_label("Folder with config.json").fill(str(model))
    window.get_by_label("Folder with config.json").press("Enter")
    reader.settle()
    window.get_by_text("upload", exact=True).click()
    window.locator("input[type=file]").set_input_files(upload)
    # Until then the sample's preview stands there, which says as much.
    name = window.get_by_role("textbox", name="Name of the run")
    sync_api.expect(name).to_have_value(f"tiny-{upload.stem.replace(' ', '-')}")
    window.get_by_text("rows can be used").wait_for()
    reader.settle()


@pytest.mark.slow
def test_an_upload_becomes_a_run_and_a_plan(reader, context, address, model, tmp_path):
    fill(reader, model, write_jsonl(tmp_path / "my task.jsonl", task_rows(64)))
    window = reader.window
    window.get_by_role("button", name="Analyze", exact=True).click()
    window.get_by_text("tiny on my task.jsonl").first.wait_for()
    window.reload()  # the job is found again, here and in a second tab
    reader.open_jobs()
    window.get_by_text("tiny on my task.jsonl").first.wait_for()
    second = Reader(context.new_page(), address)
    second.window.goto(address)
    second.open_jobs()
    second.window.get_by_text("done in").first.wait_for()
    second.window.close()
    reader.go_to_top()  # a page that is loaded again may stand where it was left
    window.get_by_role("button", name="Open tiny-my-task").click()
    window.wait_for_url("**run=tiny-my-task**")
    window.get_by_text("Analyzed examples").wait_for()  # the run, and no longer the form
    window.get_by_role("link", name="Use", exact=True).click()
    with window.expect_download() as download:
        window.get_by_role("button", name="Download plan JSON").click()
    download.value.save_as(tmp_path / "plan.json")
    plan = read_plan(tmp_path / "plan.json")
    assert plan.model.source == str(model)
    assert json.loads((tmp_path / "plan.json").read_text())["n_layers"] == plan.n_layers
    assert reader.complaints == []


@pytest.mark.slow
def test_a_cancelled_analysis_says_so_and_makes_way(reader, model, tmp_path):
    fill(reader, model, write_jsonl(tmp_path / "other.jsonl", task_rows(64, seed=1)))
    window = reader.window
    window.get_by_role("button", name="Analyze", exact=True).click()
    reader.open_jobs()
    window.get_by_role("button", name="Cancel").first.click()
    window.get_by_text(": canceled").first.wait_for()
    reader.settle()
    assert window.get_by_role("button", name="Cancel").count() == 0
    assert reader.complaints == []


@pytest.mark.slow
def test_bad_uploads_are_refused_in_a_sentence(reader, tmp_path):
    window = reader.window
    window.goto(f"{reader.address}/{FORM}")
    reader.settle()
    window.get_by_text("upload", exact=True).click()
    for name, content, words in (
        ("zero.jsonl", b"", "is empty"),
        ("binary.jsonl", b"\0\1\2" * 99, "is binary"),
        ("columns.csv", b"a,b\n1,2\n" * 40, "fields are not clear"),
    ):
        (tmp_path / name).write_bytes(content)
        window.locator("input[type=file]").set_input_files(tmp_path / name)
        window.locator("[data-testid=stAlert]").get_by_text(words).wait_for()
        reader.settle()
        assert window.get_by_role("button", name="Analyze", exact=True).count() == 0
    assert reader.complaints == []
