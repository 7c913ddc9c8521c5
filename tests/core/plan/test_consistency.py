"""A plan says several things twice; one edited field is refused wherever a plan is read."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from semfreeze_core.cost import parts_at_depth
from semfreeze_core.errors import PlanError
from semfreeze_core.plan.consistency import require_consistent, require_names
from semfreeze_core.plan.document import parse_plan
from semfreeze_core.plan.parameter_names import read_regex, trainable_regex
from semfreeze_core.records.model import ParameterNames
from semfreeze_core.records.training import TrainableParts
from tests.core.plan.conftest import N_LAYERS, Measured

Models = Callable[..., Measured]

WRITTEN: dict[str, Any] = json.loads((Path(__file__).parent / "plan_0_1_0.json").read_text(encoding="utf-8"))
TRAINED = "|".join(map(str, range(19, 30)))
REGEX = rf"model\.layers\.(?:{TRAINED})\.|model\.norm\.weight$"
ABSTAINS = {"freeze_depth": None, "trainable": None, "trainable_regex": None, "cost.planned": None}


def edited(changes: dict[str, Any]) -> str:
    """The plan that 0.1.0 wrote, with entries replaced by their dotted names."""
    whole = copy.deepcopy(WRITTEN)
    for name, value in changes.items():
        *keys, key = name.split(".")
        entry = whole
        for part in keys:
            entry = entry[part]
        entry[key] = value
    return json.dumps(whole)


def test_the_written_plan_is_consistent_and_its_abstention_too() -> None:
    assert WRITTEN["trainable_regex"] == REGEX
    assert parse_plan(edited({})).freeze_depth == 19
    assert parse_plan(edited({"recommendation": "abstain", **ABSTAINS})).freeze_depth is None


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"freeze_depth": 3}, "freeze_depth is 3, but trainable.layers trains layer 19 first"),
        ({"freeze_depth": 0}, "freeze_depth is 0, but trainable.layers trains layer 19 first"),
        ({"freeze_depth": 99}, "freeze_depth is 99, but trainable.layers trains layer 19 first"),
        ({"freeze_depth": None}, "recommendation is freeze, but freeze_depth is null"),
        ({"recommendation": "abstain"}, "recommendation is abstain, but freeze_depth is 19"),
        ({**ABSTAINS, "freeze_depth": 19}, "recommendation is freeze, but trainable is null"),
        ({"trainable": None}, "recommendation is freeze, but trainable is null"),
        ({"cost.planned": None}, "recommendation is freeze, but cost.planned is null"),
        ({"recommendation": "abstain", **ABSTAINS, "trainable_regex": ".*"}, "but trainable_regex is .*"),
        ({"candidate_depth": 18}, "freeze_depth is 19, but candidate_depth is 18"),
        ({"candidate_depth": 99}, "candidate_depth is 99, but n_layers is 30"),
        ({"rule": "manual", "rule_parameters": {"depth": 5}}, "freeze_depth is 19, but rule_parameters.depth is 5"),
        ({"n_layers": 31}, "n_layers is 31, but trainable.layers lists 30"),
        ({"trainable.layers": [False] * 30}, "freeze_depth is 19, but trainable.layers trains none of 30"),
        ({"trainable.embeddings": True}, "but trainable.embeddings is true"),
        ({"trainable.head": True}, "but trainable.head is true"),
        ({"trainable.final_norm": False}, "but trainable.final_norm is false"),
        ({"trainable_regex": "^lm_head"}, "trainable_regex is ^lm_head, which is not the expression"),
        ({"trainable_regex": ".*"}, "trainable_regex is .*, which is not the expression"),
        ({"trainable_regex": "(?!)"}, "trainable_regex is (?!), but trainable.layers trains 19"),
        ({"trainable_regex": "(a+)+$"}, "trainable_regex is (a+)+$, which is not the expression"),
        ({"trainable_regex": REGEX.replace("29", "28")}, "which is not the expression"),
        ({"trainable_regex": REGEX.replace("19|", "")}, "but trainable.layers trains 19, 20"),
        ({"trainable_regex": f"^{REGEX}"}, "which is not the expression"),
        ({"trainable_regex": REGEX + r"|lm_head\.weight$"}, "but trainable.head is false"),
        ({"trainable_regex": REGEX + r"|model\.embed_tokens\.weight$"}, "but trainable.embeddings is false"),
        ({"cost.planned.freeze_depth": 3}, "cost.planned.freeze_depth is 3, but it is the cost of depth 19"),
        ({"cost.full.freeze_depth": 3}, "cost.full.freeze_depth is 3, but it is the cost of depth 0"),
        ({"cost.planned.bytes.total": 5}, "cost.planned.bytes.total is 5, but its parts make"),
        ({"cost.planned.bytes.total": None}, "cost.planned.bytes has one of activations and total"),
        ({"cost.full.step_flop.total": 5}, "cost.full.step_flop.total is 5, but its parts make"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_parse_plan_names_both_fields_that_contradict(changes: dict[str, Any], fragment: str) -> None:
    with pytest.raises(PlanError) as refused:
        parse_plan(edited(changes), where="mine.json")
    message = str(refused.value)
    assert message.startswith("mine.json contradicts itself: ")
    assert fragment in message
    assert "Make the plan again" in message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"freeze_depth": -1}, "freeze_depth"),
        ({"freeze_depth": True}, "freeze_depth"),
        ({"freeze_depth": "19"}, "freeze_depth"),
        ({"freeze_depth": 19.5}, "freeze_depth"),
        ({"n_layers": 0}, "n_layers"),
        ({"schema_version": 0}, "schema_version"),
        ({"schema_version": True}, "schema_version"),
        ({"trainable.layers": list(range(19, 30))}, "trainable.layers"),
        ({"trainable.embeddings": 1}, "trainable.embeddings"),
        ({"cost.planned.bytes.weights": -1}, "cost.planned.bytes.weights"),
        ({"cost.planned.step_flop.forward": -1}, "cost.planned.step_flop.forward"),
        ({"cost.planned.relative_flop": -0.5}, "cost.planned.relative_flop"),
        ({"cost.setup.batch_size": -8}, "cost.setup"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_parse_plan_refuses_values_of_another_kind_or_out_of_range(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError, match=rf"^mine\.json is not a semfreeze plan: {field}"):
        parse_plan(edited(changes), where="mine.json")


def test_parse_plan_refuses_a_key_given_twice_and_what_is_no_json_number() -> None:
    text = edited({})
    with pytest.raises(PlanError, match="freeze_depth is given twice"):
        parse_plan(text.replace('"freeze_depth": 19, "candidate', '"freeze_depth": 3, "freeze_depth": 19, "candidate'))
    with pytest.raises(PlanError, match="it contains Infinity, which is no JSON number"):
        parse_plan(text.replace('"relative_flop": 1.0', '"relative_flop": Infinity'))


def test_require_consistent_refuses_a_plan_that_was_changed_in_python() -> None:
    plan = parse_plan(edited({}))
    with pytest.raises(PlanError, match=r"^The plan contradicts itself: freeze_depth is 5"):
        require_consistent(plan.model_copy(update={"freeze_depth": 5}))


def test_require_names_refuses_an_expression_of_other_parameters() -> None:
    plan = parse_plan(edited({}))
    names = ParameterNames("model.layers.", ("model.embed_tokens.weight",), ("model.norm.weight",), ("lm_head.weight",))
    require_names(plan, names)
    other = plan.model_copy(update={"trainable_regex": REGEX.replace("norm", "norm2")})
    require_consistent(other)  # only the model shows it
    with pytest.raises(PlanError, match=r"norm2\S*, but trainable stands for model\\"):
        require_names(other, names)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(("family", "tied"), [("llama", False), ("llama", True), ("gpt2", True), ("gpt_neox", False)])
def test_read_regex_gives_back_what_trainable_regex_wrote(
    family: str, tied: bool, lora: bool, measured: Models
) -> None:
    names = measured(family, tied).names
    for depth, embeddings, norm, head in product(range(N_LAYERS + 1), *[[False, True]] * 3):
        parts = TrainableParts(tuple(i >= depth for i in range(N_LAYERS)), embeddings, norm, head)
        read = read_regex(trainable_regex(names, parts, lora=lora), lora=lora)
        assert read is not None
        assert read.layers == tuple(range(depth, N_LAYERS))
        assert (read.layer_prefix == names.layer_prefix) == (depth < N_LAYERS)
        assert read.embeddings == (names.embeddings if embeddings else ())
        assert read.final_norm == (names.final_norm if norm else ())
        assert read.head == (names.head if head else ())
        assert not read.unknown


def test_parts_at_depth_trains_no_final_norm_where_there_is_none(measured: Models) -> None:
    shape = replace(measured("llama", False).shape, final_norm_parameters=0)
    assert not parts_at_depth(shape, 2).final_norm
    with pytest.raises(PlanError, match="no norm between its layers and its head"):
        parts_at_depth(shape, 2, final_norm=True)


def test_the_names_of_a_plans_parts_make_its_expression() -> None:
    names = {"layer_prefix": "model.layers.", "embeddings": ["model.embed_tokens.weight"]}
    names |= {"final_norm": ["model.norm.weight"], "head": []}
    assert parse_plan(edited({"parameter_names": names})).parameter_names == ParameterNames(
        "model.layers.", ("model.embed_tokens.weight",), ("model.norm.weight",), ()
    )
    with pytest.raises(PlanError, match=r"trainable_regex is model.*, but parameter_names make it model\\\.h\\\."):
        parse_plan(edited({"parameter_names": names | {"layer_prefix": "model.h."}}))
