"""The names of what a plan trains, in words."""

import pytest

from semfreeze_core.export.parts import named_parts
from semfreeze_core.records.training import TrainableParts
from tests.core.export.exports import tiny_plan
from tests.core.tiny_models import build_tiny


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            TrainableParts((False, False, True, True), False, True, False),
            "layers 2 to 3 of 4 (0-based) and model.norm.weight",
        ),
        (TrainableParts((True, False, True, True), False, False, False), "layers 0, 2 to 3 of 4 (0-based)"),
        (TrainableParts((False,) * 4, False, True, True), "model.norm.weight, lm_head.weight"),
    ],
)
def test_named_parts_words_say_what_is_trained(parts, words):
    untied = build_tiny("llama", tied=False)
    assert named_parts(tiny_plan(untied, parts.freeze_depth, parts=parts)).summary == words
