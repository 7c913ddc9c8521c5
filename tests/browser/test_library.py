"""Runs beside each other in a real browser, and one of them renamed and deleted."""

import shutil

import pytest

from semfreeze_core.runs.store import example_run
from tests.browser.conftest import sync_api
from tests.browser.served import served


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    """A server on a folder of three runs, and that folder."""
    folder = tmp_path_factory.mktemp("stocked")
    for name in ("first", "second", "third"):
        shutil.copytree(example_run(), folder / "runs" / name)
    with served(folder) as address:
        yield address, folder / "runs"


@pytest.fixture(scope="module")
def address(stocked):
    return stocked[0]


@pytest.mark.slow
def test_three_runs_are_compared_by_a_link(reader):
    reader.window.goto(f"{reader.address}/library?run=example&with=first&with=second")
    reader.window.get_by_role("img", name="Layer stack").nth(2).wait_for()
    reader.settle()
    assert "19 of 30 (example), 19 of 30 (first), 19 of 30 (second)" in reader.sentence
    for title in (
        "Coverage: the share of the layer contributions that stays trained",
        "How far each run's states",
        "Less example's",
    ):
        assert reader.chart(title).locator(".main-svg").first.is_visible()
    assert reader.window.get_by_text("no significant difference").count() == 2
    reader.window.get_by_role("radio", name="advantage").click()
    reader.window.get_by_text("Lift over random labels of first minus that of example").wait_for()
    assert "difference=advantage" in reader.window.url
    assert reader.complaints == []


@pytest.mark.slow
def test_a_run_is_renamed_and_deleted(reader, stocked):
    window, runs = reader.window, stocked[1]
    window.goto(f"{reader.address}/library")
    table = window.get_by_test_id("stDataFrame").last
    table.wait_for()
    reader.settle()

    def pick(row):
        table.scroll_into_view_if_needed()
        reader.settle()
        box = table.bounding_box()
        window.mouse.click(box["x"] + 16, box["y"] + 35 * (row + 1) + 18)
        window.get_by_role("button", name="Rename").wait_for()

    pick(2)
    name = window.get_by_role("textbox", name="Name", exact=True)
    assert name.input_value() == "third"
    name.fill("thrice")
    name.press("Enter")
    window.get_by_role("button", name="Rename").click()
    reader.settle()
    assert sorted(path.name for path in runs.iterdir() if path.is_dir()) == ["first", "second", "thrice"]
    sync_api.expect(name).to_have_value("thrice")  # it stays the one that is picked
    window.get_by_role("button", name="Delete", exact=True).click()
    window.get_by_text("with all its validations").wait_for()
    assert (runs / "thrice").exists()
    window.get_by_role("button", name="Delete for good").click()
    sync_api.expect(window.get_by_text("2 of 2 runs")).to_be_visible()
    assert sorted(path.name for path in runs.iterdir() if path.is_dir()) == ["first", "second"]
    assert reader.complaints == []


@pytest.mark.slow
def test_a_run_is_presented_by_keyboard(reader):
    window = reader.window
    window.goto(f"{reader.address}/present?run=first")
    window.get_by_role("heading", name="Where to finetune").wait_for()
    reader.settle()
    assert not window.get_by_test_id("stSidebar").is_visible()
    for slide in ("traces", "gains", "price", "proof", "plan"):
        window.keyboard.press("ArrowRight")
        window.wait_for_url(f"**slide={slide}**")
        reader.settle()
    window.get_by_role("heading", name="Run first: Freeze the first 19 of 30 layers").wait_for()
    window.keyboard.press("ArrowLeft")
    window.wait_for_url("**slide=proof**")
    reader.settle()
    assert reader.complaints == []
