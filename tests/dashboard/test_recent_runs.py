"""The newest runs on Home: what each box says, what it reads for it, and a click that opens the run."""

import json
import shutil

import pytest

from semfreeze_core.errors import RunError
from semfreeze_core.plan import make_plan
from semfreeze_core.plan.make import recommended_depth
from semfreeze_core.runs.folder import MANIFEST, read_traces
from semfreeze_core.runs.store import example_run
from semfreeze_core.wording.plan import depth_headline
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.analysis_text import escaped
from tests.dashboard.test_pages import opened, sentence

ARRAYS = "arrays.safetensors"


@pytest.fixture
def many(runs):
    """Seven runs named by the year of their analysis, without the files that only an open run needs."""
    for year in range(2031, 2038):
        folder = runs / f"of-{year}"
        folder.mkdir()
        shutil.copy(example_run() / ARRAYS, folder)
        document = json.loads((example_run() / MANIFEST).read_text())
        document["provenance"]["created"] = f"{year}-01-02T03:04:05+00:00"
        (folder / MANIFEST).write_text(json.dumps(document))
    return runs


def buttons(app):
    return [button for button in app.button if str(button.key).startswith("open ")]


def frozen(app):
    """How many layers each box shows as frozen."""
    return [body.count(": frozen") for html in app.get("html") if "height:10px" in (body := html.proto.body)]


def test_the_newest_six_are_shown_and_the_library_has_all(many):
    app = opened()
    assert sentence(app)
    assert [button.key for button in buttons(app)] == [f"open of-{year}" for year in range(2037, 2031, -1)]
    assert "All 8 runs, in the Library" in [link.proto.label for link in app.get("page_link")]


def test_a_box_says_what_was_analyzed_planned_and_measured(example, runs):
    shutil.copytree(example_run(), runs / "copy")
    shutil.rmtree(runs / "copy" / "validations")
    app = opened()
    depth = make_plan(example.run).freeze_depth
    assert len([m for m in app.markdown if m.value == depth_headline(depth, 30)]) == 2
    assert frozen(app) == [depth, depth]
    captions = [caption.value for caption in app.caption]
    manifest = example.run.manifest
    assert len([caption for caption in captions if caption == escaped(page_text.analyzed_line(manifest))]) == 2
    assert len([caption for caption in captions if caption == "Not measured yet."]) == 1
    measured = [caption for caption in captions if caption.startswith(f"Measured (freeze {depth} of 30 layers; ")]
    assert "100% of full finetuning's loss reduction (95% CI" in measured[0]


def test_a_click_opens_the_run(doubtful):
    app = opened()
    (button,) = buttons(app)
    button.click().run()
    assert sentence(app).startswith("Run doubtful: these examples do not show how deep to freeze.")
    assert [button.key for button in buttons(app)] == ["open example"]
    (careful,) = [link.proto for link in app.get("page_link") if "to be careful" in link.proto.label]
    assert (careful.label, careful.query_string) == ("Freeze a quarter, 7, to be careful", "depth=7")
    assert "No recommendation from the auto rule." in [m.value for m in app.markdown]


def test_a_run_whose_plan_cannot_be_read_says_so_in_its_box(many):
    (many / "of-2036" / ARRAYS).write_bytes(b"damage")
    app = opened()
    assert not app.exception
    (problem,) = [m.value for m in app.markdown if "arrays.safetensors has changed" in m.value]
    assert "of-2036" in problem
    assert sorted(frozen(app)) == [0, *[19] * 5], "the others are filled all the same"


def test_the_depth_is_that_of_the_plan_and_none_where_tokens_are_new(example):
    manifest, traces, pairs = read_traces(example.folder)
    assert recommended_depth(manifest, traces["semantic"], pairs["semantic"]) == make_plan(example.run).freeze_depth
    new = manifest.model_copy(update={"model": manifest.model.model_copy(update={"new_tokens_used": 3})})
    assert recommended_depth(new, traces["semantic"], pairs["semantic"]) is None


def test_traces_of_a_run_without_its_arrays_are_refused(many):
    manifest = many / "of-2031" / MANIFEST
    document = json.loads(manifest.read_text())
    del document["files"][ARRAYS]
    manifest.write_text(json.dumps(document))
    with pytest.raises(RunError, match="damaged"):
        read_traces(many / "of-2031")
