"""Layers computed again on the way back: to torch's counter, by hand, and to their limits."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import flop_status, step_flop
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup
from tests.core.cost.counted_step import count_step, expected_step, prepare
from tests.core.tiny_models import VARIANTS, build_tiny

# Of the frozen layers below the boundary, which run without a graph.
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")

N_LAYERS = 3
SETUP = TrainingSetup(batch_size=2, sequence_length=5)
MODES = ("non-reentrant", "reentrant", "transformers-5")
FULL = TrainableParts((True,) * 3, embeddings=True, final_norm=True, head=True)
PARTS = [
    FULL,
    TrainableParts((False, True, True), embeddings=False, final_norm=True, head=False),
    TrainableParts((True, False, True), embeddings=False, final_norm=False, head=True),
    TrainableParts((False, False, True), embeddings=True, final_norm=False, head=False),
    TrainableParts((False, False, False), embeddings=False, final_norm=True, head=False),
]
LORA = [
    (LoraSetup(3), TrainableParts((False, True, True), embeddings=False, final_norm=False, head=False)),
    (LoraSetup(2), TrainableParts((True, True, True), embeddings=False, final_norm=True, head=False)),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", VARIANTS)
def test_step_flop_with_checkpointing_equals_the_counter(family, mode, tiny_shape, random_tokens, compute_loss):
    setup = replace(SETUP, checkpointing=mode)
    for parts, lora in [(parts, None) for parts in PARTS] + [(parts, lora) for lora, parts in LORA]:
        model = build_tiny(family, n_layers=N_LAYERS, tied=False, attention="eager")
        shape, asked = tiny_shape(model), replace(setup, lora=lora)
        prepare(model, shape, asked, parts)
        counted = count_step(model, random_tokens(model, asked), asked, compute_loss)
        forward, total = expected_step(shape, asked, parts)
        if flop_status(shape, asked) == "exact":
            assert counted == (forward, total), (parts, lora)
        else:  # all is computed again but, perhaps, each layer's last product
            assert counted[0] == forward
            assert total - step_flop(shape, asked, parts).recompute < counted[1] <= total or counted[1] == total


@pytest.mark.parametrize("mode", MODES)
def test_step_flop_with_checkpointing_of_a_tied_model_equals_the_counter(mode, tiny_shape, random_tokens, compute_loss):
    setup = replace(SETUP, checkpointing=mode)
    for parts in (FULL, PARTS[1]):
        model = build_tiny("llama", n_layers=N_LAYERS, tied=True, attention="eager")
        shape = tiny_shape(model)
        prepare(model, shape, setup, parts)
        counted = count_step(model, random_tokens(model, setup), setup, compute_loss)
        assert counted == expected_step(shape, setup, parts)
