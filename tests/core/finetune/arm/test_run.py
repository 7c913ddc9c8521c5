"""Real finetunes of tiny models: what is counted equals what was priced, what is frozen stays, what is read is read."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from semfreeze_core.cost import parts_at_depth
from semfreeze_core.finetune.arm.arms import make_arms
from semfreeze_core.finetune.arm.progress_file import LiveFile, live_path
from semfreeze_core.finetune.arm.run import run_arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.records.training import LoraSetup, TrainingSetup
from semfreeze_core.records.validation import LiveArm
from semfreeze_core.runs.reports import read_live
from tests.core.finetune.loaded import load_tiny, task_examples

TRAIN, EVAL = task_examples(24), task_examples(20, seed=1)
SETTINGS = ArmSettings(TrainingSetup(batch_size=4, steps=4), seed=0, warmup_steps=1, n_accuracy=0, n_between=0)
RATES = {"full": 3e-3, "frozen": 3e-3, "lora": 1e-2}


def changed(
    *, steps=4, prefix_cache=True, checkpointing="none", loss="supervised-only", micro_batch_size=None, **changes
):
    """The settings with another setup, and other changes."""
    setup = replace(
        SETTINGS.setup, steps=steps, prefix_cache=prefix_cache, checkpointing=checkpointing, loss=loss,
        micro_batch_size=micro_batch_size,
    )  # fmt: skip
    return replace(SETTINGS, setup=setup, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def trained(folder, name, settings=SETTINGS, family="llama", depth=2, train=TRAIN):
    loaded = load_tiny(folder / family, family)
    (arm,) = make_arms((name,), loaded.shape, parts_at_depth(loaded.shape, depth), lora=LoraSetup(2), rates=RATES)
    before = {n: p.detach().clone() for n, p in loaded.decoder.model.named_parameters()}
    return run_arm(loaded, arm, settings, train, EVAL, baseline_bytes=0), loaded, before


@pytest.fixture(scope="module")
def plain(folder):
    """An arm of the tiny Llama as SETTINGS train it, by name: trained once, to be compared with."""
    return cache(lambda name: trained(folder, name)[0])


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize(
    ("family", "name"),
    [
        *(("llama", name) for name in ("full", "planned", "half", "lora", "planned+lora", "depth:4")),
        *(("gpt2", name) for name in ("full", "planned", "planned+lora")),
    ],
)
def test_run_arm_trains_what_it_says_at_the_price_it_says(folder, family, name):
    run, loaded, before = trained(folder, name, family=family)
    assert run.status == "done"
    assert run.steps == len(run.train_losses) == len(run.step_seconds) == 4
    assert run.notes == [], "torch counts the FLOPs that the cost model estimates"
    assert run.prefix_cache is (name not in ("full", "lora"))
    after = {n.replace("base_layer.", ""): p for n, p in loaded.decoder.model.named_parameters() if "lora_" not in n}
    moved = {n for n, p in after.items() if not torch.equal(p, before[n])}
    prefix = loaded.decoder.names.layer_prefix
    layers = {int(n.removeprefix(prefix).split(".")[0]) for n in moved if n.startswith(prefix)}
    expected = set() if run.lora else {i for i, t in enumerate(run.trained.layers) if t}
    assert layers == expected
    assert (set(loaded.decoder.names.embeddings) <= moved) is (name == "full")
    if run.lora is None:
        assert run.trainable_parameters == sum(before[n].numel() for n in moved)


def test_run_arm_learns_and_reads_at_its_marks(folder):
    settings = changed(steps=10, compute_steps=30, n_between=2, n_accuracy=4)
    run, _, _ = trained(folder, "planned", settings)
    assert [(p.step, p.marks) for p in run.points] == [
        (8, ["between"]),  # a quarter of all steps
        (10, ["steps"]),
        (15, ["between"]),
        (30, ["compute"]),
    ]
    assert run.points[-1].loss < run.points[1].loss < 5.7
    assert all(len(p.item_losses) == len(EVAL) for p in run.points if p.marks != ["between"])
    assert run.points[1].loss == pytest.approx(np.mean(run.points[1].item_losses))
    assert run.points[0].loss is None
    assert run.points[0].curve_loss == pytest.approx(np.mean(run.points[0].item_losses))
    assert run.points[0].seconds < run.points[1].seconds < run.points[2].seconds
    assert run.points[-1].flop == run.flop.counted
    assert run.points[-1].accuracy is not None


def test_run_arm_is_followed_step_by_step(folder):
    loaded = load_tiny(folder / "llama")
    (arm,) = make_arms(("planned",), loaded.shape, parts_at_depth(loaded.shape, 2), rates=RATES)
    steps = []
    run = run_arm(
        loaded, arm, replace(SETTINGS, n_between=1), TRAIN, EVAL, baseline_bytes=0,
        follow=lambda live: steps.append(live.model_copy(update={"points": list(live.points)})),
    )  # fmt: skip
    assert [(live.step, live.total_steps, len(live.points)) for live in steps] == [
        (1, 4, 0),
        (2, 4, 1),
        (3, 4, 1),
        (4, 4, 2),
    ]
    assert [live.train_loss for live in steps] == run.train_losses
    assert steps[-1].points == run.points
    assert steps[-1].seconds == pytest.approx(sum(run.step_seconds) + run.cache_seconds)
    assert steps[-1].peak_bytes == run.peak_bytes.measured


def test_a_live_file_is_written_at_evaluations_and_else_once_per_second(plain, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("semfreeze_core.finetune.arm.progress_file.time.monotonic", lambda: now[0])
    path = live_path(tmp_path / "runs" / "planned-seed0.json")
    path.parent.mkdir()
    write, (point, *_) = LiveFile(path), plain("planned").points
    live = LiveArm(
        arm="planned", seed=0, step=1, total_steps=9, seconds=1.0, cache_seconds=0.5, train_loss=2.0, peak_bytes=7,
        points=[],
    )  # fmt: skip
    steps = []
    for step, at, points in ((1, 0.0, []), (2, 0.5, []), (3, 0.6, [point]), (4, 0.7, [point]), (5, 1.7, [point])):
        now[0] = at
        write(live.model_copy(update={"step": step, "points": points}))
        steps += [live.step for live in read_live(tmp_path)]
    assert steps == [1, 1, 3, 3, 5]
    path.write_text("{")
    assert read_live(tmp_path) == []
    path.unlink()
    path.mkdir()
    now[0] = 9.0
    write(live)  # cannot be written, and ends nothing
    assert path.is_dir()


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("name", ["planned", "planned+lora"])
def test_run_arm_from_the_cache_is_the_same_training(folder, name):
    cached, _, _ = trained(folder, name, train=TRAIN[:8])
    uncached, _, _ = trained(folder, name, changed(prefix_cache=False), train=TRAIN[:8])
    assert (cached.prefix_cache, uncached.prefix_cache) == (True, False)
    assert np.allclose(cached.train_losses, uncached.train_losses, atol=1e-5)
    assert np.allclose(cached.points[-1].item_losses, uncached.points[-1].item_losses, atol=1e-4)
    assert cached.flop.counted < uncached.flop.counted


@pytest.mark.parametrize("batches", ["random", "by-length"])
def test_run_arm_caches_the_examples_that_its_steps_meet_alone(folder, batches):
    """24 examples, of which 2 steps of 4 and one batch asked ahead take 12; the price is the cost model's."""
    few, all_of_them = changed(steps=2), changed(steps=6)
    few, all_of_them = (replace(s, setup=replace(s.setup, batches=batches)) for s in (few, all_of_them))
    cached, _, _ = trained(folder, "planned", few)
    whole, _, _ = trained(folder, "planned", all_of_them)
    uncached, _, _ = trained(folder, "planned", replace(few, setup=replace(few.setup, prefix_cache=False)))
    assert cached.notes == []
    assert np.allclose(cached.train_losses, uncached.train_losses, atol=1e-5)
    assert np.allclose(cached.train_losses, whole.train_losses[:2], atol=1e-5)
    assert cached.cache_bytes < 0.7 * whole.cache_bytes
    assert cached.flop.counted == pytest.approx(uncached.flop.counted, rel=0.3)


