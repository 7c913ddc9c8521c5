"""Random models of any config, for what the tiny families do not show."""

import torch
from transformers import AutoModelForCausalLM

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 97,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
LLAMA_LIKE = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 48}


def unsettled(model, seed=0):
    """The model with norms and biases away from their neutral starting values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    return model


def build(config, seed=0):
    """A random model of a config, in eval mode, unsettled."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).eval()
    assert sum(p.numel() for p in model.parameters()) < 300_000
    return unsettled(model, seed)
