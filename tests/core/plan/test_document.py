import dataclasses
import json
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from peft import LoraConfig, get_peft_model, inject_adapter_in_model

from semfreeze_core.cost import parts_at_depth
from semfreeze_core.errors import PlanError
from semfreeze_core.plan.document import (
    PLAN_SCHEMA_VERSION,
    FreezePlan,
    parse_plan,
    require_model,
    trainable_names,
)
from semfreeze_core.plan.make import make_plan
from semfreeze_core.plan.parameter_names import trainable_regex
from semfreeze_core.records.run import Run
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup
from semfreeze_core.sources.models.decoder import find_decoder
from tests.core.plan.conftest import N_LAYERS, Measured
from tests.core.tiny_models import build_tiny

KINDS = [("llama", False), ("llama", True), ("qwen2", False), ("gpt2", True), ("gpt2", False), ("gpt_neox", False)]

# Written down by hand: how a layer's parameters begin, and what stands before and after the layers. An untied head is
# what is left (its name changes between versions of transformers).
AROUND = {
    "llama": ("model.layers.{}.", ["model.embed_tokens.weight"], ["model.norm.weight"]),
    "qwen2": ("model.layers.{}.", ["model.embed_tokens.weight"], ["model.norm.weight"]),
    "gpt2": (
        "transformer.h.{}.",
        ["transformer.wte.weight", "transformer.wpe.weight"],
        ["transformer.ln_f.weight", "transformer.ln_f.bias"],
    ),
    "gpt_neox": (
        "gpt_neox.layers.{}.",
        ["gpt_neox.embed_in.weight"],
        ["gpt_neox.final_layer_norm.weight", "gpt_neox.final_layer_norm.bias"],
    ),
}

Runs = Callable[..., Run]
Models = Callable[..., Measured]


def _wanted(family: str, tied: bool, parts: TrainableParts, parameters: list[str]) -> set[str]:
    """Names of the parameters to be trained, found without regular expressions."""
    layer, embeddings, norm = AROUND[family]
    wanted: set[str] = set()
    for i, trained in enumerate(parts.layers):
        layer_names = {name for name in parameters if name.startswith(layer.format(i))}
        assert layer_names, f"layer {i} has no parameters"
        wanted |= layer_names if trained else set()
    wanted |= set(embeddings) if parts.embeddings else set()
    wanted |= set(norm) if parts.final_norm else set()
    in_layers = {name for i in range(N_LAYERS) for name in parameters if name.startswith(layer.format(i))}
    head = set(parameters) - in_layers - set(embeddings) - set(norm)
    assert len(head) == (0 if tied else 1)
    wanted |= head if parts.head else set()
    assert wanted <= set(parameters)
    return wanted


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_trainable_regex_matches_exactly_the_trained_parameters(family: str, tied: bool, measured: Models) -> None:
    model = measured(family, tied)
    parameters = list(model.parameters)
    masks = [tuple(i >= k for i in range(N_LAYERS)) for k in range(N_LAYERS + 1)]
    # Layer 1 without layers 10 and 11 and the other way round, and no layer's number as another's beginning.
    masks += [tuple(i == only for i in range(N_LAYERS)) for only in range(N_LAYERS)]
    masks += [tuple(i in (1, 11) for i in range(N_LAYERS)), (False,) * N_LAYERS]
    for layers, embeddings, norm, head in product(masks, *[[False, True]] * 3):
        parts = TrainableParts(layers, embeddings, norm, head)
        pattern = trainable_regex(model.names, parts)
        matched = {name for name in parameters if re.match(pattern, name)}
        assert matched == _wanted(family, tied, parts, parameters)


@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_trainable_regex_of_full_finetuning_matches_every_parameter(family: str, tied: bool, measured: Models) -> None:
    model = measured(family, tied)
    pattern = trainable_regex(model.names, parts_at_depth(model.shape, 0))
    assert all(re.match(pattern, name) for name in model.parameters)
    nothing = TrainableParts((False,) * N_LAYERS, False, False, False)
    assert not any(re.match(trainable_regex(model.names, nothing), name) for name in model.parameters)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks by the old name
