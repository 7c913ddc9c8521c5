"""What the layers keep for the backward pass, counted on real modules and written as formulas.

Counted on small random models with torch.autograd.graph.saved_tensors_hooks (torch 2.13 on CPU, transformers 5.23,
peft 0.21, sdpa attention, no dropout, no padding mask): every live storage once and whole, parameters left out, and
so are the bfloat16 copies of weights that autocast makes (memory.py counts those). Left out as well, being small
beside the logits: what is kept outside the layers (final norm and head input at most 14 d bytes a token, token ids,
rotary tables). Other kernels than the CPU's may differ, and dropout or a padding mask keep more: where a figure must
hold, calibrate.
"""

from typing import NamedTuple

from semfreeze_core.cost.flops import layers_with_gradient
from semfreeze_core.cost.lora import adapted_matrices
from semfreeze_core.records.activation_count import CalibratedBytes, LayerRole
from semfreeze_core.records.model import LayerKind, LayerShape, ModelShape
from semfreeze_core.records.training import LoraSetup, Precision, TrainableParts, TrainingSetup

# A checkpointed layer keeps its input alone. Under autocast the hidden state between layers stays in float32.
HIDDEN_STATE_BYTES: dict[Precision, int] = {"float32": 4, "bf16-autocast": 4, "bf16": 2}


class SavedBytes(NamedTuple):
    """Bytes that one layer keeps for one token: a coefficient for each of the layer's widths, and a constant."""

    d: int  # hidden state
    q: int  # n_heads * head_dim
    kv: int  # n_kv_heads * head_dim
    f: int  # mlp_width
    heads: int  # n_heads
    token: int  # constant
    kv_heads: int = 0  # n_kv_heads


