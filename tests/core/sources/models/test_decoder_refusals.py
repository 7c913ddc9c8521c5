"""Models whose parts cannot be found or proved: each is refused in words that say what was found."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, ModernBertDecoderConfig, XLMConfig

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models.decoder import find_decoder, find_parts
from semfreeze_core.sources.models.probe import find_layers
from tests.core.sources.models.random_models import SIZES, build
from tests.core.tiny_models import build_tiny


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def refusal(model):
    with pytest.raises(ModelError) as caught:
        find_decoder(model)
    return str(caught.value)


def test_find_decoder_refuses_an_encoder():
    message = refusal(build(BertConfig(**SIZES, intermediate_size=48)))
    assert message.startswith("BertLMHeadModel looks ahead: changing later tokens changed earlier logits.")
    assert "decoder-only" in message


@pytest.mark.parametrize("find", [find_decoder, find_parts])
@pytest.mark.parametrize(
    ("config", "between"),
    [
        (BertConfig(**SIZES, intermediate_size=48, is_decoder=True), "found none and cls.predictions"),
        (ModernBertDecoderConfig(**SIZES, intermediate_size=48), "found model.final_norm and lm_head.dense"),
    ],
    ids=["bert", "modernbert"],
)
def test_find_parts_refuses_a_head_with_layers_of_its_own(find, config, between):
    model = build(config)
    with pytest.raises(ModelError, match="expected one final norm between the last layer and the head") as caught:
        find(model)
    assert between in str(caught.value)


def test_find_decoder_refuses_one_layer():
    message = refusal(build_tiny("llama", n_layers=1))
    assert message == "LlamaForCausalLM has 1 layer; choosing a freeze depth needs at least 2."


def test_find_decoder_takes_two_layers():
    assert len(find_decoder(build_tiny("gpt2", n_layers=2)).layers) == 2


def test_find_layers_refuses_several_lists():
    config = XLMConfig(emb_dim=32, n_layers=3, n_heads=4, n_words=97, causal=True)
    message = refusal(build(config))
    assert message.startswith("XLMWithLMHeadModel: expected one list of 3 layers, found 4.")
    assert "transformer.attentions (3), transformer.layer_norm1 (3)" in message


def test_find_layers_refuses_a_missing_list():
    model = build_tiny("llama")
    model.model.layers = model.model.layers[:3]
    with pytest.raises(ModelError, match=r"expected one list of 4 layers, found 0\. Module lists.*model\.layers \(3\)"):
        find_layers(model)


def test_find_layers_gives_the_outermost_list():
    model = build_tiny("llama")
    for layer in model.model.layers:
        layer.experts = nn.ModuleList(nn.Identity() for _ in range(4))
    layers, prefix = find_layers(model)
    assert layers is model.model.layers
    assert prefix == "model.layers."


def test_find_decoder_refuses_layers_that_are_no_chain():
    model = build_tiny("llama")
    model.model.layers[2].register_forward_pre_hook(lambda _, args: (args[0] * 1.01, *args[1:]))
    message = refusal(model)
    assert "layer 1 does not pass its output on to layer 2 unchanged" in message


def test_find_decoder_refuses_a_layer_that_runs_twice():
    model = build_tiny("llama")
    model.model.layers[2] = model.model.layers[1]
    assert "expected every layer and the head to run once, found 6 calls of 4 layers" in refusal(model)


def test_find_decoder_refuses_logits_it_cannot_rebuild():
    model = build_tiny("llama")

    def bend(_, __, output):
        output.logits = output.logits.abs().sqrt()
        return output

    model.register_forward_hook(bend)
    message = refusal(model)
    assert "does not reproduce the model's own logits" in message
    assert "(allowed 0.001), tried plain, scaled by" in message


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_find_decoder_names_the_damaged_layer(layer, value):
    model = build_tiny("llama")
    model.model.layers[layer].mlp.down_proj.weight.data[3, 4] = value
    damaged = f"the output of layer {layer} holds NaN or infinity on a probe of 12 tokens in"
    assert refusal(model).endswith(f"{damaged} float32. The weights are damaged. Download them again.")
    message = refusal(model.bfloat16())
    assert message.endswith(
        f"{damaged} bfloat16. The weights are damaged, or this dtype overflows: try --dtype float32."
    )


def test_find_decoder_names_damaged_embeddings_and_head():
    model = build_tiny("llama")
    model.model.embed_tokens.weight.data[:] = float("nan")
    assert "the input of layer 0 holds NaN" in refusal(model)
    model = build_tiny("llama")
    model.lm_head.weight.data[5] = float("nan")
    assert "the final norm or the head is damaged" in refusal(model)


def test_find_decoder_refuses_an_empty_head():
    model = build_tiny("llama")
    model.lm_head.weight.data.zero_()
    assert "its head is empty" in refusal(model)


def test_find_decoder_refuses_a_model_that_cannot_run():
    model = build_tiny("llama")
    model.model.layers[1].self_attn.q_proj = nn.Linear(31, 32)
    message = refusal(model)
    assert message.startswith("LlamaForCausalLM cannot run on a probe of 12 tokens in float32: RuntimeError:")


def test_find_decoder_refuses_a_head_that_is_no_matrix():
    model = build_tiny("llama")
    model.set_output_embeddings(nn.Identity())
    assert "expected a linear head with floating-point weights, found Identity" in refusal(model)
    model = build_tiny("llama")
    model.lm_head.weight = nn.Parameter(torch.zeros(97, 32, dtype=torch.int8), requires_grad=False)
    assert "expected a linear head with floating-point weights" in refusal(model)
