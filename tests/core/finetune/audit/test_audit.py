"""Audits of trainings that lose the saving, or learn nothing, in silence: seen, named, and clean once cured."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from semfreeze_core.cost import step_flop
from semfreeze_core.errors import ModelError, PlanError
from semfreeze_core.finetune.audit.audit import audit
from semfreeze_core.finetune.freezing.freeze import apply_freeze_plan, freeze
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup
from tests.core.finetune.live_steps import MODES, adapt, checkpoint, freeze_by_flags
from tests.core.finetune.plans import SETUP, plan_of, shape_and_names
from tests.core.tiny_models import FAMILIES, build_tiny, find_pieces

pytestmark = [
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad"),  # the very fault that is looked for
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # PEFT still asks it
]
N_LAYERS, K = 4, 2
PROBE = TrainingSetup(batch_size=2, sequence_length=12)
TOP = TrainableParts((False, False, True, True), embeddings=False, final_norm=True, head=False)
FULL = TrainableParts((True,) * 4, embeddings=True, final_norm=True, head=True)


def tiny(family="llama", tied=False, **options):
    return build_tiny(family, n_layers=N_LAYERS, tied=tied, **{"attention": "eager", **options})


def only(report):
    (problem,) = report.problems
    return problem


# The known losses


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("mode", ["non-reentrant", "reentrant"])
def test_audit_sees_the_gradient_that_checkpointing_sends_through_frozen_layers(mode):
    model = tiny()
    plan, shape = plan_of(model, K), shape_and_names(model)[0]
    freeze_by_flags(model, K)
    checkpoint(model, mode)
    report = audit(model)
    problem = only(report)
    assert problem.kind == "gradient through frozen layers"
    assert problem.cause.startswith("2 frozen layers pass the gradient back, because the embedding's output")
    assert ("disable_input_require_grads" in problem.cure) is (mode != "reentrant")  # there it would end all learning
    assert (report.freeze_depth, report.gradient_depth, report.embedding_output_requires_grad) == (2, 0, True)
    # as priced: to the unit on a gated RMSNorm family
    setup = replace(PROBE, checkpointing=mode)
    ideal, full = (step_flop(shape, setup, parts).total for parts in (TOP, FULL))
    assert (report.ideal.flop, report.full.flop) == (ideal, full)
    if mode == "non-reentrant":
        assert report.found.flop == step_flop(shape, replace(PROBE, checkpointing="transformers-5"), TOP).total
    assert report.realised_flop_fraction == (full - report.found.flop) / (full - ideal)
    assert 0.2 < report.realised_flop_fraction < 0.5
    assert report.realised_bytes_fraction < 0.5
    with pytest.raises(PlanError, match="2 frozen layers pass the gradient back"):
        report.require()

    model.requires_grad_(True)
    apply_freeze_plan(model, plan)
    cured = audit(model, plan)
    assert cured.problems == ()
    assert cured.found == cured.ideal
    assert cured.realised_flop_fraction == cured.realised_bytes_fraction == 1
    assert (cured.gradient_depth, cured.embedding_output_requires_grad) == (2, True)


def test_audit_sees_reentrant_checkpointing_take_the_gradient_away():
    model = tiny()
    freeze_by_flags(model, K)
    checkpoint(model, "reentrant")
    model.disable_input_require_grads()
    report = audit(model)
    problem = only(report)
    assert problem.kind == "no gradient"
    assert problem.cause.startswith("Trained layers 2, 3 get no gradient: reentrant checkpointing")
    assert "use_reentrant=False" in problem.cure
    assert report.layers_without_gradient == (2, 3)
    assert report.gradient_depth == N_LAYERS
    assert report.realised_flop_fraction == 1  # cheaper than what should train, which is no saving
    assert "reaches no layer" in str(report)
    freezing = freeze(model, TOP)
    assert audit(model).problems == ()
    freezing.undo()
    checkpoint(model, "non-reentrant")
    model.disable_input_require_grads()
    assert audit(model).problems == ()  # the other cure it names


@pytest.mark.quick_cases(0)
def test_audit_sees_what_trl_does_to_adapters_on_the_top_half():
    model = tiny()
    lora = LoraSetup(3)
    plan = plan_of(model, K, setup=replace(SETUP, lora=lora))
    shape, names = shape_and_names(model)
    model = adapt(model, shape, names.layer_prefix, plan.trainable, lora, wrapped=True)
    model.enable_input_require_grads()
    checkpoint(model, "non-reentrant")
    report = audit(model, plan)
    assert only(report).kind == "gradient through frozen layers"
    assert report.realised_flop_fraction < 0.7
    apply_freeze_plan(model, plan)
    cured = audit(model, plan)
    assert cured.problems == ()
    assert cured.realised_flop_fraction == cured.realised_bytes_fraction == 1


def test_audit_sees_a_tied_head_listed_among_the_trained():
    model = tiny(tied=True)
    freeze_by_flags(model, K)
    find_pieces(model).head.requires_grad_(True)
    problem = only(audit(model))
    assert problem.kind == "gradient through frozen layers"
    assert "something below them is trained: 1 (model.embed_tokens.weight)" in problem.cause
    plan = plan_of(tiny(tied=True), K)
    kinds = {problem.kind for problem in audit(model, plan).problems}
    assert kinds == {"gradient through frozen layers", "other parameters trained"}


def test_audit_takes_planned_embeddings_for_what_they_are():
    model = tiny()
    parts = replace(TOP, embeddings=True)
    plan = plan_of(model, K, parts=parts, setup=replace(SETUP, prefix_cache=False))
    apply_freeze_plan(model, plan)
    report = audit(model, plan)
    assert report.problems == ()
    assert report.gradient_depth == 0


# What it should leave in peace


@pytest.mark.quick_cases(5)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", [*FAMILIES, "gemma2", "qwen3_moe"])
def test_audit_finds_nothing_wrong_with_freeze(family, mode):
    # depths in turn: each meets each mode
    k, attention = ((0, "eager"), (1, "sdpa"), (N_LAYERS, "eager"))[(len(family) + MODES.index(mode)) % 3]
    model = tiny(family, attention=attention)
    checkpoint(model, mode)
    apply_freeze_plan(model, plan_of(model, k))
    report = audit(model)
    assert report.problems == ()
    assert report.realised_flop_fraction == report.realised_bytes_fraction == (1 if k else None)
    assert (report.freeze_depth, report.gradient_depth) == (k, k)
    assert report.attention == (attention if family != "gemma2" else "eager")  # it has no other


def test_audit_without_checkpointing_takes_plain_flags_as_they_are():
    model = tiny()
    freeze_by_flags(model, K)
    report = audit(model)
    assert report.problems == ()
    # the boundary's input requires a gradient, which layer 2's norm keeps a little more for: 4 d + 4 bytes a token
    assert report.ideal.saved_bytes - report.found.saved_bytes == 2 * 12 * (4 * 32 + 4)
    assert report.realised_flop_fraction == report.realised_bytes_fraction == 1, "no more than all"


# The other faults


def test_audit_names_a_training_of_nothing():
    model = tiny()
    model.requires_grad_(False)
    assert only(audit(model)).kind == "nothing trained"


def test_audit_names_parameters_that_are_not_the_plans():
    model = tiny()
    freeze_by_flags(model, 3)
    problem = only(audit(model, plan_of(model, K)))
    assert problem.kind == "other parameters trained"
    assert "9 (model.layers.2.self_attn.q_proj.weight, ...) of the plan's parameters are frozen" in problem.cause
    freeze_by_flags(model, 1)
    problem = only(audit(model, plan_of(model, K)))
    assert "9 (model.layers.1.self_attn.q_proj.weight, ...) are trained although the plan freezes them" in problem.cause


def test_audit_names_layers_cut_off_from_the_loss():
    model = tiny()
    freeze_by_flags(model, K)
    find_pieces(model).layers[3].register_forward_hook(lambda _, __, output: output.detach())
    problem = only(audit(model))
    assert problem.kind == "no gradient"
    assert problem.cause.startswith("Trained layers 2, 3 get no gradient: they run without a graph")


def test_audit_names_trained_parameters_outside_the_layers_that_get_no_gradient():
    model = tiny()
    freeze_by_flags(model, K)
    model.extra = nn.Parameter(torch.zeros(2))
    problem = only(audit(model))
    assert problem.kind == "no gradient"
    assert "outside the layers get no gradient: 1 (extra)" in problem.cause


def test_audit_compares_the_optimizer_with_what_is_trained():
    model = tiny()
    plan = plan_of(model, K)
    freezing = apply_freeze_plan(model, plan)
    optimizer = torch.optim.SGD(freezing.trainable_parameters(), lr=0.1)
    report = audit(model, plan, optimizer=optimizer)
    assert report.problems == ()
    assert report.optimizer_checked
    everything = torch.optim.SGD(model.parameters(), lr=0.1)
    problem = only(audit(model, optimizer=everything))
    assert problem.kind == "optimizer"
    assert "holds 20 (model.embed_tokens.weight, ...) parameters that are not to be trained" in problem.cause
    missing = torch.optim.SGD(freezing.trainable_parameters()[1:], lr=0.1)
    assert "lacks 1 (model.layers.2.self_attn.q_proj.weight) of" in only(audit(model, optimizer=missing)).cause
    copied = torch.optim.SGD([*freezing.trainable_parameters(), nn.Parameter(torch.zeros(1))], lr=0.1)
    assert "1 parameters of another model" in only(audit(model, optimizer=copied)).cause


def test_audit_names_where_a_gradient_begins_that_nothing_explains():
    model = tiny()
    freeze_by_flags(model, 3)
    find_pieces(model).layers[1].register_forward_pre_hook(lambda _, args: (args[0].requires_grad_(True), *args[1:]))
    problem = only(audit(model))
    assert problem.cause == "2 frozen layers pass the gradient back, because the input of layer 1 requires a gradient."


# Refusals


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch.compile's own
def test_audit_refuses_by_name_what_it_cannot_audit():
    with pytest.raises(ModelError, match=r"under torch\.compile has not been tested"):
        audit(torch.compile(tiny()))
    trainer = SimpleNamespace(model=tiny(), is_fsdp_enabled=True)
    with pytest.raises(ModelError, match="under FSDP has not been tested"):
        audit(trainer)
    trainer = SimpleNamespace(model=tiny(), is_fsdp_enabled=False, is_deepspeed_enabled=True)
    with pytest.raises(ModelError, match="under DeepSpeed has not been tested"):
        audit(trainer)
    stepping = tiny()
    find_pieces(stepping).head.weight.register_post_accumulate_grad_hook(lambda p: None)
    with pytest.raises(ModelError, match="an audit would train it"):
        audit(stepping)
    with pytest.raises(PlanError, match="makes no recommendation"):
        audit(tiny(), plan_of(tiny(), None))


def test_report_can_be_written_down():
    model = tiny()
    freeze_by_flags(model, K)
    checkpoint(model, "non-reentrant")
    report = audit(model)
    document = json.loads(json.dumps(report.to_dict()))
    assert document["found"] == {"flop": report.found.flop, "saved_bytes": report.found.saved_bytes}
    assert document["problems"][0]["kind"] == "gradient through frozen layers"
    assert document["realised_flop_fraction"] == report.realised_flop_fraction
    text = str(report)
    assert "layers 2 to 3 of 4 trained" in text
    assert "runs down to layer 0, through 2 frozen layers" in text
    assert "counted with eager attention; no optimizer to check" in text
    assert "problem 1: 2 frozen layers" in text
