"""The path to a plan in the sidebar: which of its steps are ticked, and for whom."""

import shutil

import pytest

from semfreeze_core.runs.store import example_run
from semfreeze_dashboard.panels import steps
from semfreeze_dashboard.server.auth import PASSWORD_VARIABLE
from semfreeze_dashboard.views import PATH
from tests.dashboard.test_pages import opened


@pytest.fixture
def ticked(monkeypatch):
    """The steps that were ticked when the page was drawn, last ones last."""
    titles = []

    def note():
        titles.append(done())
        return titles[-1]

    done = steps.done_steps
    monkeypatch.setattr("semfreeze_dashboard.panels.steps.done_steps", note)
    return titles


@pytest.fixture
def mine(runs):
    """The bundled run with its validation, as one of one's own."""
    shutil.copytree(example_run(), runs / "mine")
    return runs / "mine"


@pytest.mark.parametrize(
    ("query", "done"),
    [
        ({"run": "example"}, set()),
        ({"run": "mine", "depth": "12"}, {"Data", "Analyze"}),
        ({"run": "mine"}, {"Data", "Analyze", "Decide", "Prove"}),
        ({"run": "mine", "depth": "many"}, {"Data", "Analyze", "Decide", "Prove"}),
        ({"run": "doubtful"}, {"Data", "Analyze"}),
    ],
)
def test_a_step_is_ticked_once_it_is_answered(ticked, doubtful, mine, query, done):
    assert not opened("decide", **query).exception
    assert ticked[0] == done
    assert done < set(PATH)


def test_a_recommended_depth_is_ticked_once_it_was_looked_at(ticked, mine):
    shutil.rmtree(mine / "validations")
    app = opened("data", run="mine")
    assert ticked[-1] == {"Data", "Analyze"}
    app.switch_page("views/decide.py").run()
    app.switch_page("views/use.py").run()
    assert ticked[-1] == {"Data", "Analyze", "Decide"}


def test_a_visitor_without_the_password_learns_nothing_from_ticks(ticked, monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, "open sesame")
    assert not opened().exception
    assert ticked == []
