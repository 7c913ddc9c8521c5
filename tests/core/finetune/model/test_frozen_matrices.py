"""Frozen matrices in bfloat16 under autocast: the same to the bit, half the memory, and given back as they were."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from semfreeze_core.cost.memory import autocast_copy_bytes, holds_frozen_in_bfloat16, weight_bytes
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.network import build_network
from semfreeze_core.finetune.train.train import train_plan
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup
from semfreeze_core.sources.models.causal_lm import load_causal_lm, measure_empty
from semfreeze_core.sources.models.config_shape import shape_from_config
from semfreeze_core.sources.models.opening import open_checkpoint
from tests.core.finetune.loaded import task_examples
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task
from tests.core.saved_models import save_tiny

EXAMPLES = task_examples(6, vocab=90)
AUTOCAST = TrainingSetup(batch_size=6, sequence_length=16, precision="bf16-autocast", prefix_cache=False)
# Frozen below, frozen between trained ones (it passes a gradient down), and trained by adapters alone.
TOP = TrainableParts((False, False, True, True), embeddings=False, final_norm=True, head=False)
BETWEEN = TrainableParts((False, True, False, True), embeddings=False, final_norm=True, head=False)
ALL = TrainableParts((True,) * 4, embeddings=False, final_norm=False, head=False)


@pytest.fixture
def load(tmp_path):
    """A tiny model of a family, its checkpoint stored in bfloat16 or in float32."""

    def loaded(family="llama", stored=torch.bfloat16):
        folder = tmp_path / f"{family}-{stored}"
        if not folder.exists():
            save_tiny(folder, family)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            model.to(stored).save_pretrained(folder)
        return load_causal_lm(str(folder), dtype="bf16-autocast", device="cpu")

    return loaded


def step(network):
    """Loss and gradients of one batch under autocast."""
    batch = Collator(EXAMPLES, network.train_cache)(range(6))
    network.supervised.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = network.supervised(**batch)["loss"]
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in network.supervised.named_parameters() if p.grad is not None}


def both_ways(load, family, parts, setup, monkeypatch):
    """A network whose frozen matrices autocast casts, and one that holds them."""
    with monkeypatch.context() as patch:
        patch.setattr("semfreeze_core.finetune.model.network.holds_frozen_in_bfloat16", lambda _: False)
        cast = build_network(load(family), parts, setup, EXAMPLES, seed=0)
    return cast, build_network(load(family), parts, setup, EXAMPLES, seed=0)


HELD = {
    "top": (TOP, {}),
    "cached": (TOP, {"prefix_cache": True}),
    "between": (BETWEEN, {}),
    "lora": (ALL, {"lora": LoraSetup(2)}),
}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.quick_cases(5)
@pytest.mark.parametrize("how", HELD)
@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", "gemma2", "opt-projected"])
def test_held_in_bfloat16_a_step_is_the_same_to_the_bit(load, family, how, monkeypatch):
    parts, changes = HELD[how]
    cast, held = both_ways(load, family, parts, replace(AUTOCAST, **changes), monkeypatch)
    assert not cast.frozen.in_bfloat16
    assert held.frozen.in_bfloat16
    assert all(weight.dtype == torch.bfloat16 for weight in held.frozen.in_bfloat16)
    (loss, gradients), (other_loss, others) = step(cast), step(held)
    assert torch.equal(loss, other_loss)
    assert gradients.keys() == others.keys()
    assert all(torch.equal(gradient, others[name]) for name, gradient in gradients.items())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize(("parts", "changes"), HELD.values(), ids=HELD)
def test_the_price_of_weights_is_what_is_allocated(load, parts, changes):
    loaded = load()
    shape = loaded.shape
    setup = replace(AUTOCAST, prefix_off_device=False, **changes)  # all of it stays where it can be counted
    network = build_network(loaded, parts, setup, EXAMPLES, seed=0)
    allocated = sum(parameter.nbytes for parameter in network.tuned.parameters())
    assert weight_bytes(shape, setup, parts) - autocast_copy_bytes(shape, setup, parts) == allocated
    plain = replace(shape, stored_in_bfloat16=False)
    saved = 2 * sum(map(math.prod, (w.shape for w in network.frozen.in_bfloat16)))
    assert weight_bytes(plain, setup, parts) - weight_bytes(shape, setup, parts) >= saved > 0


def test_what_bfloat16_does_not_hold_stays_in_float32(load):
    said = []
    loaded = load(stored=torch.float32)
    assert not loaded.shape.stored_in_bfloat16
    network = build_network(loaded, TOP, AUTOCAST, EXAMPLES, seed=0, progress=said.append)
    assert not network.frozen.in_bfloat16
    assert "bfloat16 does not hold their values" in said[-1].message
    assert {p.dtype for p in network.supervised.parameters()} == {torch.float32}


def test_a_model_that_computes_with_them_outside_of_autocast_keeps_float32(load):
    loaded, said = load(), []
    layer = loaded.decoder.layers[0].mlp
    ours = layer.forward

    def in_float32(hidden):
        with torch.autocast("cpu", enabled=False):
            return ours(hidden.float())

    layer.forward = in_float32
    before = copy.deepcopy(loaded.decoder.model.state_dict())
    network = build_network(loaded, TOP, AUTOCAST, EXAMPLES, seed=0, progress=said.append)
    assert "outside of autocast" in said[-1].message
    assert not network.frozen.in_bfloat16
    after = loaded.decoder.model.state_dict()
    assert all(
        after[name].dtype == weight.dtype and torch.equal(after[name], weight) for name, weight in before.items()
    )


def test_released_every_weight_is_as_it_was_loaded(load):
    loaded = load()
    before = copy.deepcopy(loaded.decoder.model.state_dict())
    network = build_network(loaded, TOP, AUTOCAST, EXAMPLES, seed=0)
    assert any(w.dtype == torch.bfloat16 for w in loaded.decoder.model.state_dict().values())
    network.release()
    after = loaded.decoder.model.state_dict()
    assert all(after[name].dtype == torch.float32 and torch.equal(after[name], w) for name, w in before.items())


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, True),
        ({"loss": "materialised"}, False),  # as stock trainers do
        ({"loss": "materialised", "prefix_cache": True}, True),
        ({"precision": "bf16"}, False),
        ({"precision": "float32"}, False),
        ({"lora": LoraSetup(2), "frozen_bits": 4}, False),
    ],
)
def test_which_setups_hold_frozen_matrices_in_bfloat16(changes, held):
    assert holds_frozen_in_bfloat16(replace(AUTOCAST, **changes)) == held


def test_every_way_to_a_shape_tells_what_the_checkpoint_is_stored_in(load, tmp_path):
    for stored in (torch.bfloat16, torch.float32):
        loaded = load(stored=stored)
        folder = tmp_path / f"llama-{stored}"
        empty = measure_empty(open_checkpoint(str(folder), config_only=True))
        assert loaded.shape == empty == shape_from_config(folder)
        assert loaded.shape.stored_in_bfloat16 == (stored == torch.bfloat16)


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("prefix_cache", [True, False])
def test_a_trained_model_has_the_checkpoints_frozen_weights(tmp_path, prefix_cache):
    from semfreeze_core.finetune.train.request import TrainRequest

    plan, _ = make_tiny_plan(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    model.to(torch.bfloat16).save_pretrained(tmp_path / "model")
    loaded = load_causal_lm(str(tmp_path / "model"), dtype="float32", device="cpu")
    plan = plan.model_copy(update={"model": loaded.identity})
    write_task(tmp_path / "train.jsonl", 8)
    setup = replace(
        plan.cost.setup, sequence_length=2048, batch_size=4, precision="bf16-autocast", prefix_cache=prefix_cache
    )
    said = []
    request = TrainRequest(plan, str(tmp_path / "train.jsonl"), setup, steps=2, learning_rate=3e-3, n_accuracy=0)
    train_plan(request, tmp_path / "out", said.append)
    assert any("are held in bfloat16" in event.message for event in said)
    original = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).state_dict()
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    moved = {name for name, weight in trained.items() if not torch.equal(weight, original[name])}
    assert moved
    assert all(".layers.2." in n or ".layers.3." in n or n == "model.norm.weight" for n in moved)
