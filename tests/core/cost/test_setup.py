"""The precision of a finetune where nobody names one: that of the device the analysis ran on."""

from types import SimpleNamespace

import pytest

from semfreeze_core.cost.hardware import GPUS
from semfreeze_core.cost.setup import default_precision, options_applied
from semfreeze_core.errors import PlanError
from semfreeze_core.records.options import TrainingOptions
from semfreeze_core.records.training import TrainingSetup


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
