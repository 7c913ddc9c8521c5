"""Digests that tell models apart: what they see, and what they must not see."""

import pytest
import torch
from torch import nn

from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.sources.models.model_shape import identify
from tests.core.saved_models import save_tiny
from tests.core.tiny_models import FAMILIES, build_tiny


@pytest.fixture(autouse=True)
def _one_thread(measured_once):
    torch.set_num_threads(1)


@pytest.fixture
def identity_of():
    return lambda model: identify(model, source="somewhere", revision=None)


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("saved_as", [torch.float32, torch.bfloat16, torch.float16])
def test_identify_agrees_between_dtypes_of_one_checkpoint(tmp_path, saved_as):
    save_tiny(tmp_path, dtype=saved_as)
    precise, coarse = (load_causal_lm(str(tmp_path), dtype=d, device="cpu") for d in ("float32", "bfloat16"))
    assert precise.decoder.dtype == torch.float32
    assert coarse.decoder.dtype == torch.bfloat16
    assert precise.identity == coarse.identity


def test_identify_says_what_was_read(identity_of):
    identity = identity_of(build_tiny("gpt2"))
    assert (identity.source, identity.revision) == ("somewhere", None)
    assert (identity.family, identity.architecture) == ("gpt2", "GPT2LMHeadModel")
    assert len(identity.structure_digest) == len(identity.weights_digest) == 64


@pytest.mark.parametrize("layer", range(4))
def test_identify_sees_one_changed_layer_in_the_weights_only(identity_of, layer):
    model = build_tiny("llama")
    before = identity_of(model)
    model.model.layers[layer].mlp.up_proj.weight.data *= 1.5
    after = identity_of(model)
    assert after.weights_digest != before.weights_digest
    assert after.structure_digest == before.structure_digest


def test_identify_sees_another_size(identity_of):
    one, other = identity_of(build_tiny("llama")), identity_of(build_tiny("llama", mlp_width=56))
    assert one.structure_digest != other.structure_digest
    assert one.weights_digest != other.weights_digest


def test_identify_sees_another_seed_in_the_weights_only(identity_of):
    one, other = identity_of(build_tiny("llama")), identity_of(build_tiny("llama", seed=1))
    assert one.structure_digest == other.structure_digest
    assert one.weights_digest != other.weights_digest


@pytest.mark.parametrize("family", FAMILIES)
def test_identify_of_a_tied_model_survives_saving(tmp_path, identity_of, family):
    model = save_tiny(tmp_path, family, tied=True)
    loaded = load_causal_lm(str(tmp_path), dtype="float32", device="cpu")
    assert loaded.decoder.tied
    assert loaded.identity.structure_digest == identity_of(model).structure_digest
    assert loaded.identity.weights_digest == identity_of(model).weights_digest


def test_identify_reads_parameters_smaller_than_its_sample(identity_of):
    class Small(nn.Module):
        config = build_tiny("llama").config

        def __init__(self):
            super().__init__()
            self.single = nn.Parameter(torch.ones(1))

    one, other = Small(), Small()
    other.single.data += 1
    assert identity_of(one).weights_digest != identity_of(other).weights_digest
