"""A run whose parts are to come: plan and contributions are shown, and a sentence where a part is missing."""

from types import SimpleNamespace

import pytest

from semfreeze_core.plan import make_plan
from semfreeze_core.records.job import JobEnd
from semfreeze_core.runs.folder import add_display, add_score, read_manifest, read_run
from semfreeze_core.runs.job_folder import this_process
from semfreeze_core.wording.runs import PROJECTION_ON_ITS_WAY
from semfreeze_dashboard.data import compute
from semfreeze_dashboard.data.run_folder import PATHS_VARIABLE, server_catalog
from semfreeze_dashboard.panels import jobs_panel, parts_panel
from semfreeze_dashboard.panels.html_report import report_html
from tests.dashboard.test_data import job
from tests.dashboard.test_pages import opened, sentence

COMPUTING = "Being computed: spectrum. The plan does not depend on this."
CLICK_A_ROW = "**Target tokens, and what the model predicts: click a row for its example**"
NOT_YET = "Not computed yet: spectrum. The plan does not depend on this. To compute it, run `semfreeze analyze "


def captions(app):
    return [caption.value for caption in app.caption]


def to_come(app):
    starts = ("Being computed", "Not computed yet", PROJECTION_ON_ITS_WAY)
    return [text for text in captions(app) if text.startswith(starts)]


def titles(app):
    return [markdown.value for markdown in app.markdown]


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("page", ["analyze", "decide"])
def test_a_missing_score_is_a_sentence_with_the_command_that_adds_it(page, begun, monkeypatch):
    monkeypatch.setenv(PATHS_VARIABLE, "1")
    app = opened(page, run="begun")
    assert sentence(app)
    (message,) = to_come(app)
    assert message.startswith(NOT_YET)
    assert f"--out={begun}`" in message


def test_visitors_from_elsewhere_see_no_folder_of_this_machine(begun, runs):
    (message,) = to_come(opened("analyze", run="begun"))
    assert message.startswith(NOT_YET)
    assert "--out=begun`" in message
    assert str(runs) not in message


def test_the_plan_page_recommends_at_once_and_gives_the_missing_score_no_number(begun, example):
    app = opened("decide", run="begun", rules="true")
    assert f"Freeze the first {make_plan(example.run).freeze_depth} of 30 layers" in sentence(app)
    rows = next(frame.value for frame in app.dataframe if "method" in frame.value)
    (row,) = rows[rows["method"] == "spectrum"].to_dict("records")
    assert {row["depth before checks"], row["recommendation"]} == {"none"}
    assert row["compute"] == row["memory"] == ""
    assert "- spectrum: Not computed yet." in " ".join(m.value for m in app.markdown)
    assert "spectrum" not in compute.scores(compute.read(server_catalog(), "begun"))


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("page", ["analyze", "decide"])
def test_a_score_that_a_job_computes_is_said_to_be_computed(page, begun, runs):
    job(runs, "begun", process=this_process(turn=1.0))
    app = opened(page, run="begun")
    assert sentence(app)
    assert to_come(app) == [COMPUTING]


@pytest.mark.quick_cases(0)
def test_a_page_shows_the_score_once_it_is_there(begun, example, runs):
    job(runs, "begun", process=this_process(turn=1.0))
    app = opened("analyze", run="begun")
    assert to_come(app) == [COMPUTING]
    add_score(begun, example.run.scores["spectrum"], read_manifest(begun).files)
    app.run()
    assert to_come(app) == []
    assert "spectrum" in compute.scores(compute.read(server_catalog(), "begun"))


