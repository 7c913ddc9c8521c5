"""Nothing is computed in float64 on a device that does not have it: an analysis and a finetune of tiny models."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from semfreeze_core.cost import parts_at_depth
from semfreeze_core.finetune.arm.arms import make_arms
from semfreeze_core.finetune.arm.run import run_arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.prefix.fill import agreed_dtype
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.semantics.analysis import prepare_labels, read_traces
from semfreeze_core.semantics.display import choose_display
from semfreeze_core.semantics.gradient_norm import gradient_score
from semfreeze_core.semantics.positions import choose_positions
from semfreeze_core.semantics.scores import read_scores, states_to_keep
from semfreeze_core.semantics.spectrum import spectrum_score
from semfreeze_core.semantics.task_null import read_task_null
from semfreeze_core.sources.models.decoder import find_decoder
from tests.core.finetune.loaded import load_tiny, task_examples
from tests.core.float32_device import FLOAT32_DEVICE, REFUSAL, float32_device, move
from tests.core.semantics.tiny_examples import random_examples
from tests.core.tiny_models import build_tiny


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x.double(),
        lambda x: x.to(torch.float64),
        lambda x: x.to("cpu", torch.float64),
        lambda x: torch.zeros(1, dtype=torch.float64).to(x.device),
        lambda x: torch.zeros(1, dtype=torch.float64, device=x.device),
        lambda x: (x * 2).sum().double(),
        lambda x: torch.mul(torch.ones(3, dtype=torch.float64), x),
    ],
)
def test_the_device_refuses_float64(compute):
    with float32_device():
        x = torch.ones(3).to(FLOAT32_DEVICE)
        with pytest.raises(TypeError, match=REFUSAL):
            compute(x)
        assert x.cpu().double().dtype == x.to("cpu").double().dtype == torch.float64
        assert x.float().device == FLOAT32_DEVICE != x.cpu().device


def analyzed(decoder):
    """Mean deviations by metric and space, and the scores, of an analysis of a few examples."""
    examples = random_examples(12, seed=0)
    positions = choose_positions(examples, 8, 0)
    labels = prepare_labels(decoder, examples, positions, real_rows=97, lens_loss=True)
    display = choose_display(decoder, positions, 20, 0)
    states = states_to_keep(decoder, examples, 0)
    traces, _ = read_traces(decoder, examples, positions, labels, kept_states=display, scores=states)
    read_task_null(decoder, examples, labels, position_limit=8, seed=0)
    scores = read_scores(examples, states, len(decoder.layers), 0)
    scores["spectrum"] = spectrum_score(decoder.layers, requested=True)
    scores["gradient_norm"] = gradient_score(decoder, examples, positions)
    means = {name: trace.deviation.mean(0) for name, trace in traces.items()}
    return means, {name: score.values for name, score in scores.items()}


def test_an_analysis_computes_no_float64_on_the_device():
    decoder = find_decoder(build_tiny("llama"))
    expected, expected_scores = analyzed(decoder)
    with float32_device():
        move(decoder.model)
        decoder = find_decoder(decoder.model)
        assert decoder.device == FLOAT32_DEVICE
        traces, scores = analyzed(decoder)
    for name, values in expected.items():
        assert np.allclose(traces[name], values, atol=1e-5)
    for name, values in expected_scores.items():
        assert np.allclose(scores[name], values, atol=1e-4, equal_nan=True)


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("prefix_cache", [True, False])
def test_a_finetune_computes_no_float64_on_the_device(tmp_path, prefix_cache):
    train, evaluation = task_examples(8), task_examples(6, seed=1)
    setup = TrainingSetup(batch_size=4, steps=2, prefix_cache=prefix_cache)
    settings = ArmSettings(setup, seed=0, warmup_steps=1, n_accuracy=2, n_between=1)

    def finetuned(loaded):
        (arm,) = make_arms(("planned",), loaded.shape, parts_at_depth(loaded.shape, 2), rates={"frozen": 3e-3})
        return run_arm(loaded, arm, settings, train, evaluation, baseline_bytes=0)

    expected = finetuned(load_tiny(tmp_path / "llama"))
    loaded = load_tiny(tmp_path / "llama")
    with float32_device():
        move(loaded.decoder.model)
        loaded = replace(loaded, decoder=find_decoder(loaded.decoder.model))
        assert loaded.decoder.device == FLOAT32_DEVICE
        losses = finetuned(loaded)
    assert losses.status == "done"
    assert np.allclose(losses.train_losses, expected.train_losses, atol=1e-5)
    assert np.allclose(losses.points[-1].item_losses, expected.points[-1].item_losses, atol=1e-5)


def test_a_lower_precision_of_the_prefix_is_compared_without_float64_on_the_device():
    decoder = find_decoder(build_tiny("llama"))
    with float32_device():
        move(decoder.model)
        decoder = find_decoder(decoder.model)
        assert agreed_dtype(decoder, 2, torch.bfloat16, lambda _: None) == torch.bfloat16
