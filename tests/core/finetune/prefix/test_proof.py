"""The proof that cached states are the model's own, and all that it must refuse."""

from functools import partial

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, Gemma4TextConfig

from semfreeze_core.finetune.prefix.cache import build_prefix_cache
from semfreeze_core.finetune.prefix.proof import FLOAT32_TOLERANCE, verify_cache
from semfreeze_core.finetune.prefix.store import CacheUnavailable
from semfreeze_core.finetune.prefix.suffix import Suffix
from semfreeze_core.sources.models.decoder import find_decoder
from tests.core.finetune.boundary import BATCHES, EXAMPLES, IN_MEMORY, N_LAYERS, from_tokens, frozen_decoder, tiny_cache
from tests.core.semantics.tiny_examples import make_example, random_examples

OTHERS = "differs from a pass from tokens: largest difference"


def prove(decoder, cache, examples=EXAMPLES):
    return verify_cache(decoder, Suffix(decoder, cache.k), cache, examples)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "opt-projected-normed", "qwen3_moe"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_own_states_are_proved_and_the_model_is_left_as_it_was(family, dtype):
    decoder = frozen_decoder(family, 2, dtype=dtype)
    cache, suffix = tiny_cache(decoder, 2), Suffix(decoder, 2)
    decoder.layers[3].train()
    modes = [module.training for module in decoder.model.modules()]
    expected = from_tokens(decoder)(BATCHES[0])
    difference = verify_cache(decoder, suffix, cache, EXAMPLES)
    assert 0 <= difference <= (FLOAT32_TOLERANCE if dtype == torch.float32 else 0.05)
    assert not suffix.installed
    with suffix:
        assert verify_cache(decoder, suffix, cache, EXAMPLES) == difference
        assert suffix.installed
    assert [module.training for module in decoder.model.modules()] == modes
    assert torch.equal(from_tokens(decoder)(BATCHES[0]), expected)


def test_a_proof_needs_one_example_only_and_reads_few_positions_of_long_ones():
    decoder = frozen_decoder()
    long = make_example([5, 6], [7] * 60)
    batches = []
    decoder.head.register_forward_hook(lambda _, __, out: batches.append(out.shape[-2]))
    assert prove(decoder, build_prefix_cache(decoder, 2, [long], **IN_MEMORY), [long]) <= FLOAT32_TOLERANCE
    many = [make_example([5 + i], [7] * 60) for i in range(9)]
    prove(decoder, build_prefix_cache(decoder, 2, many, **IN_MEMORY), many)
    assert batches == [60, 60, 240, 240]


def test_states_of_other_weights_are_refused():
    decoder = frozen_decoder()
    cache = tiny_cache(decoder, 2)
    with torch.no_grad():
        decoder.layers[1].mlp.down_proj.weight.mul_(1.01)
    with pytest.raises(CacheUnavailable, match=OTHERS):
        prove(decoder, cache)


def test_damaged_states_are_refused():
    decoder = frozen_decoder()
    cache = tiny_cache(decoder, 2)
    for states in cache.states.values():
        states[0] = float("nan")
    with pytest.raises(CacheUnavailable, match=f"{OTHERS} nan of"):
        prove(decoder, cache)


def test_another_depth_other_examples_and_another_tokenization_are_refused():
    decoder = frozen_decoder()
    cache = tiny_cache(decoder, 2)
    with pytest.raises(CacheUnavailable, match="of depth 2, the suffix of depth 3"):
        verify_cache(decoder, Suffix(decoder, 3), cache, EXAMPLES)
    with pytest.raises(CacheUnavailable, match="or another model"):
        verify_cache(decoder, Suffix(frozen_decoder(), 2), cache, EXAMPLES)
    for other in (EXAMPLES[:-1], EXAMPLES[::-1], random_examples(12, 1)):
        with pytest.raises(CacheUnavailable, match="built for other examples"):
            prove(decoder, cache, other)


def test_a_trained_prefix_is_refused():
    decoder = frozen_decoder()
    cache = tiny_cache(decoder, 2)
    decoder.layers[1].mlp.up_proj.weight.requires_grad_(True)
    with pytest.raises(CacheUnavailable, match=r"model.layers.1.mlp.up_proj.weight is trained, which"):
        prove(decoder, cache)


def test_a_trained_tied_head_is_refused_and_an_untied_one_is_not():
    for tied in (False, True):
        decoder = frozen_decoder(tied=tied)
        decoder.head.weight.requires_grad_(True)
        if tied:
            with pytest.raises(CacheUnavailable, match=r"embed_tokens.weight is trained, which"):
                prove(decoder, tiny_cache(decoder, 2))
        else:
            prove(decoder, tiny_cache(decoder, 2))


def test_dropout_below_the_boundary_is_refused_and_above_it_is_not():
    decoder = frozen_decoder("gpt2", 2)
    cache = tiny_cache(decoder, 2)
    for layer in decoder.layers:
        layer.mlp.dropout.p = 0.5
    decoder.layers[2].train()
    prove(decoder, cache)
    decoder.layers[1].train()
    with pytest.raises(CacheUnavailable, match="dropout is active below the boundary"):
        prove(decoder, cache)


def test_a_proof_does_not_speak_of_checkpointing():
    decoder = frozen_decoder("llama", 2)
    cache = tiny_cache(decoder, 2)
    decoder.model.train()
    for layer in decoder.layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=True)
    assert prove(decoder, cache) <= FLOAT32_TOLERANCE


def gemma4(shared):
    """A model whose layers read an embedding of the token ids of their own, and share keys and values if told to."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Gemma4TextConfig(
        **sizes,
        num_hidden_layers=N_LAYERS,
        head_dim=8,
        global_head_dim=8,
        vocab_size=97,
        vocab_size_per_layer_input=97,
        hidden_size_per_layer_input=8,
        num_kv_shared_layers=shared,
        layer_types=["full_attention"] * N_LAYERS,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return find_decoder(AutoModelForCausalLM.from_config(config).requires_grad_(False))


@pytest.mark.parametrize("k", range(1, N_LAYERS))
def test_layers_that_read_the_token_ids_themselves_are_refused(k):
    decoder = gemma4(shared=0)
    with pytest.raises(CacheUnavailable, match="its layers use more than"):
        prove(decoder, tiny_cache(decoder, k))


def test_layers_that_read_what_the_prefix_left_aside_are_refused():
    decoder = gemma4(shared=2)
    with pytest.raises(CacheUnavailable, match=r"Gemma4ForCausalLM cannot run from boundary states: KeyError"):
        prove(decoder, tiny_cache(decoder, 3))


def test_a_prefix_of_all_layers_leaves_nothing_that_reads_the_token_ids():
    decoder = gemma4(shared=0)
    assert prove(decoder, tiny_cache(decoder, N_LAYERS)) <= FLOAT32_TOLERANCE
