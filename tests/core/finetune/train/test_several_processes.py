"""Several processes that train one plan: the weights are those of one process over the same batches."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from semfreeze_core.finetune import processes
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.model import network
from semfreeze_core.finetune.train.folder import save_settings
from semfreeze_core.finetune.train.request import TrainRequest
from semfreeze_core.finetune.train.train import train_plan
from semfreeze_core.records.training import LoraSetup
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task
from tests.core.finetune.together import together

TOLERANCE = 1e-6
# 19 examples in steps of 4: an epoch ends with 3, of which one process has 2 and the other 1.
STEPS, EXAMPLES = 7, 19

CASES = {
    "uncached": {"prefix_cache": False},
    "cached": {"eval": True, "n_accuracy": 3},
    "pieces": {"micro_batch_size": 1, "checkpointing": "reentrant"},
}
SLOW_CASES = {
    "lora": {"lora": LoraSetup(2)},
    "uncached lora": {"lora": LoraSetup(2), "prefix_cache": False, "checkpointing": "non-reentrant"},
    "quantized": {"lora": LoraSetup(2), "frozen_bits": 4},
    "all logits": {"loss": "materialised", "prefix_cache": False, "micro_batch_size": 1},
    "full": {"depth": 0, "checkpointing": "non-reentrant"},
    "best": {"eval": True, "keep_best": True, "n_accuracy": 0},
    "searched": {"eval": 24, "learning_rate": None, "steps": 12, "n_accuracy": 0},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    write_task(folder / "train.jsonl", EXAMPLES)
    write_task(folder / "eval.jsonl", 7, seed=9)
    write_task(folder / "eval24.jsonl", 24, seed=9)
    return folder


def asked(place, *, lora=None, frozen_bits=None, depth=2, eval=None, **changes):
    sizes = {"d_model": 64, "head_dim": 16, "mlp_width": 64} if frozen_bits else {}
    model = place / ("wide" if sizes else "model")
    plan, _ = make_tiny_plan(model, depth, lora=lora, frozen_bits=frozen_bits, **sizes)
    named = {
        name: changes.pop(name) for name in ("prefix_cache", "checkpointing", "loss", "batch_size") if name in changes
    }
    base = TrainRequest(
        plan,
        str(place / "train.jsonl"),
        replace(plan.cost.setup, sequence_length=2048, **{"batch_size": 4, **named}),
        evaluation=None if eval is None else str(place / ("eval.jsonl" if eval is True else f"eval{eval}.jsonl")),
        steps=STEPS,
        learning_rate=3e-3,
        save_steps=2,
        model=ModelSource(source=str(model), device="cpu"),
    )
    return replace(base, **changes)


def weights(folder):
    return load_file(next(folder.glob("*model.safetensors")))


def assert_same_weights(ours, theirs):
    assert ours.keys() == theirs.keys()
    apart = max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
    assert apart <= TOLERANCE


def train_cases(place, out, cases):
    """In a process of several: every case's losses and evaluations, and how many examples' states it held."""
    results = {}
    held = []
    build = network.build_prefix_cache

    def counting(decoder, k, examples, **how):
        held.append(len(examples))
        return build(decoder, k, examples, **how)

    network.build_prefix_cache = counting
    for name, case in cases.items():
        held.clear()
        trained = train_plan(asked(place, **case), out / name)
        results[name] = {
            "losses": trained.losses,
            "evaluations": trained.evaluations(),
            "notes": trained.notes,
            "held": held[:],
        }
    return results


def hold_to_one_process(place, out, cases, results):
    """The same trainings by this process, over the same batches."""
    first, second = results
    for name, case in cases.items():
        request, alone = asked(place, **case), out / f"{name} alone"
        cached = case.get("prefix_cache", True) and case.get("depth", 2) > 0
        alone.mkdir()
        save_settings(alone, request, 2 if cached else 1)
        trained = train_plan(request, alone)
        assert_same_weights(weights(out / name), weights(alone))
        for result in (first[name], second[name]):
            assert result["losses"] == pytest.approx(trained.losses, abs=1e-5), name
            assert result["evaluations"]["after"] == _close(trained.evaluations()["after"]), name
        assert first[name]["losses"] == second[name]["losses"], "each knows the loss of all"
        n_eval = 0 if request.evaluation is None else len(Path(request.evaluation).read_text().splitlines())
        if cached:
            shares = [[len(range(rank, n, 2)) for n in (EXAMPLES, n_eval) if n] for rank in range(2)]
            assert [first[name]["held"], second[name]["held"]] == shares, "each caches its own examples alone"


def _close(evaluation):
    if evaluation is None:
        return None
    return {key: value if key == "step" else pytest.approx(value, abs=1e-5) for key, value in evaluation.items()}


def in_group(work):
    """Work for `together` that makes one process group for many trainings."""

    def joined(rank):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        processes._make_group("cpu")
        return work(rank)

    return joined


def test_two_processes_train_as_one_over_the_same_batches(place, tmp_path):
    asked(place)  # its model is made before both load it
    results = together(in_group(lambda rank: train_cases(place, tmp_path, CASES)), tmp_path / "pair")
    hold_to_one_process(place, tmp_path, CASES, results)
    assert "2 processes train together, each on 2 examples at a time." in results[0]["cached"]["notes"][0]
    assert not any("cache:" in note for note in results[0]["cached"]["notes"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks by the old name
@pytest.mark.parametrize("name", SLOW_CASES)
def test_two_processes_train_as_one_in_every_setup(place, tmp_path, name):
    cases = {name: SLOW_CASES[name]}
    asked(place, **SLOW_CASES[name])
    results = together(in_group(lambda rank: train_cases(place, tmp_path, cases)), tmp_path / "pair")
    hold_to_one_process(place, tmp_path, cases, results)
