"""The named training setups: what each means, and which of them a model and a GPU can take."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import depth_cost, find_gpu, parts_at_depth
from semfreeze_core.cost.presets import PRESETS, fitting_presets, offered_presets
from semfreeze_core.cost.setup import setup_from_options
from semfreeze_core.finetune.arm.settings import refuse_untrainable
from semfreeze_core.records.defaults import LORA_RANK
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.sources.models.named_shape import named_shape


@pytest.fixture(scope="module")
def shape():
    return named_shape("shape:llama-3.1-8b")


def memory(shape, options):
    setup = setup_from_options(shape, None, options)
    return depth_cost(shape, setup, parts_at_depth(shape, 0, lora=setup.lora is not None)).bytes.total


def test_every_preset_saves_memory_beside_the_default_at_the_same_size(shape):
    at_one_size = [replace(preset.options, batch_size=None, sequence_length=None) for preset in PRESETS]
    default, mixed, lora, qlora, low = (memory(shape, options) for options in at_one_size)
    assert qlora < low < mixed < default
    assert qlora < lora < default


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_is_one_that_semfreeze_trains(preset, shape, monkeypatch):
    monkeypatch.setattr("semfreeze_core.finetune.arm.settings.find_spec", lambda name: name)  # bitsandbytes
    refuse_untrainable(setup_from_options(shape, None, preset.options))


def test_a_preset_that_is_longer_than_the_model_takes_is_not_offered(shape):
    assert tuple(offered_presets(shape)) == PRESETS
    short = {preset.name for preset in offered_presets(replace(shape, max_positions=1024))}
    assert short == {preset.name for preset in PRESETS if preset.options.sequence_length is None}


def test_a_fitting_preset_keeps_the_micro_batches_that_its_batch_is_made_of(shape):
    setup = setup_from_options(shape, None, EstimateOptions(batch_size=16))
    parts, gpu = parts_at_depth(shape, 0), find_gpu("RTX 4090")
    lora = f"LoRA, rank {LORA_RANK}"
    assert set(fitting_presets(shape, setup, parts, gpu)) == {"QLoRA, 4 bits"}
    single = fitting_presets(shape, replace(setup, micro_batch_size=1), parts, gpu)
    assert set(single) == {lora, "QLoRA, 4 bits"}
    fitting_presets(shape, replace(setup, micro_batch_size=16), parts, gpu)  # larger than a preset's own batch


def test_a_gpu_that_does_not_multiply_bfloat16_is_offered_none_in_it(shape):
    assert [preset.name for preset in offered_presets(shape, find_gpu("T4"))] == ["Default"]
    assert tuple(offered_presets(shape, find_gpu("RTX 4090"))) == PRESETS
