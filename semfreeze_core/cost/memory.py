"""Projected device memory of a training step, by part.

Weights, gradients and optimiser states follow from parameter counts. What autograd keeps for the backward pass was
counted on small random models with torch.autograd.graph.saved_tensors_hooks (torch 2.13 on CPU, transformers 5.23, sdpa
attention, no dropout, no padding mask): every live storage once and whole, parameters left out. Left out as well, being
small beside the logits: what is kept outside the layers (final norm and head input at most 12 d bytes a token in
float32, token ids, rotary tables).
"""

from typing import Literal, NamedTuple

from semfreeze_core.cost.flops import cached_layers, layers_with_gradient, tied_parts
from semfreeze_core.records.cost import TrainingBytes
from semfreeze_core.records.model import LayerKind, LayerShape, ModelShape
from semfreeze_core.records.training import Precision, TrainableParts, TrainingSetup

BYTES_PER_NUMBER: dict[Precision, int] = {"float32": 4, "bf16": 2}
ADAMW_STATES = 2  # running means of the gradient and of its square, each in the parameter's own type

# Logits, their log-softmax and the gradients of both, all alive as the backward pass begins. The loss is computed in
# float32 always: bfloat16 saves on the logits alone.
LOGITS_BYTES: dict[Precision, int] = {"float32": 16, "bf16": 14}


class SavedBytes(NamedTuple):
    """Bytes that one layer keeps for one token: a coefficient for each of the layer's widths, and a constant."""

    d: int  # hidden state
    q: int  # n_heads * head_dim
    kv: int  # n_kv_heads * head_dim
    f: int  # mlp_width
    heads: int  # n_heads
    token: int  # constant


# "trained": the layer's own parameters and its input get gradients. "traversed": it is frozen, but a gradient passes
# through to something trained below; a matrix then needs no input, only what is not linear keeps its values.
LayerRole = Literal["trained", "traversed"]

# Terms common to all: attention keeps queries and output (q), keys and values (kv) and float32 log-sum-exp (4 heads);
# a trained matrix keeps its input; a norm keeps its input and, in `token`, one or two numbers a row.
SAVED_BYTES: dict[tuple[LayerKind, Precision, LayerRole], SavedBytes] = {
    # Llama, Qwen2 (biases keep nothing). Two RMSNorms compute in float32 whatever the model's type: x and 1 / rms. A
    # trained one also keeps x / rms, and its output as the next matrices' input. The MLP keeps gate, silu(gate) and up,
    # and their product when trained.
    ("gated-rmsnorm", "float32", "trained"): SavedBytes(d=24, q=8, kv=8, f=16, heads=4, token=8),
    ("gated-rmsnorm", "float32", "traversed"): SavedBytes(d=8, q=8, kv=8, f=12, heads=4, token=8),
    ("gated-rmsnorm", "bf16", "trained"): SavedBytes(d=16, q=4, kv=4, f=8, heads=4, token=8),
    ("gated-rmsnorm", "bf16", "traversed"): SavedBytes(d=8, q=4, kv=4, f=6, heads=4, token=8),
    # GPT-2. Two LayerNorms keep x, mean and 1 / deviation, and when trained their output (d). The MLP's gelu_new is
    # written out in Python: x, x / 2, tanh and 1 + tanh, and its result when trained.
    ("mlp-layernorm", "float32", "trained"): SavedBytes(d=16, q=8, kv=8, f=20, heads=4, token=16),
    ("mlp-layernorm", "float32", "traversed"): SavedBytes(d=8, q=8, kv=8, f=16, heads=4, token=16),
    ("mlp-layernorm", "bf16", "trained"): SavedBytes(d=8, q=4, kv=4, f=10, heads=4, token=8),
    ("mlp-layernorm", "bf16", "traversed"): SavedBytes(d=4, q=4, kv=4, f=8, heads=4, token=8),
    # GPT-NeoX. Both LayerNorms read the same x, kept once. The fused projection (q + 2 kv) stays whole behind the view
    # of its values; the rotated queries and keys come on top (q + kv). The attention output (q) is copied for the next
    # matrix, which keeps the copy when trained. The built-in gelu keeps only its input.
    ("parallel-layernorm", "float32", "trained"): SavedBytes(d=12, q=16, kv=12, f=8, heads=4, token=16),
    ("parallel-layernorm", "float32", "traversed"): SavedBytes(d=4, q=12, kv=12, f=4, heads=4, token=16),
    ("parallel-layernorm", "bf16", "trained"): SavedBytes(d=6, q=8, kv=6, f=4, heads=4, token=8),
    ("parallel-layernorm", "bf16", "traversed"): SavedBytes(d=2, q=6, kv=6, f=2, heads=4, token=8),
}


