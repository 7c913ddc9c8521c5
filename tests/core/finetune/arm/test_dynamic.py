"""An arm whose batches freeze depths of their own: it trains what they say, at the counted cost."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from semfreeze_core.cost import dynamic_flop, dynamic_step_flop, parts_at_depth
from semfreeze_core.errors import PlanError
from semfreeze_core.finetune.arm import rate_search
from semfreeze_core.finetune.arm.arguments import setup_at_lengths
from semfreeze_core.finetune.arm.arms import make_arms
from semfreeze_core.finetune.arm.flop import setup_of_batch
from semfreeze_core.finetune.arm.run import run_arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.audit.step_count import count_step
from semfreeze_core.finetune.freezing.layer_call import is_replaced
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.network import build_network
from semfreeze_core.records.training import TrainingSetup
from tests.core.finetune.loaded import load_tiny, task_examples

TRAIN, EVAL = task_examples(22), task_examples(20, seed=1)
# An epoch is 5 steps of 4 examples and one of 2, and the second epoch is not whole.
SETTINGS = ArmSettings(TrainingSetup(batch_size=4, steps=10), seed=0, warmup_steps=2, n_between=1)
RATE = 3e-3
DEPTHS = tuple(np.random.default_rng(3).choice([1, 2, 3], 22).tolist())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def trained(folder, name="dynamic", depths=DEPTHS, settings=SETTINGS, rate=RATE, **how):
    loaded = load_tiny(folder / "llama", "llama")
    (arm,) = make_arms((name,), loaded.shape, None, rates={name: rate}, steps=10, example_depths=depths)
    return run_arm(loaded, arm, settings, TRAIN, EVAL, baseline_bytes=0, **how), loaded


@pytest.fixture(scope="module")
def plain(folder):
    """The arm as SETTINGS train it, and its model; trained once, to be compared with."""
    return cache(lambda: trained(folder))


@pytest.fixture
def batches(monkeypatch):
    """The examples of each batch that the trainer asks for."""
    asked, make = [], Collator.__call__

    def call(self, indices):
        if isinstance(indices, list):  # evaluations and counted steps take ranges
            asked.append(indices)
        return make(self, indices)

    monkeypatch.setattr(Collator, "__call__", call)
    return asked


def trained_by_hand(loaded, batches):
    """The model trained by torch's AdamW alone, each batch from the least of its examples' depths on; the losses."""
    model, decoder, losses = loaded.decoder.model, loaded.decoder, []
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0)
    for step, indices in enumerate(batches):
        model.requires_grad_(False)
        for module in (*decoder.layers[min(DEPTHS[i] for i in indices) :], decoder.final_norm):
            module.requires_grad_(True)
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, step / SETTINGS.warmup_steps)
        loss = model(**Collator(TRAIN)(tuple(indices))).loss
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
    return losses


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("prefix_cache", [True, False])
def test_each_batch_trains_from_the_least_depth_of_its_examples(folder, batches, prefix_cache):
    settings = replace(SETTINGS, setup=replace(SETTINGS.setup, prefix_cache=prefix_cache))
    run, loaded = trained(folder, settings=settings)
    order = batches[:10]
    assert run.prefix_cache == prefix_cache
    assert sorted(index for batch in order[:6] for index in batch) == list(range(22)), "every example once per epoch"
    lowest = [min(DEPTHS[i] for i in batch) for batch in order]
    assert set(lowest) == {1, 2, 3}
    by_hand = load_tiny(folder / "llama", "llama")
    assert run.train_losses == pytest.approx(trained_by_hand(by_hand, order), rel=1e-6)
    after = dict(by_hand.decoder.model.named_parameters())
    for name, parameter in loaded.decoder.model.named_parameters():
        assert torch.allclose(parameter, after[name], rtol=0, atol=2e-6), name


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("prefix_cache", [True, False])
def test_of_equal_depths_it_is_that_depths_arm(folder, prefix_cache):
    settings = replace(SETTINGS, setup=replace(SETTINGS.setup, prefix_cache=prefix_cache))
    ours, loaded = trained(folder, depths=(2,) * 22, settings=settings)
    theirs, other = trained(folder, "depth:2", settings=settings)
    assert ours.train_losses == pytest.approx(theirs.train_losses, abs=1e-6)
    for a, b in zip(ours.points, theirs.points, strict=True):
        assert (a.step, a.marks) == (b.step, b.marks)
        assert a.item_losses == pytest.approx(b.item_losses, abs=1e-6)
    for a, b in zip(loaded.decoder.model.parameters(), other.decoder.model.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)
    assert ours.flop.counted > theirs.flop.counted, "choosing the depths takes a pass"
    assert ours.trained == theirs.trained


def test_accumulated_batches_of_a_step_freeze_alike(folder, plain, batches):
    run, _ = trained(folder, settings=replace(SETTINGS, setup=replace(SETTINGS.setup, micro_batch_size=2)))
    assert [len(batch) for batch in batches[:11]] == [2] * 11
    assert run.train_losses == pytest.approx(plain()[0].train_losses, abs=1e-6)


def test_layers_below_a_batchs_depth_keep_weights_and_moments(folder, monkeypatch):
    counts = {}

    def look(live):
        counts[live.step] = [
            {int(s["step"]) for p in layer.parameters() if (s := optimizer.state.get(p))} for layer in layers
        ]

    loaded = load_tiny(folder / "llama", "llama")
    layers, make = loaded.decoder.layers, torch.optim.AdamW.__init__
    optimizer = None

    def keep(self, *args, **kwargs):
        nonlocal optimizer
        make(self, *args, **kwargs)
        optimizer = self

    monkeypatch.setattr(torch.optim.AdamW, "__init__", keep)
    (arm,) = make_arms(("dynamic",), loaded.shape, None, rates={"dynamic": RATE}, example_depths=DEPTHS)
    run = run_arm(loaded, arm, SETTINGS, TRAIN, EVAL, baseline_bytes=0, follow=look)
    assert run.status == "done"
    least = sorted(DEPTHS)[::4]
    # After the first epoch, each layer has as many steps as there are batches that train it.
    trained_by = [sum(depth <= i for depth in least) for i in range(4)]
    assert counts[6] == [set() if n == 0 else {n} for n in trained_by]
    assert trained_by[0] == 0 < trained_by[1] < trained_by[3] == 6


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_a_step_at_each_depth_takes_the_estimated_flop(folder, prefix_cache):
    loaded = load_tiny(folder / "llama", "llama")
    setup = TrainingSetup(batch_size=4, prefix_cache=prefix_cache)
    network = build_network(loaded, parts_at_depth(loaded.shape, 1), setup, TRAIN, seed=0)
    network.supervised.train()
    batch = Collator(TRAIN, network.train_cache)(range(4))
    for depth in (3, 1, 2):
        network.freezing.move_boundary(depth)
        counted = count_step(network.supervised, network.decoder.model, batch)
        batch_setup = setup_of_batch(setup, network.supervised.sizes[-1])
        assert counted.flop == dynamic_step_flop(loaded.shape, batch_setup, 1, depth, cached=prefix_cache).total
    with pytest.raises(ValueError, match="layers 1 to 3, not at 0"):
        network.freezing.move_boundary(0)
    with pytest.raises(ValueError, match="freezes 2 layers, but this model cannot move its boundary"):
        network.supervised(**batch, freeze_depth=2)
    network.unfreeze()
    assert not any(is_replaced(layer) for layer in network.decoder.layers)


def test_its_flop_are_those_of_its_batches(folder, plain):
    run, loaded = plain()
    setup = setup_at_lengths(SETTINGS, TRAIN, cached=True)
    assert run.notes == []
    assert run.flop.predicted == dynamic_flop(loaded.shape, setup, DEPTHS)
    assert run.flop.counted == pytest.approx(run.flop.predicted, rel=0.15)  # batches are not all of the mean length
    assert run.points[-1].flop == run.flop.counted
    wide, arm, deep = make_arms(("depth:1", "dynamic", "depth:3"), loaded.shape, None, example_depths=DEPTHS)
    assert (
        deep.step_flop(loaded.shape, setup) < arm.step_flop(loaded.shape, setup) < wide.step_flop(loaded.shape, setup)
    )
    assert arm.parts == parts_at_depth(loaded.shape, 1) == run.trained
    assert run.example_depths == DEPTHS


@pytest.mark.quick_cases(0)
def test_killed_after_its_search_it_resumes_to_the_same_numbers(folder, tmp_path, monkeypatch):
    settings = replace(SETTINGS, rate_steps=4)
    reference, _ = trained(folder, settings=settings, rate=1e-3)

    def kill(live):
        if live.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(folder, settings=settings, rate=1e-3, rates_folder=tmp_path, follow=kill)
    monkeypatch.setattr(rate_search.RateTrials, "_try", lambda *_: pytest.fail("it searched again"))
    again, _ = trained(folder, settings=settings, rate=1e-3, rates_folder=tmp_path)
    assert again.train_losses == reference.train_losses
    assert [p.item_losses for p in again.points] == [p.item_losses for p in reference.points]
    assert again.flop == reference.flop
    alone, _ = trained(folder, settings=SETTINGS, rate=reference.rate_search.rate)
    assert alone.train_losses == pytest.approx(reference.train_losses, abs=1e-6)
    assert alone.flop == reference.flop


def test_without_depths_of_the_examples_it_is_refused(folder):
    shape = load_tiny(folder / "llama", "llama").shape
    with pytest.raises(PlanError, match="variant dynamic: needs the freeze depth of each training example"):
        make_arms(("full", "dynamic"), shape, None)