@pytest.mark.parametrize("wrapped", [False, True])
def test_trainable_regex_of_a_lora_plan_matches_exactly_the_adapters_peft_makes(wrapped: bool) -> None:
    model = build_tiny("llama", n_layers=N_LAYERS, tied=False)
    names = find_decoder(model).names
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"])
    model = get_peft_model(model, config) if wrapped else inject_adapter_in_model(config, model)
    parts = TrainableParts((False,) * 10 + (True,) * 2, False, True, False)
    pattern = trainable_regex(names, parts, lora=True)
    matched = {name for name, _ in model.named_parameters() if re.match(pattern, name)}
    assert len(matched) == 2 * 2 * 2 + 1, "A and B of two matrices on two layers, and the final norm"
    assert all("lora_" in name or name.endswith("model.norm.weight") for name in matched)
    assert {name.split("layers.")[1].split(".")[0] for name in matched if "lora_" in name} == {"10", "11"}


def test_trainable_names_of_a_lora_plan_on_a_model_without_adapters_says_so(make_run: Runs, measured: Models) -> None:
    model = measured()
    setup = TrainingSetup(sequence_length=32, lora=LoraSetup(4, ("q_proj",)))
    plan = make_plan(make_run(model), rule="manual", depth=10, setup=setup)
    with pytest.raises(PlanError, match=r"rank 4, targets q_proj\) on layers 10 and above, and this model has none"):
        trainable_names(plan, model.identity, model.parameters)


def test_trainable_regex_equals_a_hand_written_case(measured: Models) -> None:
    parts = TrainableParts((False,) * 10 + (True,) * 2, False, True, False)
    pattern = trainable_regex(measured("llama", False).names, parts)
    assert pattern == r"model\.layers\.(?:10|11)\.|model\.norm\.weight$"


@pytest.fixture
def plan(make_run: Runs) -> FreezePlan:
    freeze_plan = make_plan(make_run(), run_name="reading")
    assert freeze_plan.recommendation == "freeze"
    return freeze_plan


@pytest.fixture
def abstention(make_run: Runs) -> FreezePlan:
    freeze_plan = make_plan(make_run(difference=None))
    assert freeze_plan.recommendation == "abstain"
    return freeze_plan


@pytest.mark.parametrize("which", ["plan", "abstention"])
def test_freeze_plan_survives_being_written_and_read(which: str, request: pytest.FixtureRequest) -> None:
    document: FreezePlan = request.getfixturevalue(which)
    assert parse_plan(document.model_dump_json()) == document
    assert parse_plan(document.model_dump_json(indent=1)) == document
    assert parse_plan(json.dumps(document.model_dump(mode="json"))) == document


