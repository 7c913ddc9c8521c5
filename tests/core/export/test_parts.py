"""The names of what a plan trains, in words."""

import pytest

from semfreeze_core.errors import PlanError
from semfreeze_core.export.parts import NamedParts, frozen_modules, named_parts
from semfreeze_core.records.model import ParameterNames
from semfreeze_core.records.training import TrainableParts
from tests.core.export.exports import tiny_plan
from tests.core.tiny_models import build_tiny


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (
            TrainableParts((False, False, True, True), False, True, False),
            "layers 2 to 3 of 4 (0-based) and model.norm.weight",
        ),
        (TrainableParts((True, False, True, True), False, False, False), "layers 0, 2 to 3 of 4 (0-based)"),
        (TrainableParts((False,) * 4, False, True, True), "model.norm.weight, lm_head.weight"),
    ],
)
def test_named_parts_words_say_what_is_trained(parts, sentence):
    untied = build_tiny("llama", tied=False)
    assert named_parts(tiny_plan(untied, parts.freeze_depth, parts=parts)).summary == sentence


NAMES = ParameterNames(
    "model.layers.", ("model.embed.weight", "model.wpe"), ("norm.weight",), ("head.weight", "head.bias")
)


def test_frozen_modules_hold_every_frozen_parameter_and_no_trained_one():
    names = ParameterNames("model.layers.", ("model.embed.weight",), ("norm.weight", "norm.bias"), ("head.weight",))
    parts = NamedParts(12, (1, 10), "model.layers.", ("head.weight",), everything=False)
    layers = [f"model.layers.{i}" for i in range(12) if i not in (1, 10)]
    assert list(frozen_modules(names, parts)) == [*layers, "model.embed", "norm"]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (("model.wpe", "head.bias"), r"head\.weight is frozen and shares the module head with head\.bias"),
        (("head.weight", "head.bias"), r"model\.wpe is frozen and shares the module model with model\.layers\.1"),
    ],
)
def test_a_frozen_parameter_beside_a_trained_one_in_its_module_is_refused(others, message):
    parts = NamedParts(2, (1,), "model.layers.", others, everything=False)
    with pytest.raises(PlanError, match=message):
        frozen_modules(NAMES, parts)
