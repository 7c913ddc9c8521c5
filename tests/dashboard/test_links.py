"""What a link asks for: kept on every page, and where it cannot be shown, said once on the page."""

import pytest

from semfreeze_dashboard.data.run_folder import DEMO_VARIABLE
from tests.dashboard.test_pages import opened

VIEWS = (None, "estimate", "data", "analyze", "decide", "prove", "use", "library", "present")
BAD = {
    "depth": "99",
    "rule": "nonsense",
    "batch": "many",
    "micro": "3",
    "length": "-3",
    "rank": "1e9",
    "optimizer": "magic",
    "stock": "perhaps",
    "memory": "-1",
    "gpu": "abacus",
    "projection": "TSNE",
    "by": "nobody",
    "metric": "x",
    "paths": "1000",
    "layer": "12",
    "run": "no-such-run",
}


def notices(app):
    assert not app.exception
    return [warning.value for warning in app.warning if warning.value.startswith("The link asks for")]


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("page", VIEWS)
def test_a_link_with_values_that_no_page_can_show_is_answered_in_one_sentence(page):
    (notice,) = notices(opened(page, **BAD))
    for name, value in BAD.items():
        assert f"{name}='{value}' (".replace("_", r"\_") in notice, name
    assert "run='no-such-run' (shown: example)" in notice
    assert "layer='12' (ignored)" in notice
    assert "batch='many' (shown: 8)" in notice
    assert "micro='3' (shown: all)" in notice


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("page", VIEWS)
def test_a_link_with_values_that_can_be_shown_is_kept_without_a_word(page):
    good = {
        "depth": "12",
        "batch": "4",
        "micro": "2",
        "rule": "paper",
        "cache": "false",
        "by": "prompt length",
        "space": "3-D",
    }
    app = opened(page, **good)
    assert notices(app) == []
    assert app.session_state["depth"] == 12
    assert (app.session_state["batch"], app.session_state["micro"]) == (4, "2")
    assert app.session_state["cache"] is False
    assert dict(app.query_params) == good


def test_the_sentence_goes_once_another_value_is_chosen():
    app = opened("decide", depth="99")
    assert len(notices(app)) == 1
    app.slider(key="depth").set_value(5).run()
    assert notices(app) == []


@pytest.mark.quick_cases(0)
def test_a_depth_is_kept_from_page_to_page():
    app = opened("decide", depth="12", batch="4")
    for page in ("home", "prove", "library", "present", "data", "use", "analyze"):
        app.switch_page(f"views/{page}.py").run()
        assert not app.exception
        assert (app.session_state["depth"], app.session_state["batch"]) == (12, 4)


@pytest.mark.parametrize("demo", ["", "1"])
def test_an_objective_is_kept_on_prove(monkeypatch, demo):
    monkeypatch.setenv(DEMO_VARIABLE, demo)
    assert opened("prove", objective="quality").session_state["objective"] == "quality"


def test_present_does_not_know_a_slide():
    (notice,) = notices(opened("present", slide="nowhere"))
    assert "slide='nowhere' (shown: model and data)" in notice