@pytest.mark.parametrize("micro_batch_size", [1, 2])
def test_run_arm_in_smaller_pieces_is_the_same_training(folder, plain, micro_batch_size):
    whole = plain("planned")
    pieces, _, _ = trained(folder, "planned", changed(micro_batch_size=micro_batch_size))
    assert (pieces.micro_batch_size, pieces.accumulation) == (micro_batch_size, 4 // micro_batch_size)
    assert (whole.micro_batch_size, whole.accumulation) == (4, 1)
    assert np.allclose(whole.train_losses, pieces.train_losses, atol=1e-5)
    assert np.allclose(whole.points[-1].item_losses, pieces.points[-1].item_losses, atol=1e-4)
    assert pieces.peak_bytes.saved_tensors < 0.6 * whole.peak_bytes.saved_tensors
    predicted = pieces.peak_bytes.saved_tensors_predicted, whole.peak_bytes.saved_tensors_predicted
    assert predicted[0] < 0.6 * predicted[1]


def test_run_arm_repeats_with_its_seed(folder, plain):
    first = plain("planned+lora")
    again, _, _ = trained(folder, "planned+lora")
    other, _, _ = trained(folder, "planned+lora", replace(SETTINGS, seed=1))
    assert first.train_losses == again.train_losses
    assert first.points[-1].item_losses == again.points[-1].item_losses
    assert first.train_losses != other.train_losses


def test_run_arm_sees_the_same_examples_in_every_arm(plain):
    full, planned = plain("full"), plain("planned")
    assert full.train_losses[0] == pytest.approx(planned.train_losses[0], abs=1e-5)


def test_run_arm_ends_when_the_loss_is_no_number(folder):
    loaded = load_tiny(folder / "llama")
    (arm,) = make_arms(("full",), loaded.shape, None, rates={"full": 1.0})
    with torch.no_grad():
        loaded.decoder.layers[1].mlp.down_proj.weight.fill_(float("nan"))
    run = run_arm(loaded, arm, SETTINGS, TRAIN, EVAL, baseline_bytes=0)
    assert (run.status, run.steps) == ("failed", 1)
    assert "at step 1" in run.reason
    assert run.points == []


@pytest.mark.parametrize("checkpointing", ["non-reentrant", "reentrant"])
def test_run_arm_under_checkpointing_is_the_same_training(folder, plain, checkpointing):
    checkpointed, _, _ = trained(folder, "planned", changed(checkpointing=checkpointing))
    assert checkpointed.notes == []
    assert np.allclose(plain("planned").train_losses, checkpointed.train_losses, atol=1e-5)


def test_run_arm_with_all_logits_gives_the_same_losses_for_more(folder, plain):
    lean = plain("full")
    stock, _, _ = trained(folder, "full", changed(loss="materialised"))
    assert np.allclose(lean.train_losses, stock.train_losses, atol=1e-5)
    assert stock.flop.counted > lean.flop.counted
    assert stock.peak_bytes.saved_tensors > lean.peak_bytes.saved_tensors
