"""Pilots say what they selected and what share of a finetune they took."""

from semfreeze_core.wording import pilots as wording
from tests.core.plan.pilots import MEASURED


def test_pilots_say_what_they_selected_and_what_they_took():
    assert wording.pilots_sentence(MEASURED) == (
        "The pilot runs (12% of the compute of one full finetune of 90 steps) selected freezing 3 of 4 layers."
    )
    assert [row["kept"] for row in wording.pilots_table(MEASURED).dicts()] == ["no", "yes"]