def _strict(text: str) -> Any:
    """JSON that is JSON everywhere: no NaN, no Infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("mode", ["validation", "serialization"])
@pytest.mark.parametrize("which", ["plan", "abstention"])
def test_freeze_plan_schema_accepts_the_document(which: str, mode: Any, request: pytest.FixtureRequest) -> None:
    document: FreezePlan = request.getfixturevalue(which)
    schema = FreezePlan.model_json_schema(mode=mode)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(_strict(document.model_dump_json()), schema, jsonschema.Draft202012Validator)


PLACES: list[list[str]] = [
    [],
    ["model"],
    ["evidence"],
    ["evidence", "advantage"],
    ["gain_coverage"],
    ["trainable"],
    ["cost"],
    ["cost", "setup"],
    ["cost", "planned", "bytes"],
    ["cost", "full", "step_flop"],
    ["provenance"],
]


def _changed(document: FreezePlan, keys: list[str], key: str, value: Any) -> dict[str, Any]:
    """The plan as JSON values, with one entry set."""
    whole: dict[str, Any] = _strict(document.model_dump_json())
    entry = whole
    for name in keys:
        entry = entry[name]
    entry[key] = value
    return whole


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("keys", PLACES, ids=lambda p: ".".join(p) or "top")
def test_parse_plan_and_schema_refuse_an_unknown_key_anywhere(plan: FreezePlan, keys: list[str]) -> None:
    odd = _changed(plan, keys, "remark", "mine")
    with pytest.raises(PlanError, match=rf"{re.escape('.'.join([*keys, 'remark']))}: Extra inputs|Unexpected keyword"):
        parse_plan(json.dumps(odd))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(odd, FreezePlan.model_json_schema(mode="serialization"))


@pytest.mark.parametrize(
    ("keys", "key", "value"),
    [
        ([], "recommendation", "maybe"),
        ([], "kind", "semfreeze run"),
        ([], "freeze_depth", "many"),
        ([], "gain_coverage_status", "measured"),
        (["trainable"], "layers", "all"),
        (["cost", "setup"], "batch_size", 0),
    ],
)
def test_parse_plan_names_the_entry_that_is_wrong(plan: FreezePlan, keys: list[str], key: str, value: Any) -> None:
    with pytest.raises(PlanError, match=rf"^mine\.json is not a semfreeze plan: {'.'.join([*keys, key][:2])}"):
        parse_plan(json.dumps(_changed(plan, keys, key, value)), where="mine.json")


def test_parse_plan_names_an_entry_that_is_missing(plan: FreezePlan) -> None:
    whole = _strict(plan.model_dump_json())
    del whole["trainable_regex"]
    with pytest.raises(PlanError, match="the plan is not a semfreeze plan: trainable_regex: Field required"):
        parse_plan(json.dumps(whole))


@pytest.mark.parametrize("text", ["", "{", "freeze 3 layers", "[]", "null"])
def test_parse_plan_refuses_what_is_no_plan_at_all(text: str) -> None:
    with pytest.raises(PlanError, match=r"^mine\.json is not a semfreeze plan: its JSON: "):
        parse_plan(text, where="mine.json")


@pytest.mark.parametrize("change", [{}, {"new_field": 1}, {"kind": "semfreeze plan 2"}])
def test_parse_plan_says_when_a_plan_is_of_a_newer_version(plan: FreezePlan, change: dict[str, Any]) -> None:
    newer = {**_strict(plan.model_dump_json()), "schema_version": PLAN_SCHEMA_VERSION + 1, **change}
    with pytest.raises(PlanError, match=r"^mine\.json has schema version 4, but this semfreeze reads up to 3"):
        parse_plan(json.dumps(newer, indent=1), where="mine.json")


def test_trainable_names_are_those_of_the_plans_parts(plan: FreezePlan, measured: Models) -> None:
    model = measured()
    assert plan.trainable is not None
    names = trainable_names(plan, model.identity, model.parameters)
    assert set(names) == _wanted("llama", False, plan.trainable, list(model.parameters))
    assert names == [name for name in model.parameters if name in names]


def test_trainable_names_refuse_a_plan_that_abstains(abstention: FreezePlan, measured: Models) -> None:
    model = measured()
    with pytest.raises(
        PlanError,
        match=r"The plan makes no recommendation, so there is nothing to train: The swapped",
    ):
        trainable_names(abstention, model.identity, model.parameters)


def test_trainable_names_refuse_parameters_the_plan_knows_nothing_of(plan: FreezePlan, measured: Models) -> None:
    with pytest.raises(PlanError, match="trains none of this model's parameters"):
        trainable_names(plan, measured().identity, ["encoder.layer.0.weight", "base_model.model.model.layers.11.w"])


@pytest.mark.parametrize("check", ["require_model", "trainable_names"])
@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"family": "gpt2"}, "its layers or parameters differ"),
        ({"n_layers": 4}, "its layers or parameters differ"),
        ({"seed": 1}, "its weights differ"),
    ],
)
def test_require_model_refuses_another_model_and_names_both(
    plan: FreezePlan, measured: Models, other: dict[str, Any], difference: str, check: str
) -> None:
    ours, theirs = measured(), measured(**other)
    checks = {
        "require_model": lambda: require_model(plan, theirs.identity),
        "trainable_names": lambda: trainable_names(plan, theirs.identity, theirs.parameters),
    }
    with pytest.raises(PlanError, match=difference) as refused:
        checks[check]()
    for identity in (ours.identity, theirs.identity):
        assert identity.source in str(refused.value)
        assert identity.architecture in str(refused.value)
        assert identity.weights_digest[:12] in str(refused.value)


def test_require_model_accepts_the_same_weights_from_another_place(plan: FreezePlan, measured: Models) -> None:
    require_model(plan, dataclasses.replace(measured().identity, source="/elsewhere", revision="abc"))


def test_parse_plan_reads_a_plan_that_version_0_1_0_wrote() -> None:
    text = (Path(__file__).parent / "plan_0_1_0.json").read_text(encoding="utf-8")
    plan = parse_plan(text)
    assert (plan.freeze_depth, plan.n_layers, plan.rule) == (19, 30, "coverage")
    assert plan.gain_coverage.estimate == 0.9486023763268842
    assert plan.evidence.pick_interval == (19, 19)
    written = json.loads(text)
    written["cost"]["alternative"] = None  # the keys that came since; none went
    written["evidence"] |= {"badge": None, "race": None}
    written["switch"] = written["cost"]["phases"] = written["cost"]["looks"] = None
    written["parameter_names"] = written["model_path"] = None
    written["cost"]["setup"] |= {"batches": "random", "micro_batch_size": None}
    assert json.loads(plan.model_dump_json()) == written
