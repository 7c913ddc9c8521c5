"""Arms that freeze deeper after some steps: they train as their parts do, at the estimated cost."""

import gc
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from semfreeze_core.cost import parts_at_depth, progressive_flop
from semfreeze_core.finetune.arm import phase as phase_module
from semfreeze_core.finetune.arm import rate_search
from semfreeze_core.finetune.arm.arguments import setup_at_lengths
from semfreeze_core.finetune.arm.arms import make_arms
from semfreeze_core.finetune.arm.run import run_arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.network import CacheSettings
from semfreeze_core.records.training import DepthSwitch, TrainingSetup
from tests.core.finetune.loaded import load_tiny, task_examples

TRAIN, EVAL = task_examples(24), task_examples(20, seed=1)
# An epoch is 6 steps: 8 steps before the switch, or after it, meet examples again; 4 do not.
SETTINGS = ArmSettings(TrainingSetup(batch_size=4, steps=12), seed=0, warmup_steps=2, n_between=2)
RATE = 3e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def trained(folder, name, settings=SETTINGS, rate=RATE, family="llama", **how):
    loaded = load_tiny(folder / family, family)
    planned = parts_at_depth(loaded.shape, 3)
    (arm,) = make_arms((name,), loaded.shape, planned, rates={name: rate}, steps=settings.setup.steps)
    return run_arm(loaded, arm, settings, TRAIN, EVAL, baseline_bytes=0, **how), loaded


@pytest.fixture(scope="module")
def plain(folder):
    """A progressive arm of the tiny Llama as SETTINGS train it, and its model; trained once, to be compared with."""
    return cache(lambda name: trained(folder, name))


@pytest.fixture
def batches(monkeypatch):
    """The examples of each batch that a trainer asks for, by the collator that makes it."""
    asked, make = {}, Collator.__call__

    def call(self, indices):
        if isinstance(indices, list):  # evaluations and counted steps take ranges
            asked.setdefault(self, []).append(indices)
        return make(self, indices)

    monkeypatch.setattr(Collator, "__call__", call)
    return asked


def trained_by_hand(loaded, batches, depths, rate=RATE):
    """The model trained by torch's AdamW alone on these batches, each with a freeze depth; the losses."""
    model = loaded.decoder.model
    model.train()
    optimizer, losses, collate = None, [], Collator(TRAIN)
    for step, (indices, depth) in enumerate(zip(batches, depths, strict=True)):
        model.requires_grad_(depth == 0)
        for module in (*loaded.decoder.layers[depth:], loaded.decoder.final_norm):
            module.requires_grad_(True)
        if optimizer is None:
            # The same kernel: gradients that are zero but for rounding, as of GPT-2's key biases, it turns into steps.
            optimizer = torch.optim.AdamW(
                [p for p in model.parameters() if p.requires_grad], rate, weight_decay=0.0, fused=True
            )
        wanted = [p for p in model.parameters() if p.requires_grad]
        for group in optimizer.param_groups:
            group["params"] = [p for p in group["params"] if p.requires_grad]
            group["lr"] = rate * min(1.0, step / SETTINGS.warmup_steps)
        loss = model(**collate(tuple(indices))).loss
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(wanted, 1.0)
        optimizer.step()
    return losses


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(
    ("family", "name", "depths", "cached"),
    [
        ("llama", "progressive:0-3@4", (0, 3), (False, True)),
        ("llama", "progressive:1-2@8", (1, 2), (True, False)),
        ("gpt2", "progressive:1-4@6", (1, 4), (False, False)),
        ("gpt2", "progressive:0-2@5", (0, 2), (False, True)),
    ],
)
def test_it_is_its_parts_wide_alone_and_then_deep_from_there(folder, batches, family, name, depths, cached):
    run, loaded = trained(folder, name, family=family)
    step, rest = run.switch.step, 12 - run.switch.step
    first, second = batches.values()
    order = [*first[:step], *second[:rest]]
    epochs = [sorted(index for batch in order[i : i + 6] for index in batch) for i in (0, 6)]
    assert epochs == [list(range(24))] * 2, "every example once per epoch, also where the switch is within one"
    by_hand = load_tiny(folder / family, family)
    losses = trained_by_hand(by_hand, order, [depths[0]] * step + [depths[1]] * rest)
    assert run.train_losses == pytest.approx(losses, rel=1e-6)
    after = dict(by_hand.decoder.model.named_parameters())
    for n, parameter in loaded.decoder.model.named_parameters():
        assert torch.allclose(parameter, after[n], rtol=0, atol=2e-6), n
    assert (run.cache_seconds > 0, run.switch_cache_seconds > 0) == cached


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(
    ("name", "prefix_cache"),
    [("progressive:0-3@4", True), ("progressive:1-3@8", True), ("progressive:1-2@5", False)],
)
def test_its_counted_flop_are_the_estimated_ones(folder, name, prefix_cache):
    settings = replace(SETTINGS, setup=replace(SETTINGS.setup, prefix_cache=prefix_cache))
    run, loaded = trained(folder, name, settings)
    assert run.notes == [], "torch counts a step of each phase as the cost model does"
    setup = setup_at_lengths(settings, TRAIN, cached=prefix_cache)
    assert run.flop.predicted == progressive_flop(loaded.shape, setup, run.switch)
    assert run.flop.counted == pytest.approx(run.flop.predicted, rel=0.1)  # batches are not all of the mean length
    assert run.points[-1].flop == run.flop.counted
    flops = [point.flop for point in run.points]
    assert flops == sorted(flops)
    assert run.points[-1].seconds == pytest.approx(sum(run.step_seconds) + run.cache_seconds + run.switch_cache_seconds)


