"""A layer's call replaced and given back: what it answers, what it keeps, and that nothing can undo it."""

import copy

import pytest
import torch
from torch import nn

from semfreeze_core.finetune.freezing.layer_call import is_replaced, original_call, replace_call, restore_call
from tests.core.tiny_models import build_tiny


def linear():
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        layer.bias.zero_()
    return layer


ONES = torch.ones(1, 2)


def test_replace_call_answers_in_the_layers_place_until_restored():
    layer, kind = linear(), nn.Linear
    replace_call(layer, lambda layer, x: 10 * original_call(layer, x))
    assert is_replaced(layer)
    assert layer(ONES).tolist() == [[10.0, 20.0]]
    assert original_call(layer, ONES).tolist() == [[1.0, 2.0]]
    assert isinstance(layer, kind)
    assert type(layer).__name__ == "Linear"
    restore_call(layer)
    assert type(layer) is kind
    assert not is_replaced(layer)
    assert layer(ONES).tolist() == original_call(layer, ONES).tolist() == [[1.0, 2.0]]


def test_restore_call_leaves_a_layer_alone_that_was_never_replaced():
    layer = linear()
    restore_call(layer)
    assert type(layer) is nn.Linear


def test_replace_call_refuses_a_second_time():
    layer = linear()
    replace_call(layer, original_call)
    with pytest.raises(ValueError, match="the call of this Linear is replaced already"):
        replace_call(layer, original_call)


def test_replace_call_hands_the_layer_to_any_callable():
    class Answers:
        def method(self, layer, x):
            return (layer, x)

    layer = linear()
    replace_call(layer, Answers().method)
    assert layer("x") == (layer, "x")


def test_original_call_runs_the_layers_hooks():
    layer, calls = linear(), []
    layer.register_forward_hook(lambda _, __, output: calls.append(output.tolist()))
    replace_call(layer, original_call)
    layer(ONES)
    assert calls == [[[1.0, 2.0]]]


def test_a_deep_copy_calls_itself():
    layer = linear()
    replace_call(layer, original_call)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.weight.mul_(3)
    assert other(ONES).tolist() == [[3.0, 6.0]]
    assert layer(ONES).tolist() == [[1.0, 2.0]]
    restore_call(other)
    assert (is_replaced(layer), is_replaced(other)) == (True, False)


@pytest.mark.parametrize("before", [True, False], ids=["checkpointing first", "replaced first"])
@pytest.mark.parametrize("checkpointed", [True, False])
def test_replace_call_decides_whether_a_layer_is_checkpointed(checkpointed, before):
    model = build_tiny("llama", n_layers=2)
    layer, other = model.model.layers
    runs = []
    layer.self_attn.register_forward_pre_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    if before:
        model.activation_checkpointing_enable()
    replace_call(layer, original_call, checkpointed=checkpointed)
    if not before:
        model.activation_checkpointing_enable()
    assert layer.gradient_checkpointing is checkpointed
    assert other.gradient_checkpointing
    ids = torch.arange(3, 9)[None]
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    assert len(runs) == 1 + checkpointed  # once more on the way back
    restore_call(layer)
    assert layer.gradient_checkpointing is True


def test_replace_call_gives_a_module_without_checkpointing_no_such_flag():
    layer = linear()
    replace_call(layer, original_call)
    assert not hasattr(layer, "gradient_checkpointing")