@pytest.mark.parametrize("event", ["a score comes", "the job ends"])
def test_a_page_is_drawn_again_when_a_score_comes_or_the_job_ends(begun, example, runs, monkeypatch, event):
    watches, reruns = [], []
    streamlit = SimpleNamespace(
        caption=lambda text: None,
        fragment=lambda watch, run_every: lambda: watches.append(watch),
        rerun=lambda: reruns.append(event),
    )
    job(runs, "begun", process=this_process(turn=1.0))
    monkeypatch.setattr(parts_panel, "st", streamlit)
    parts_panel.scores_to_come(compute.read(server_catalog(), "begun"))
    (watch,) = watches
    watch()
    assert reruns == []
    if event == "a score comes":
        add_score(begun, example.run.scores["spectrum"], read_manifest(begun).files)
    else:
        job(runs, "begun", end=JobEnd(state="failed", ended=2.0))
    watch()
    assert reruns == [event]


def test_a_finished_run_says_nothing_of_parts_to_come():
    for page in ("data", "analyze", "decide"):
        assert to_come(opened(page)) == []


@pytest.mark.parametrize("page", ["data", "analyze", "present"])
def test_a_run_without_its_projection_says_how_to_get_it(page, unprojected, monkeypatch):
    monkeypatch.setenv(PATHS_VARIABLE, "1")
    app = opened(page, run="unprojected", **({"slide": "traces"} if page == "present" else {}))
    (message,) = to_come(app)
    assert message.startswith(f"{NOT_YET}".replace("spectrum", "projection of hidden states"))
    assert f"--out={unprojected}`" in message


def test_other_pages_miss_nothing_before_the_projection_is_there(unprojected, example):
    depth = make_plan(example.run).freeze_depth
    for page in ("home", "decide", "use"):
        app = opened(page, run="unprojected")
        assert to_come(app) == []
        assert f"reeze the first {depth} of 30 layers" in sentence(app)
    for page in ("prove", "library"):
        assert to_come(opened(page, run="unprojected")) == []


def test_the_projection_is_drawn_where_its_sentence_stood_and_choices_stay(unprojected, example, runs):
    job(runs, "unprojected", process=this_process(turn=1.0))
    app = opened("analyze", run="unprojected", depth="12", colour="outcome")
    assert to_come(app) == [PROJECTION_ON_ITS_WAY]
    assert CLICK_A_ROW not in titles(app)
    add_display(unprojected, example.run.display, read_manifest(unprojected).files)
    app.run()
    assert to_come(app) == []
    assert CLICK_A_ROW in titles(app)
    assert app.slider(key="depth").value == 12
    assert app.segmented_control(key="colour").value == "outcome"


def test_a_running_analysis_says_that_its_plan_is_ready_and_opens_it(begun, runs, example):
    job(runs, "other", process=this_process(turn=1.0))
    job(runs, "begun", process=this_process(turn=1.0))
    app = opened()
    shown = [m.value for m in app.markdown if m.value.startswith("**The plan is ready.**")]
    assert shown == ["**The plan is ready.** What else the analysis measures follows. The plan does not depend on it."]
    app.button(key="open-begun above").click().run()
    assert sentence(app).startswith(f"Run begun: Freeze the first {make_plan(example.run).freeze_depth} of 30 layers")


@pytest.mark.parametrize("made", [True, False], ids=["a run without scores", "no run"])
def test_an_analysis_that_was_stopped_resumes_where_its_run_lacks_scores(begun, runs, made):
    name = "begun" if made else "absent"
    job(runs, name, process=this_process(turn=1.0), end=JobEnd(state="cancelled", ended=2.0))
    (ended,) = jobs_panel.list_jobs(runs)
    assert jobs_panel.can_resume(runs, ended) == made


def test_the_job_of_another_run_computes_nothing_for_this_one(begun, runs):
    job(runs, "other", process=this_process(turn=1.0))
    assert parts_panel.analysis_job(runs, begun) is None
    job(runs, "begun", process=this_process(turn=1.0))
    assert parts_panel.analysis_job(runs, begun).name == "begun"


def test_the_report_names_the_scores_that_it_lacks(begun):
    assert "Not computed yet: spectrum." in report_html(read_run(begun))


def test_the_plan_of_the_bundled_run_raises_no_alert():
    app = opened("decide")
    assert [*app.warning, *app.info, *app.error, *app.success] == []
