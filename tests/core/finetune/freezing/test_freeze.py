"""Freezing on live models: the price of the cost model to the unit, in every mode, and nothing left behind."""

from dataclasses import replace

import pytest
import torch

from semfreeze_core.cost import flop_status, parts_at_depth, step_flop
from semfreeze_core.cost.activations import activation_bytes
from semfreeze_core.finetune.freezing.freeze import apply_freeze_plan, freeze
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup
from tests.core.cost.saved_bytes import count_saved_bytes
from tests.core.finetune.live_steps import MODES, adapt, checkpoint, freeze_by_flags, step, tokens_of
from tests.core.finetune.plans import SETUP, plan_of, shape_and_names
from tests.core.tiny_models import FAMILIES, VARIANTS, build_tiny, find_pieces

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # PEFT still asks it
]

N_LAYERS = 4
INTERLEAVED = TrainableParts((False, True, False, True), embeddings=False, final_norm=True, head=False)
LORA = LoraSetup(3)
LORA_FAMILIES = (*FAMILIES, "opt-projected", "qwen2_moe")


def tiny(family="llama", tied=False, n_layers=N_LAYERS):
    return build_tiny(family, n_layers=n_layers, tied=tied, attention="eager")


def require_price(counted, shape, setup, parts):
    price = step_flop(shape, setup, parts)
    if flop_status(shape, setup) == "exact" or price.recompute == 0:
        assert counted == price.total
    else:  # at most each trained layer's last product is spared
        assert price.total - price.recompute < counted <= price.total


# The price


CASES = [(1, False, True), (3, True, False), (N_LAYERS, False, True)]


# Modes in turn; the families written down first meet all.
IN_MODES = [
    (family, mode)
    for i, family in enumerate(VARIANTS)
    for mode in (MODES if family in FAMILIES else MODES[i % 3 : i % 3 + 1])
]


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(("family", "mode"), IN_MODES)
def test_freeze_costs_what_step_flop_says(family, mode):
    # depths, tied heads and which comes first in turn: each meets each mode
    k, tied, checkpointing_first = CASES[(VARIANTS.index(family) + MODES.index(mode)) % 3]
    model = tiny(family, tied)
    shape, names = shape_and_names(model)
    parts = parts_at_depth(shape, k)
    if checkpointing_first:
        checkpoint(model, mode)
    freezing = freeze(model, parts, names=names)
    if not checkpointing_first:
        checkpoint(model, mode)
    counted = step(model, tokens_of(model))
    require_price(counted, shape, replace(SETUP, checkpointing=mode), parts)
    assert all(p.grad is not None for p in freezing.trainable_parameters())


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "parts",
    [
        INTERLEAVED,
        replace(INTERLEAVED, layers=(True, False, True, False)),
        TrainableParts((False,) * 4, embeddings=False, final_norm=False, head=True),
        TrainableParts((False, False, True, True), embeddings=True, final_norm=True, head=False),
        TrainableParts((True,) * 4, embeddings=False, final_norm=True, head=True),
        TrainableParts((True,) * 4, embeddings=True, final_norm=True, head=True),
    ],
    ids=["interleaved", "from layer 0", "head alone", "with embeddings", "all but embeddings", "all"],
)
def test_freeze_of_any_selection_costs_what_step_flop_says(parts, mode):
    model = tiny("opt-projected" if mode == "none" else "llama")
    shape, names = shape_and_names(model)
    checkpoint(model, mode)
    freezing = freeze(model, parts, names=names)
    setup = replace(SETUP, checkpointing=mode)
    require_price(step(model, tokens_of(model)), shape, setup, parts)
    assert freezing.has_boundary is not parts.embeddings


def test_freeze_trains_a_tied_head_and_its_embedding_together():
    model = tiny(tied=True)
    shape, names = shape_and_names(model)
    parts = TrainableParts((False, False, False, True), embeddings=False, final_norm=True, head=True)
    freezing = freeze(model, parts, names=names)
    assert freezing.parts.embeddings
    assert not freezing.has_boundary
    assert "model.embed_tokens.weight" in freezing.trainable_names
    assert step(model, tokens_of(model)) == step_flop(shape, SETUP, parts).total


