"""From an upload to a plan in a real browser, with a tiny model: preview, job, reload, cancel, second tab."""

import csv
import json
import re

import pytest

from semfreeze_core.runs.plans import read_plan
from tests.browser.conftest import Reader, sync_api
from tests.core.runs.tiny_run import task_rows, write_jsonl
from tests.core.saved_models import save_tiny
from tests.core.tiny_tokenizer import CHATML, build_tiny_tokenizer

FORM = "data?do=New+analysis"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "chatty"
    save_tiny(folder, tokenizer=build_tiny_tokenizer(chat_template=CHATML))
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
    give(reader, model, upload)


def give(reader, model, upload):
    """An upload in the form that is open, until its preview stands."""
    window = reader.window
    window.locator("input[type=file]").set_input_files(upload)
    # Until then another preview stands there, which says as much.
    name = window.get_by_role("textbox", name="Name of the run")
    sync_api.expect(name).to_have_value(f"{model.name}-{upload.stem.replace(' ', '-')}")
    window.get_by_text("rows can be used").wait_for()
    reader.settle()


def open_run(window, name):
    """Press a run's button, whatever its job does at that moment."""
    window.get_by_role("button", name=f"Open {name}").first.click()
    window.wait_for_url(f"**run={name}**")


@pytest.mark.slow
def test_an_upload_becomes_a_run_and_a_plan(reader, context, address, model, tmp_path):
    fill(reader, model, write_jsonl(tmp_path / "my task.jsonl", task_rows(64)))
    window = reader.window
    reader.go_to_top()
    analyze = window.get_by_role("button", name="Analyze", exact=True)
    sync_api.expect(analyze).to_be_in_viewport()
    sync_api.expect(window.get_by_text("Of my task.jsonl, 64 of 64 rows can be used")).to_be_visible()
    analyze.click()
    progress = window.get_by_text(re.compile("tiny on my task.jsonl: (queued|running for|done in)"))
    sync_api.expect(progress).to_be_in_viewport()  # where it was started, without scrolling
    window.reload()  # the job is found again, here and in a second tab
    reader.open_jobs()
    window.get_by_text("tiny on my task.jsonl").first.wait_for()
    second = Reader(context.new_page(), address)
    second.window.goto(address)
    second.open_jobs()
    second.window.get_by_text("done in").first.wait_for()
    second.window.close()
    reader.go_to_top()  # a page that is loaded again may stand where it was left
    open_run(window, "tiny-my-task")
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
    for name, content, message in (
        ("zero.jsonl", b"", "is empty"),
        ("binary.jsonl", b"\0\1\2" * 99, "is binary"),
        ("columns.csv", b"a,b\n1,2\n" * 40, "fields are not clear"),
    ):
        (tmp_path / name).write_bytes(content)
        window.locator("input[type=file]").set_input_files(tmp_path / name)
        window.locator("[data-testid=stAlert]").get_by_text(message).wait_for()
        reader.settle()
        assert window.get_by_role("button", name="Analyze", exact=True).count() == 0
    assert reader.complaints == []


def format_files(folder):
    """One file of each published shape, the schema that it is recognized by, and its rows: usable and all."""
    rows = task_rows(64)
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("question", "answer"))
        writer.writeheader()
        writer.writerows({"question": row["prompt"], "answer": row["completion"]} for row in rows)
    alpaca = [
        {"instruction": "Say what it is about.", "input": row["prompt"], "output": row["completion"]} for row in rows
    ]
    turns = [[{"from": "human", "value": row["prompt"]}, {"from": "gpt", "value": row["completion"]}] for row in rows]
    chats: list = [
        [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
        for row in rows
    ]
    chats[7] = "see the other file"
    return {
        folder / "table.csv": ("question and answer", 64),
        write_jsonl(folder / "alpaca.jsonl", alpaca): ("Alpaca", 64),
        write_jsonl(folder / "shared.jsonl", [{"conversations": turn} for turn in turns]): ("ShareGPT", 64),
        write_jsonl(folder / "chat.jsonl", [{"messages": chat} for chat in chats]): ("chat messages", 63),
    }


@pytest.mark.slow
def test_four_formats_are_recognized_without_a_field_name_and_a_chat_with_a_bad_row_becomes_a_plan(
    reader, chat_model, tmp_path
):
    files, window = format_files(tmp_path), reader.window
    for number, (path, (schema, n_usable)) in enumerate(files.items()):
        if number == 0:
            fill(reader, chat_model, path)
        else:
            give(reader, chat_model, path)
        assert window.locator("[aria-current=true]", has_text=schema).count() == 1
        window.get_by_text(f"{n_usable} of 64 rows can be used").wait_for()
        assert window.locator("[data-testid=stAlert]").count() == 0
    with window.expect_download() as skipped:
        window.get_by_role("button", name="Download skipped rows").click()
    skipped.value.save_as(tmp_path / "skipped.jsonl")
    (row,) = map(json.loads, (tmp_path / "skipped.jsonl").read_text().splitlines())
    assert row["row"] == 7
    assert "messages" in row["reason"]
    window.get_by_role("button", name="Analyze", exact=True).click()
    reader.open_jobs()
    open_run(window, "chatty-chat")
    window.get_by_text("63 of 63 usable rows of chat.jsonl were analyzed").wait_for()
    window.get_by_role("link", name="Use", exact=True).click()
    with window.expect_download() as download:
        window.get_by_role("button", name="Download plan JSON").click()
    download.value.save_as(tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json").model.source == str(chat_model)
    assert reader.complaints == []
