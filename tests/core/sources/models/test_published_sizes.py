"""Models that people know, counted from their configs alone, against what their checkpoints hold."""

import pytest
import torch
from transformers import (
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    PhiConfig,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from semfreeze_core.sources.models.causal_lm import measure_empty
from semfreeze_core.sources.models.opening import open_checkpoint


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


MISTRAL = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
MISTRAL |= {"intermediate_size": 14336, "vocab_size": 32000, "tie_word_embeddings": False}
LLAMA_3_8B = LlamaConfig(**(MISTRAL | {"vocab_size": 128256}))
LLAMA_3_70B = {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "intermediate_size": 28672}
GEMMA_2_2B = {"hidden_size": 2304, "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4}
QWEN_3_06B = {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8}
QWEN_3_06B |= {"intermediate_size": 3072, "vocab_size": 151936}
QWEN_3_30B = {"hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4}
QWEN_3_30B |= {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
QWEN_15_MOE = {"hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16}
QWEN_15_MOE |= {"num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408}
OPT_350M = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "ffn_dim": 4096}
OPT_350M |= {"word_embed_proj_dim": 512, "do_layer_norm_before": False, "vocab_size": 50272}
PHI_2 = {"hidden_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 10240}


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        pytest.param(MistralConfig(**MISTRAL), 7_241_732_096, id="Mistral-7B-v0.1", marks=pytest.mark.slow),
        pytest.param(LLAMA_3_8B, 8_030_261_248, id="Llama-3-8B"),
        pytest.param(
            LlamaConfig(**(MISTRAL | LLAMA_3_70B | {"vocab_size": 128256})),
            70_553_706_496,
            id="Llama-3-70B",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            MixtralConfig(**MISTRAL, num_local_experts=8, num_experts_per_tok=2), 46_702_792_704, id="Mixtral-8x7B"
        ),
        pytest.param(
            Gemma2Config(**GEMMA_2_2B, head_dim=256, intermediate_size=9216, vocab_size=256000),
            2_614_341_888,
            id="Gemma-2-2B",
        ),
        pytest.param(
            Qwen3Config(**QWEN_3_06B, head_dim=128, tie_word_embeddings=True),
            596_049_920,
            id="Qwen3-0.6B",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            Qwen3MoeConfig(**QWEN_3_30B, head_dim=128, vocab_size=151936),
            30_532_122_624,
            id="Qwen3-30B-A3B",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            Qwen2MoeConfig(**QWEN_15_MOE, shared_expert_intermediate_size=5632, vocab_size=151936),
            14_315_784_192,
            id="Qwen1.5-MoE-A2.7B",
            marks=pytest.mark.slow,
        ),
        pytest.param(OPTConfig(**OPT_350M), 331_196_416, id="OPT-350m"),
        pytest.param(
            BloomConfig(vocab_size=250880, hidden_size=1024, n_layer=24, n_head=16),
            559_214_592,
            id="Bloom-560m",
            marks=pytest.mark.slow,
        ),
        pytest.param(FalconConfig(), 6_921_720_704, id="Falcon-7B", marks=pytest.mark.slow),
        pytest.param(
            PhiConfig(**PHI_2, vocab_size=51200, partial_rotary_factor=0.4),
            2_779_683_840,
            id="Phi-2",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_measure_empty_counts_published_sizes(tmp_path, config, parameters):
    """Parameters that the checkpoint of that name holds, from its config alone."""
    config.save_pretrained(tmp_path)
    assert measure_empty(open_checkpoint(str(tmp_path), config_only=True)).total_parameters == parameters