# "trained": the layer's own parameters and its input get gradients. "traversed": it is frozen, but a gradient passes
# through to something trained below or to adapters within; a matrix then needs no input, only what is not linear keeps
# its values. Terms common to all: attention keeps queries and output (q), keys and values (kv) and float32 log-sum-exp
# (4 heads); a trained matrix keeps its input; a norm keeps its input and, in `token`, one or two numbers a row.
SAVED_BYTES: dict[tuple[LayerKind, Precision, LayerRole], SavedBytes] = {
    # Llama, Mistral, Qwen2 (biases keep nothing). Two RMSNorms compute in float32 whatever the model's type: x and 1
    # / rms. A trained one also keeps x / rms, and its output as the next matrices' input (under autocast each of the
    # five matrices that read one casts a copy of its own). The MLP keeps gate, silu(gate) and up, and their product
    # when trained.
    ("gated-rmsnorm", "float32", "trained"): SavedBytes(d=24, q=8, kv=8, f=16, heads=4, token=8),
    ("gated-rmsnorm", "float32", "traversed"): SavedBytes(d=8, q=8, kv=8, f=12, heads=4, token=8),
    ("gated-rmsnorm", "bf16-autocast", "trained"): SavedBytes(d=26, q=4, kv=4, f=8, heads=4, token=8),
    ("gated-rmsnorm", "bf16-autocast", "traversed"): SavedBytes(d=8, q=4, kv=4, f=6, heads=4, token=8),
    ("gated-rmsnorm", "bf16", "trained"): SavedBytes(d=16, q=4, kv=4, f=8, heads=4, token=8),
    ("gated-rmsnorm", "bf16", "traversed"): SavedBytes(d=8, q=4, kv=4, f=6, heads=4, token=8),
    # Qwen3: the same with an RMSNorm over each query and key head, in float32 as well.
    ("gated-rmsnorm-qk", "float32", "trained"): SavedBytes(d=24, q=16, kv=16, f=16, heads=8, token=8, kv_heads=4),
    ("gated-rmsnorm-qk", "float32", "traversed"): SavedBytes(d=8, q=12, kv=12, f=12, heads=8, token=8, kv_heads=4),
    ("gated-rmsnorm-qk", "bf16-autocast", "trained"): SavedBytes(d=26, q=10, kv=10, f=8, heads=8, token=8, kv_heads=4),
    ("gated-rmsnorm-qk", "bf16-autocast", "traversed"): SavedBytes(d=8, q=8, kv=8, f=6, heads=8, token=8, kv_heads=4),
    ("gated-rmsnorm-qk", "bf16", "trained"): SavedBytes(d=16, q=10, kv=10, f=8, heads=8, token=8, kv_heads=4),
    ("gated-rmsnorm-qk", "bf16", "traversed"): SavedBytes(d=8, q=8, kv=8, f=6, heads=8, token=8, kv_heads=4),
    # GPT-2. Two LayerNorms keep x, mean and 1 / deviation, and when trained their output (d). The MLP's gelu_new is
    # written out in Python: x, x / 2, tanh and 1 + tanh, and its result when trained.
    ("mlp-layernorm", "float32", "trained"): SavedBytes(d=16, q=8, kv=8, f=20, heads=4, token=16),
    ("mlp-layernorm", "float32", "traversed"): SavedBytes(d=8, q=8, kv=8, f=16, heads=4, token=16),
    ("mlp-layernorm", "bf16-autocast", "trained"): SavedBytes(d=12, q=4, kv=4, f=10, heads=4, token=16),
    ("mlp-layernorm", "bf16-autocast", "traversed"): SavedBytes(d=8, q=4, kv=4, f=8, heads=4, token=16),
    ("mlp-layernorm", "bf16", "trained"): SavedBytes(d=8, q=4, kv=4, f=10, heads=4, token=8),
    ("mlp-layernorm", "bf16", "traversed"): SavedBytes(d=4, q=4, kv=4, f=8, heads=4, token=8),
    # GPT-NeoX. Both LayerNorms read the same x, kept once. The fused projection (q + 2 kv) stays whole behind the view
    # of its values; the rotated queries and keys come on top (q + kv). The attention output (q) is copied for the next
    # matrix, which keeps the copy when trained. The built-in gelu keeps only its input.
    ("parallel-layernorm", "float32", "trained"): SavedBytes(d=12, q=16, kv=12, f=8, heads=4, token=16),
    ("parallel-layernorm", "float32", "traversed"): SavedBytes(d=4, q=12, kv=12, f=4, heads=4, token=16),
    ("parallel-layernorm", "bf16-autocast", "trained"): SavedBytes(d=8, q=8, kv=6, f=4, heads=4, token=16),
    ("parallel-layernorm", "bf16-autocast", "traversed"): SavedBytes(d=4, q=6, kv=6, f=2, heads=4, token=16),
    ("parallel-layernorm", "bf16", "trained"): SavedBytes(d=6, q=8, kv=6, f=4, heads=4, token=8),
    ("parallel-layernorm", "bf16", "traversed"): SavedBytes(d=2, q=6, kv=6, f=2, heads=4, token=8),
}

# Which tensor each matrix multiplies: adapters in float32 share one that several matrices read, and add nothing for one
# that attention keeps anyway.
ATTENTION_OUTPUT = "attention output"
_GATED_INPUTS = {
    "self_attn.q_proj": "first norm",
    "self_attn.k_proj": "first norm",
    "self_attn.v_proj": "first norm",
    "self_attn.o_proj": ATTENTION_OUTPUT,
    "mlp.gate_proj": "second norm",
    "mlp.up_proj": "second norm",
    "mlp.down_proj": "product",
}
MATRIX_INPUTS: dict[LayerKind, dict[str, str]] = {
    "gated-rmsnorm": _GATED_INPUTS,
    "gated-rmsnorm-qk": _GATED_INPUTS,
    "mlp-layernorm": {
        "attn.c_attn": "first norm",
        "attn.c_proj": ATTENTION_OUTPUT,
        "mlp.c_fc": "second norm",
        "mlp.c_proj": "activation",
    },
    "parallel-layernorm": {
        "attention.query_key_value": "first norm",
        "attention.dense": "copy of the attention output",
        "mlp.dense_h_to_4h": "second norm",
        "mlp.dense_4h_to_h": "activation",
    },
}