@pytest.mark.quick_cases(0)
def test_it_costs_less_than_wide_and_more_than_deep(folder, plain):
    run, loaded = plain("progressive:0-3@4")
    wide, _ = trained(folder, "full")
    deep, _ = trained(folder, "depth:3")
    assert deep.flop.counted < run.flop.counted < wide.flop.counted
    assert run.switch == DepthSwitch(0, 3, 4)
    assert run.trained == parts_at_depth(loaded.shape, 0)
    assert run.peak_bytes.predicted == wide.peak_bytes.predicted, "the wide phase's memory leads"
    assert run.train_losses[:4] == wide.train_losses[:4]
    assert run.trainable_parameters == wide.trainable_parameters


def test_without_a_cache_it_is_the_same_training(folder, plain):
    cached, _ = plain("progressive:0-3@4")
    uncached, _ = trained(
        folder, "progressive:0-3@4", replace(SETTINGS, setup=replace(SETTINGS.setup, prefix_cache=False))
    )
    assert (cached.prefix_cache, uncached.prefix_cache) == (True, False)
    assert np.allclose(cached.train_losses, uncached.train_losses, atol=1e-5)
    assert [(p.step, p.marks) for p in cached.points] == [(3, ["between"]), (6, ["between"]), (12, ["steps"])]
    for ours, theirs in zip(cached.points, uncached.points, strict=True):
        assert np.allclose(ours.item_losses, theirs.item_losses, atol=1e-4)


def test_moments_and_states_of_what_is_frozen_are_freed(folder):
    held = []

    def look(live):
        gc.collect()
        optimizers = [o for o in gc.get_objects() if type(o) is torch.optim.AdamW]
        moments = sum(s["exp_avg"].numel() for o in optimizers for s in o.state.values() if "exp_avg" in s)
        held.append((live.step, moments))

    run, loaded = trained(folder, "progressive:1-3@8", follow=look)
    model, layers = loaded.decoder.model, loaded.decoder.layers
    norm = sum(p.numel() for p in loaded.decoder.final_norm.parameters())
    counts = [norm + sum(p.numel() for layer in layers[k:] for p in layer.parameters()) for k in (1, 3)]
    assert [moments for _, moments in held] == [counts[0]] * 8 + [counts[1]] * 4
    assert run.trainable_parameters == counts[0]
    assert not any(p.requires_grad for layer in layers[:3] for p in layer.parameters())
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_states_of_a_moved_prefix_are_the_arms_own(folder, tmp_path):
    store = tmp_path / "states"
    cache = CacheSettings(memory_limit_bytes=0, folder=store)
    run, _ = trained(folder, "progressive:0-3@4", cache=cache)
    assert run.switch_cache_seconds > 0
    assert not store.exists() or not list(store.iterdir())


@pytest.mark.quick_cases(0)
def test_its_rate_is_searched_before_it_freezes_deeper(folder):
    settings = replace(SETTINGS, rate_steps=4)
    run, _ = trained(folder, "progressive:0-3@4", settings, rate=1e-3)
    full, _ = trained(folder, "full", settings, rate=1e-3)
    assert run.rate_search.trials == full.rate_search.trials or [
        (t.rate, t.losses) for t in run.rate_search.trials
    ] == [(t.rate, t.losses) for t in full.rate_search.trials]
    alone, _ = trained(folder, "progressive:0-3@4", replace(settings, rate_steps=None), rate=run.rate_search.rate)
    assert run.train_losses == pytest.approx(alone.train_losses, abs=1e-6)
    assert run.points[-1].item_losses == pytest.approx(alone.points[-1].item_losses, abs=1e-6)
    assert run.flop == alone.flop
    assert [(p.step, p.marks) for p in run.points] == [(4, ["between"]), (6, ["between"]), (12, ["steps"])]


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("killed_at", ["wide", "switch", "deep"])
def test_killed_in_any_phase_it_goes_on_to_the_same_numbers(folder, tmp_path, monkeypatch, plain, killed_at):
    settings = replace(SETTINGS, rate_steps=4)
    name = "progressive:0-3@6"
    reference, _ = trained(folder, name, settings, rate=1e-3)

    def kill(live):
        if live.step == {"wide": 5, "deep": 8}.get(killed_at):
            raise KeyboardInterrupt

    if killed_at == "switch":
        monkeypatch.setattr(phase_module, "deeper_checkpoint", lambda *_: kill_now())
    with pytest.raises(KeyboardInterrupt):
        trained(folder, name, settings, rate=1e-3, rates_folder=tmp_path, follow=kill)
    monkeypatch.undo()
    monkeypatch.setattr(rate_search.RateTrials, "_try", lambda *_: pytest.fail("it searched again"))
    again, _ = trained(folder, name, settings, rate=1e-3, rates_folder=tmp_path)
    assert again.train_losses == reference.train_losses
    assert [p.item_losses for p in again.points] == [p.item_losses for p in reference.points]
    assert again.flop == reference.flop


def kill_now():
    raise KeyboardInterrupt


@pytest.mark.parametrize("bad_step", [2, 7])
def test_a_loss_that_is_no_number_ends_it_in_either_phase(folder, bad_step):
    loaded = load_tiny(folder / "llama")
    (arm,) = make_arms(("progressive:0-3@4",), loaded.shape, None, rates={"full": RATE}, steps=12)

    def spoil(live):
        if live.step == bad_step - 1:
            with torch.no_grad():
                loaded.decoder.layers[3].mlp.down_proj.weight.fill_(float("nan"))

    run = run_arm(loaded, arm, replace(SETTINGS, n_between=0), TRAIN, EVAL, baseline_bytes=0, follow=spoil)
    assert (run.status, run.cause, run.steps) == ("failed", "diverged", bad_step)
    assert f"at step {bad_step}" in run.reason
    assert len(run.train_losses) == bad_step
