"""The precision of a finetune where nobody names one, and the padding of batches at random and by length."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from semfreeze_core.cost.hardware import GPUS
from semfreeze_core.cost.setup import (
    GROUPED_BATCHES,
    default_precision,
    option_problems,
    options_applied,
    ordered_by_length,
    padded_length,
)
from semfreeze_core.errors import PlanError
from semfreeze_core.records.options import TrainingOptions
from semfreeze_core.records.training import TrainingSetup, micro_batch_sizes


def analyzed_on(device, dtype):
    return SimpleNamespace(manifest=SimpleNamespace(model=SimpleNamespace(device=device, dtype=dtype)))


@pytest.mark.parametrize(
    ("device", "dtype", "precision"),
    [
        ("cuda:0", "bfloat16", "bf16-autocast"),
        ("cuda", "bfloat16", "bf16-autocast"),
        ("cuda:0", "float32", "float32"),  # asked for, or a GPU without bfloat16
        ("cpu", "bfloat16", "float32"),
        ("cpu", "float32", "float32"),
        ("mps", "float32", "float32"),
    ],
)
def test_default_precision_is_that_of_the_analysis(device, dtype, precision):
    assert default_precision(analyzed_on(device, dtype)) == precision


@pytest.mark.parametrize("run", [None, analyzed_on("cuda", "bfloat16"), analyzed_on("cpu", "float32")])
@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_default_precision_is_that_of_the_gpu_that_is_named(run, gpu):
    ampere = gpu.name not in ("T4", "V100 16GB", "V100 32GB")
    assert default_precision(run, gpu) == ("bf16-autocast" if ampere else "float32")
    assert ampere or gpu.bf16_flop_per_second is None


def test_default_precision_without_a_run_is_a_setups_own():
    assert default_precision(None) == TrainingSetup().precision == "float32"


@pytest.mark.parametrize(
    ("text", "precision"), [("fp32", "float32"), ("BFloat16", "bf16"), ("bf16-mixed", "bf16-autocast")]
)
def test_options_take_precisions_as_they_are_spelled_and_keep_one_name(text, precision):
    assert options_applied(TrainingSetup(), TrainingOptions(precision=text)).precision == precision


def test_options_refuse_an_unknown_precision():
    with pytest.raises(PlanError, match="--precision fp8: expected float32 or bf16-autocast or bf16"):
        options_applied(TrainingSetup(), TrainingOptions(precision="fp8"))


def test_ordered_by_length_equals_a_hand_computed_case():
    lengths = [30, 10, 20, 11, 31, 21, 12]
    # by length: 1 3 | 6 2 | 5 0 | 4; of the whole ones, 6 2 begins first in the random order, then 5 0, then 1 3
    assert ordered_by_length([6, 5, 4, 3, 2, 1, 0], lengths, 2) == [6, 2, 5, 0, 1, 3, 4]


def test_ordered_by_length_of_equal_lengths_is_the_shuffled_order():
    shuffled = np.random.default_rng(0).permutation(900).tolist()
    assert ordered_by_length(shuffled, [5] * 900, 4) == shuffled


@pytest.mark.parametrize("n", [1, 7, 64, 200])
def test_ordered_by_length_keeps_every_example_and_to_its_group(n):
    rng = np.random.default_rng(n)
    shuffled, lengths = rng.permutation(n).tolist(), rng.integers(1, 99, n).tolist()
    order = ordered_by_length(shuffled, lengths, 4)
    assert sorted(order) == list(range(n))
    groups = [set(shuffled[i : i + 4 * GROUPED_BATCHES]) for i in range(0, n, 4 * GROUPED_BATCHES)]
    batches = [order[i : i + 4] for i in range(0, n, 4)]
    assert all(any(set(batch) <= group for group in groups) for batch in batches)


def test_padded_length_by_length_lies_between_the_mean_and_random_batches():
    lengths = np.random.default_rng(0).lognormal(4, 0.7, 640).astype(int).tolist()
    by_length = padded_length(lengths, 8, "by-length")
    assert np.mean(lengths) <= by_length < 0.7 * padded_length(lengths, 8)
    assert padded_length([50] * 20, 8, "by-length") == padded_length([50] * 20, 8) == 50
    assert padded_length([10, 90], 1, "by-length") == 50


@pytest.mark.parametrize(
    ("batch", "micro", "message"),
    [
        (None, 9, "--micro-batch-size must be in 1..8 (the batch size), found 9."),
        (4, 8, "--micro-batch-size must be in 1..4 (the batch size), found 8."),
        (12, 5, "--micro-batch-size must divide the batch size of 12, found 5: try 4."),
        (None, 0, "--micro-batch-size must be in 1..1000000000000, found 0."),
        (10**12, 10**12 - 1, "must divide the batch size of 1000000000000, found 999999999999: try 500000000000."),
    ],
)
def test_a_micro_batch_size_that_makes_up_no_batch_is_refused(batch, micro, message):
    with pytest.raises(PlanError, match=re.escape(message)):
        options_applied(TrainingSetup(batch_size=8), TrainingOptions(batch_size=batch, micro_batch_size=micro))


def test_a_batch_that_a_plans_micro_batches_do_not_make_up_is_refused_and_another_size_helps():
    planned = TrainingSetup(batch_size=8, micro_batch_size=4)
    with pytest.raises(PlanError, match=r"^--micro-batch-size must divide the batch size of 6, found 4: try 3\.$"):
        options_applied(planned, TrainingOptions(batch_size=6))
    assert options_applied(planned, TrainingOptions(batch_size=6, micro_batch_size=3)).passes_per_step == 2
    with pytest.raises(ValueError, match="micro_batch_size must divide the batch size of 6, found 4: try 3"):
        replace(planned, batch_size=6)


@pytest.mark.parametrize(
    ("batch", "sizes"), [(8, (8, 4, 2, 1)), (6, (6, 2, 1)), (12, (12, 4, 2, 1)), (5, (5, 1)), (1, (1,))]
)
def test_micro_batches_halve_down_to_one_example(batch, sizes):
    assert micro_batch_sizes(batch) == sizes


def test_a_setup_is_written_as_before_where_its_micro_batches_are_the_whole_batch():
    assert "micro_batch_size" not in TrainingSetup().document()
    assert TrainingSetup(micro_batch_size=2).document()["micro_batch_size"] == 2


def test_option_problems_name_an_unknown_kind_of_batches():
    assert option_problems(TrainingOptions(batches="sorted")) == ["--batches sorted: expected random or by-length"]