def activation_bytes(
    shape: ModelShape, setup: TrainingSetup, parts: TrainableParts, calibrated: CalibratedBytes | None = None
) -> int | None:
    """Bytes the layers keep for the backward pass, or None when a layer's are not known.

    Of one pass: where a step has several, each is over when the next begins. Sum over layers of tokens x (bytes a
    token); nothing for a frozen layer with nothing trained below it. Checkpointed,
    a layer keeps its input, and while one is computed again it keeps all: sum of inputs + the largest layer. Assumes
    that the first trained layer's input requires a gradient; where it does not, its RMSNorm keeps 4 d + 4 bytes a token
    less.
    """
    setup = setup.of_pass()
    carries = layers_with_gradient(setup, parts)
    bytes_by_layer = [
        _layer_bytes(layer, i, shape.d_model, setup, parts.layers[i], calibrated)
        for i, layer in enumerate(shape.layers)
        if carries[i]
    ]
    layers = [n_bytes for n_bytes in bytes_by_layer if n_bytes is not None]
    if len(layers) < len(bytes_by_layer):
        return None
    if setup.checkpointing == "none":
        return sum(layers)
    hidden_state = HIDDEN_STATE_BYTES[setup.precision] * setup.tokens_per_step * shape.d_model
    return hidden_state * len(layers) + max(layers, default=0)


def _layer_bytes(
    layer: LayerShape,
    i: int,
    d_model: int,
    setup: TrainingSetup,
    trained: bool,
    calibrated: CalibratedBytes | None,
) -> int | None:
    """Bytes layer i keeps in a step; adapters add theirs to a frozen layer's."""
    lora = setup.lora if trained else None
    role: LayerRole = "trained" if trained and lora is None else "traversed"
    if calibrated is None:
        saved = layer_bytes_per_token(layer, d_model, setup.precision, role)
        base = None if saved is None else setup.tokens_per_step * saved
    else:
        base = calibrated.layer_bytes(i, role, setup.batch_size, setup.sequence_length)
    extra = 0 if lora is None else adapter_bytes_per_token(layer, setup.precision, lora)
    return None if base is None or extra is None else base + setup.tokens_per_step * extra


def layer_bytes_per_token(layer: LayerShape, d_model: int, precision: Precision, role: LayerRole) -> int | None:
    """Bytes one layer keeps for one token, or None when its kind has not been counted.

    One product of coefficients (SAVED_BYTES) and widths: c_d d + c_q q + c_kv kv + c_f f + c_heads heads + c_token.
    """
    saved = SAVED_BYTES.get((layer.kind, precision, role))
    if saved is None:
        return None
    return (
        saved.d * d_model
        + saved.q * layer.n_heads * layer.head_dim
        + saved.kv * layer.n_kv_heads * layer.head_dim
        + saved.f * layer.mlp_width
        + saved.heads * layer.n_heads
        + saved.kv_heads * layer.n_kv_heads
        + saved.token
    )


def adapter_bytes_per_token(layer: LayerShape, precision: Precision, lora: LoraSetup) -> int | None:
    """Bytes that one layer's adapters keep for one token, or None when the layer's kind has not been counted.

    A keeps its input x and B its input A x. Adapters are in float32 (PEFT's default): under float32 they keep the
    very x the layer computes, 4 bytes a number, once for all matrices that read it. Under bf16 each adapted matrix
    casts a float32 copy of x (4 bytes), under autocast a bfloat16 copy (2 bytes, and 2 for A x).
    """
    inputs = MATRIX_INPUTS.get(layer.kind)
    adapted = adapted_matrices(layer, lora)
    if inputs is None or any(matrix.name not in inputs for matrix in adapted):
        return None
    if precision == "float32":
        shared = {inputs[matrix.name]: matrix.inputs for matrix in adapted if inputs[matrix.name] != ATTENTION_OUTPUT}
        return 4 * sum(shared.values()) + 4 * lora.rank * len(adapted)
    number = 2 if precision == "bf16-autocast" else 4
    return sum(number * (matrix.inputs + lora.rank) for matrix in adapted)