def training_bytes(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> TrainingBytes:
    """Device memory of a training step in bytes, by part.

    weights = b P on the device, gradients = b P trained, optimizer = 2 b P trained, with b bytes a number: float32
    training keeps everything in float32, bfloat16 training everything in bfloat16 (no float32 copy of the weights).
    An upper projection: the parts do not all peak together, and the allocator's own waste is not in it. With a prefix
    cache it is the memory of the steps, not of the pass that fills the cache.

    Args:
        shape: the counted model.
        setup: batch, sequence length, precision, optimiser, loss and prefix cache.
        parts: what is trained.

    Raises:
        PlanError: parts do not fit the model, or trained embeddings contradict a prefix cache.
    """
    parts = tied_parts(shape, parts)
    number = BYTES_PER_NUMBER[setup.precision]
    trained = trained_parameters(shape, parts)
    return TrainingBytes(
        weights=number * device_parameters(shape, setup, parts),
        gradients=number * trained,
        optimizer=ADAMW_STATES * number * trained,
        activations=activation_bytes(shape, setup, parts),
        logits=logits_bytes(shape, setup),
    )


def trained_parameters(shape: ModelShape, parts: TrainableParts) -> int:
    """Number of parameters that get a gradient and optimiser states; a tied head counts with the embedding."""
    return (
        sum(n for n, trained in zip((x.parameters for x in shape.layers), parts.layers, strict=True) if trained)
        + shape.embedding_parameters * parts.embeddings
        + shape.final_norm_parameters * parts.final_norm
        + shape.head_parameters * parts.head
    )


def device_parameters(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """Number of parameters that must be on the device during the steps.

    A prefix cache replaces the layers below the freeze depth and the embedding in front of them; a tied embedding
    stays, because it is the head.
    """
    k = cached_layers(parts) if setup.prefix_cache else 0
    unused = sum(layer.parameters for layer in shape.layers[:k])
    if k > 0 and not shape.tied:
        unused += shape.embedding_parameters
    return shape.total_parameters - unused


def activation_bytes(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int | None:
    """Bytes the layers keep for the backward pass, or None when the layer's formula is not known.

    Sum over layers of tokens x (bytes a token); nothing for a frozen layer with nothing trained below it. Assumes sdpa
    attention without dropout and padding mask: eager attention adds the scores, a mask may repeat keys and values.
    Assumes that the first trained layer's input requires a gradient; where it does not, its RMSNorm keeps
    4 d + 4 bytes a token less. Counted on CPU kernels, so another device's may differ.
    """
    total = 0
    for layer, trained, carries_gradient in zip(shape.layers, parts.layers, layers_with_gradient(parts), strict=True):
        saved = layer_bytes_per_token(layer, shape.d_model, setup.precision, "trained" if trained else "traversed")
        if saved is None:
            return None
        total += setup.tokens_per_step * saved * carries_gradient
    return total


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
        + saved.token
    )


def logits_bytes(shape: ModelShape, setup: TrainingSetup) -> int:
    """Bytes of logits and loss at their peak: 16 (float32) or 14 (bfloat16) x tokens with logits x vocabulary rows.

    Holds for the usual cross-entropy while the model's output is kept until the backward pass; freezing does nothing to
    it, a supervised-only loss lowers it, a fused loss would nearly remove it.
    """
    return LOGITS_BYTES[setup.precision] * setup.head_tokens_per_step * shape.vocab_rows
