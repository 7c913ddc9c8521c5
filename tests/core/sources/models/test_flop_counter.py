"""What counts as a model's FLOPs, whatever the release of transformers."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from semfreeze_core.sources.models.flop_counter import model_flop
from semfreeze_core.sources.models.probe import probe_ids
from tests.core.tiny_models import build_tiny


@pytest.fixture
def model():
    return build_tiny("llama")


def with_matrix_product(model):
    """The model with its rotary tables as releases before 5.20 make them."""
    rotary = model.model.rotary_emb

    def forward(x, position_ids):
        frequencies = rotary.inv_freq[None, :, None].float().expand(position_ids.shape[0], -1, 1)
        angles = (frequencies @ position_ids[:, None, :].float()).transpose(1, 2)
        both = torch.cat((angles, angles), dim=-1)
        return both.cos().to(x.dtype), both.sin().to(x.dtype)

    rotary.forward = forward
    return model


def counted(model):
    with FlopCounterMode(display=False) as counter:
        model(input_ids=probe_ids(model), use_cache=False)
    return counter


def test_rotary_tables_are_not_counted_however_they_are_made(model):
    element_by_element = counted(model)
    assert model_flop(element_by_element) == element_by_element.get_total_flops()
    as_matrices = counted(with_matrix_product(model))
    assert as_matrices.get_total_flops() > element_by_element.get_total_flops()
    assert model_flop(as_matrices) == model_flop(element_by_element)
