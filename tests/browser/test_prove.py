"""From a plan to its proof in a real browser, with a tiny model: launch, follow, reload, cancel, resume, verdict.

And the form of a guided finetune: upload, start, follow, cancel.
"""

import pytest

from semfreeze_core.runs.finetunes import list_finetunes
from semfreeze_core.runs.folder import write_run
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.wording.validation import verdict_sentence
from tests.browser.conftest import Reader, sync_api
from tests.browser.served import served
from tests.core.runs.tiny_run import read_tiny, task_rows, write_jsonl
from tests.core.saved_models import save_tiny


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    """A server on a folder with one run of a tiny model, and that folder."""
    folder = tmp_path_factory.mktemp("stocked")
    save_tiny(folder / "model")
    data = write_jsonl(folder / "train.jsonl", task_rows(64))
    write_run(read_tiny(folder / "model", data), folder / "runs" / "tiny")
    with served(folder) as address:
        yield address, folder / "runs"


@pytest.fixture(scope="module")
def address(stocked):
    return stocked[0]


def set_number(reader, label, value):
    field = reader.window.get_by_role("spinbutton", name=label)
    field.fill(str(value))
    field.press("Enter")
    reader.settle()


def ask_for_proof(reader, evaluation):
    """From the plan to the form, filled for two arms and one seed, and started."""
    window = reader.window
    reader.open("decide?run=tiny&depth=2")
    window.get_by_role("link", name="Test this depth by a real finetune").click()
    window.wait_for_url("**/prove**")
    reader.settle()
    assert window.get_by_role("spinbutton", name="Freeze depth").input_value() == "2"
    window.get_by_role("radiogroup", name="Evaluate on").get_by_role("radio", name="upload").click()
    window.locator("input[type=file]").set_input_files(evaluation)
    window.get_by_text("Estimated:").wait_for()
    reader.settle()
    for arm in ("half", "lora", "planned+lora"):
        window.get_by_role("button", name=f"Remove {arm}", exact=True).click()
        reader.settle()
    set_number(reader, "Steps", 400)
    set_number(reader, "Seeds", 1)
    set_number(reader, "Eval examples", 16)
    window.get_by_role("button", name="Start", exact=True).click()


@pytest.mark.slow
def test_a_plan_is_put_to_the_test(reader, context, stocked, tmp_path):
    window, runs = reader.window, stocked[1]
    ask_for_proof(reader, write_jsonl(tmp_path / "eval.jsonl", task_rows(24, seed=9)))
    assert reader.sentence.startswith("Not measured yet: no finetune has tested this run's plan")
    window.get_by_text("planned (seed 0): step").wait_for(timeout=300_000)  # an arm trains, and is followed
    window.reload()
    second = Reader(context.new_page(), reader.address)
    second.window.goto(window.url)
    for tab in (window, second.window):
        tab.get_by_text("full (seed 0): step").wait_for(timeout=300_000)  # and the next one, in both tabs
    second.open_jobs()
    second.window.get_by_role("button", name="Cancel").first.click()
    second.window.get_by_text(": canceled").first.wait_for()
    second.window.close()
    ((name, begun),) = list_validations(runs / "tiny").items()
    assert not begun.finished
    assert [run.arm for run in begun.runs] == ["planned"]

    reader.go_to_top()
    reader.open_jobs()
    window.get_by_role("button", name="Resume").first.click()
    window.get_by_text("done in").first.wait_for(timeout=300_000)
    ((again, report),) = list_validations(runs / "tiny").items()
    assert (again, report.finished, report.freeze_depth) == (name, True, 2)
    assert begun.runs[0] in report.runs, "what was done is not done again"
    sync_api.expect(window.locator("h2").first).to_contain_text(verdict_sentence(report, "compute"))
    assert reader.complaints == []


@pytest.mark.slow
def test_a_finetune_is_started_followed_and_canceled(reader, stocked, tmp_path):
    window, runs = reader.window, stocked[1]
    reader.open("prove?run=tiny&prove=true&start=finetune&steps=400&objective=quality")
    window.get_by_role("radio", name="upload").click()
    window.locator("input[type=file]").set_input_files(write_jsonl(tmp_path / "task.jsonl", task_rows(330, seed=5)))
    window.get_by_text("Race: train all layers,").wait_for()  # what it will do, before it starts
    assert "held out" in window.get_by_role("radiogroup", name="Eval examples").inner_text()
    reader.settle()
    window.get_by_role("button", name="Finetune", exact=True).click()
    window.get_by_text("66 of 330 rows are held out for evaluation.", exact=True).wait_for()  # by the job
    assert window.get_by_role("combobox", name="Finetune").input_value() == "task-finetuned"
    reader.open_jobs()
    window.get_by_role("button", name="Cancel").first.click()
    window.get_by_role("button", name="Resume").first.wait_for()
    assert window.get_by_text("finetune of tiny: canceled", exact=True).count() == 1
    assert not any(finetune.report for finetune in list_finetunes(runs / "tiny").values())
    assert reader.complaints == []
