"""A selection in the projection: every page shows what the selected examples say."""

import numpy as np
import pytest

from semfreeze_core.plan.slices import slice_of_examples
from semfreeze_core.records.defaults import MIN_SLICE
from semfreeze_core.wording.rules import chosen_examples_sentence
from semfreeze_dashboard.data.selections import Selection
from tests.dashboard.test_pages import opened, sentence


def selecting(page, example, rows):
    """A page on which every shown position of the first examples is selected; and the rows of these examples."""
    display = example.run.display
    positions = np.flatnonzero(np.isin(display.example, np.unique(display.example)[:rows]))
    app = opened(page)
    app.session_state["selection"] = Selection("example", tuple(positions.tolist()), 19, 19)
    return app.run(), np.unique(display.example[positions])


def texts(app):
    return [element.value.replace("\\", "") for element in (*app.markdown, *app.caption)]


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("page", ["analyze", "decide"])
def test_enough_selected_examples_are_analyzed_on_their_own(page, example):
    app, rows = selecting(page, example, 40)
    chosen = slice_of_examples(example.run, "semantic", rows)
    assert sentence(app)
    assert chosen_examples_sentence(chosen, 40, 19) in texts(app)
    assert chosen.curve.n_examples == 40
    if page == "analyze":
        assert "**What each layer adds, selected examples**" in texts(app)
        assert any(text.startswith("Means over 40 examples") for text in texts(app))
    next(button for button in app.button if button.label == "Clear selection").click().run()
    assert not any("selected examples" in text for text in texts(app))


@pytest.mark.quick_cases(0)
def test_too_few_selected_examples_are_said_to_be(example):
    app, rows = selecting("analyze", example, MIN_SLICE - 1)
    assert slice_of_examples(example.run, "semantic", rows) is None
    assert chosen_examples_sentence(None, MIN_SLICE - 1, 19) in texts(app)
    assert "**What each layer adds**" in texts(app)


def test_data_lists_the_selected_examples_alone(example):
    app, rows = selecting("data", example, 5)
    (table,) = [frame.value for frame in app.dataframe if "prompt ends" in frame.value.columns]
    assert table["data row"].tolist() == example.run.examples.iloc[rows]["row"].tolist()
