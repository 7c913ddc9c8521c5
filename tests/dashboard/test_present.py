"""The presentation: every slide of a run, turned by its buttons, without a control besides."""

import pytest

from semfreeze_core.runs.reports import list_validations
from semfreeze_core.wording.validation import verdict_sentence
from semfreeze_dashboard.views.present import SLIDES
from tests.dashboard.test_pages import opened


def heading(app):
    assert not app.exception
    assert not app.error, [error.value for error in app.error]
    (text,) = [m.value for m in app.markdown if m.value.startswith("## ")]
    return text.removeprefix("## ")


def press(app, label):
    return next(button for button in app.button if button.label == label).click().run()


def test_the_story_is_told_slide_by_slide_and_back(example):
    app = opened("present")
    headings = [heading(app)]
    for _ in range(len(SLIDES) - 1):
        headings.append(heading(press(app, "Next")))
    assert len(set(headings)) == len(SLIDES)
    assert "sentence_to_json" in headings[0]
    (report,) = list_validations(example.folder).values()
    assert verdict_sentence(report, "compute") in headings[4]
    assert next(button for button in app.button if button.label == "Next").disabled
    assert heading(press(app, "Back")) == headings[4]


def test_a_link_leaves_and_the_buttons_stand_above_every_slide(doubtful):
    app = opened("present", run="doubtful")
    (leave,) = [link for link in app.get("page_link") if link.proto.label == "Leave"]
    assert (leave.proto.label, leave.proto.page) == ("Leave", "")
    kinds = [type(element).__name__ for element in app.main]
    assert kinds.index("Button") < kinds.index("Metric")


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("slide", SLIDES)
def test_a_link_opens_a_slide_of_any_run(slide, doubtful):
    app = opened("present", run="doubtful", slide=slide)
    assert heading(app)
    assert any(slide in caption.value and "doubtful" in caption.value for caption in app.caption)
    if slide == "proof":
        assert heading(app).startswith("Not measured yet: no finetune has tested")


def test_nonsense_in_the_link_opens_the_first_slide():
    assert heading(opened("present", slide="nowhere")).startswith("Where to finetune")