@pytest.mark.quick_cases(5)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", LORA_FAMILIES)
def test_apply_freeze_plan_with_lora_costs_what_step_flop_says(family, mode):
    setup = replace(SETUP, checkpointing=mode, lora=LORA)
    # depths, and adapters injected or wrapped around, in turn: each meets each mode
    turn = LORA_FAMILIES.index(family) + MODES.index(mode)
    k, wrapped = 2 * (turn % 2), turn % 4 < 2
    model = tiny(family)
    shape, names = shape_and_names(model)
    plan = plan_of(model, k, setup=setup)
    model = adapt(model, shape, names.layer_prefix, plan.trainable, LORA, wrapped=wrapped)
    if k:
        checkpoint(model, mode)
    freezing = apply_freeze_plan(model, plan)
    if not k:
        checkpoint(model, mode)
    require_price(step(model, tokens_of(model)), shape, setup, plan.trainable)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(freezing.trainable_names)
    assert all(".lora_" in name for name in freezing.trainable_names)
    assert all(p.grad is not None for p in freezing.trainable_parameters())


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_layers_keep_nothing_and_trained_ones_what_activation_bytes_says(family, mode):
    setup = TrainingSetup(batch_size=2, sequence_length=7, checkpointing=mode)
    saved, predicted = {}, {}
    for n_layers, k in ((4, 1), (4, 2), (2, 0)):
        model = build_tiny(family, n_layers=n_layers, tied=False)
        shape, names = shape_and_names(model)
        parts = parts_at_depth(shape, k, embeddings=False, head=False)
        checkpoint(model, mode)
        freeze(model, parts, names=names)
        saved[n_layers, k] = count_saved_bytes(model, tokens_of(model, (2, 7)), setup)
        predicted[n_layers, k] = activation_bytes(shape, setup, parts)
    assert saved[4, 2] == saved[2, 0]
    if mode == "none":
        assert saved[4, 1] - saved[4, 2] == predicted[4, 1] - predicted[4, 2] > 0
    else:
        assert saved[4, 1] - saved[4, 2] == predicted[4, 1] - predicted[4, 2] == 4 * 2 * 7 * shape.d_model


# What is learned


@pytest.mark.parametrize(
    ("family", "mode"),
    [
        *(("llama", mode) for mode in MODES),
        *zip(("gpt2", "gpt_neox", "gemma2", "qwen3_moe"), MODES[1:] * 2, strict=True),
    ],
)
def test_freeze_gives_bit_equal_loss_and_gradients(family, mode):
    plain, frozen = tiny(family), tiny(family)
    names = shape_and_names(plain)[1]
    parts = TrainableParts((False, False, True, True), embeddings=False, final_norm=True, head=False)
    freeze_by_flags(plain, 2)
    freezing = freeze(frozen, parts, names=names)
    checkpoint(frozen, mode)
    ids = tokens_of(plain)
    losses = [model(input_ids=ids, labels=ids, use_cache=False).loss for model in (plain, frozen)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    wanted = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    gradients = {name: p.grad for name, p in frozen.named_parameters() if p.grad is not None}
    assert wanted.keys() == gradients.keys() == set(freezing.trainable_names)
    assert all(torch.equal(gradients[name], wanted[name]) for name in wanted)


def test_frozen_parameters_stay_bit_identical_whatever_the_optimizer_holds():
    model = tiny()
    names = shape_and_names(model)[1]
    ids = tokens_of(model)
    step(model, ids)  # leaves a gradient on every parameter
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    freezing = freeze(model, parts_at_depth(shape_and_names(model)[0], 2), names=names)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad(set_to_none=False)
        step(model, ids)
        optimizer.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(freezing.trainable_names)
    assert [id(p) for p in freezing.trainable_parameters()] == [id(p) for p in model.parameters() if p.requires_grad]


def test_a_frozen_model_generates_and_evaluates_what_it_did():
    model = tiny().eval()
    ids = tokens_of(model)
    plain = model(input_ids=ids).logits
    with freeze(model, INTERLEAVED, names=shape_and_names(model)[1]), torch.inference_mode():
        assert torch.equal(model(input_ids=ids).logits, plain)
        generated = model.generate(input_ids=ids, max_new_tokens=3, do_sample=False)
    assert torch.equal(generated, model.generate(input_ids=ids, max_new_tokens=3, do_sample=False))


# Nothing left behind


def test_a_prefix_that_raises_leaves_gradients_on():
    model = tiny()
    freeze(model, INTERLEAVED, names=shape_and_names(model)[1])

    def fail(*_):
        assert not torch.is_grad_enabled()
        raise RuntimeError("out of memory")

    find_pieces(model).layers[0].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        step(model, tokens_of(model))
    assert torch.is_grad_enabled()


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize(("mode", "as_context"), list(zip(MODES, (True, False, True), strict=True)))
def test_undo_gives_back_flags_classes_and_price(mode, as_context):
    model = tiny()
    names = shape_and_names(model)[1]
    checkpoint(model, mode)
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 3 > 0)
    flags, classes = [p.requires_grad for p in model.parameters()], [type(m) for m in model.modules()]
    ids = tokens_of(model)
    price, weights = step(model, ids), [p.detach().clone() for p in model.parameters()]
    freezing = freeze(model, INTERLEAVED, names=names)
    assert step(model, ids) < price
    if as_context:
        with freezing:
            pass
    else:
        freezing.undo()
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [type(m) for m in model.modules()] == classes
    assert all(map(torch.equal, model.parameters(), weights))
    assert step(model, ids) == price
    model.requires_grad_(False)
    freezing.undo()  # once only
    assert not any(p.requires_grad for p in model.parameters())


def test_freeze_finds_the_parts_by_itself_and_keeps_the_mode():
    model = tiny("gpt_neox")
    model.gpt_neox.layers[1].eval()
    modes = [module.training for module in model.modules()]
    freezing = freeze(model, INTERLEAVED)
    assert [module.training for module in model.modules()] == modes
    assert {name.split(".layers.")[1][0] for name in freezing.trainable_names if ".layers." in name} == {"1", "3"}
