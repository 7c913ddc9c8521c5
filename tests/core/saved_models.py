"""Tiny models saved as a user would have them: a folder with config, safetensors and tokenizer, or a GGUF file."""

import json
from pathlib import Path

import gguf
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.core.tiny_models import Family, build_tiny
from tests.core.tiny_tokenizer import BOS, EOS, build_tiny_tokenizer


def save_tiny(
    folder: Path,
    family: Family = "llama",
    *,
    dtype: torch.dtype = torch.float32,
    tokenizer: PreTrainedTokenizerFast | None = None,
    padded_rows: int = 0,
    **sizes: object,
) -> PreTrainedModel:
    """Write a tiny model and a tiny tokenizer into `folder`, and return the model in eval mode.

    Args:
        folder: made when it is not there.
        dtype: of the saved weights.
        tokenizer: a tiny one when None.
        padded_rows: rows of the head beyond the tokenizer's tokens; one more for Qwen2, whose tokenizer class adds an
            <|endoftext|> to any vocabulary without one.
        sizes: passed on to `build_tiny`.
    """
    tokenizer = tokenizer or build_tiny_tokenizer()
    rows = len(tokenizer) + padded_rows + (family == "qwen2")
    model = build_tiny(family, vocab=rows, **sizes).to(dtype).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def save_tiny_gguf(path: Path, *, architecture: str = "llama", without: str | None = None) -> PreTrainedModel:
    """Write a tiny untied Llama as a GGUF file in float32, the way llama.cpp's converter does, and return the model.

    Args:
        path: of the file.
        architecture: the name written into the file, whatever the tensors are.
        without: a tensor to leave out.
    """
    tokenizer = build_tiny_tokenizer()
    model = build_tiny("llama", vocab=len(tokenizer)).eval()
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer)
    for name, weight in _gguf_tensors(model).items():
        if name != without:
            writer.add_tensor(name, weight.detach().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerFast) -> None:
    special = set(tokenizer.all_special_tokens)
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    types = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in _merges(tokenizer)])
    writer.add_bos_token_id(tokens.index(BOS))
    writer.add_eos_token_id(tokens.index(EOS))


def _merges(tokenizer: PreTrainedTokenizerFast) -> list[tuple[str, str]]:
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return [tuple(pair) for pair in merges]


def _gguf_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    base, config = model.base_model, model.config
    tensors = {
        "token_embd.weight": base.embed_tokens.weight,
        "output_norm.weight": base.norm.weight,
        "output.weight": model.lm_head.weight,
    }
    for i, layer in enumerate(base.layers):
        attention, mlp = layer.self_attn, layer.mlp
        tensors |= {
            f"blk.{i}.attn_norm.weight": layer.input_layernorm.weight,
            f"blk.{i}.ffn_norm.weight": layer.post_attention_layernorm.weight,
            f"blk.{i}.attn_q.weight": _interleaved(attention.q_proj.weight, config.num_attention_heads),
            f"blk.{i}.attn_k.weight": _interleaved(attention.k_proj.weight, config.num_key_value_heads),
            f"blk.{i}.attn_v.weight": attention.v_proj.weight,
            f"blk.{i}.attn_output.weight": attention.o_proj.weight,
            f"blk.{i}.ffn_gate.weight": mlp.gate_proj.weight,
            f"blk.{i}.ffn_up.weight": mlp.up_proj.weight,
            f"blk.{i}.ffn_down.weight": mlp.down_proj.weight,
        }
    return tensors


def _interleaved(weight: Tensor, n_heads: int) -> Tensor:
    """Rows in llama.cpp's rotary order: the two halves of each head take turns."""
    rows, columns = weight.shape
    return weight.reshape(n_heads, 2, rows // n_heads // 2, columns).transpose(1, 2).reshape(rows, columns)
