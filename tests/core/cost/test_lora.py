"""Adapters: parameters of published tables, FLOP to torch's counter, and what LoRA can save at most."""

from dataclasses import replace

import pytest

from semfreeze_core.cost.lora import adaptable_matrices
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup
from tests.core.cost.counted_step import count_step, expected_step, prepare
from tests.core.tiny_models import VARIANTS, build_tiny

SETUP = TrainingSetup(batch_size=2, sequence_length=5)


def first_and_last(shape):
    """Targets: the first matrix of a layer, and its last."""
    plain = [matrix.name for matrix in adaptable_matrices(shape.layers[0])]
    return (plain[0], plain[-1])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", VARIANTS)
def test_step_flop_with_lora_equals_the_counter(family, tied, tiny_shape, random_tokens, compute_loss):
    for flags in ((0, False, False, False), (1, False, False, False), (2, False, True, False), (1, True, True, True)):
        k, *others = flags
        parts = TrainableParts(tuple(i >= k for i in range(3)), *others)
        for all_linear in (True, False):
            model = build_tiny(family, n_layers=3, tied=tied, attention="eager")
            shape = tiny_shape(model)
            lora = LoraSetup(3) if all_linear else LoraSetup(5, first_and_last(shape))
            setup = replace(SETUP, lora=lora)
            prepare(model, shape, setup, parts)
            counted = count_step(model, random_tokens(model, setup), setup, compute_loss)
            assert counted == expected_step(shape, setup, parts), (parts, lora)
