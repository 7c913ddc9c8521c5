"""FLOPs of one training step and of a whole run, equal to torch's own counter under eager attention.

Symbols: T tokens a step, s sequence length, q = heads x head width, W linear weights of a layer, k frozen layers.
A layer multiplies every token by its weights (C = 2 T W) and by the other tokens (A = 4 T s q); the head multiplies the
tokens that get logits by its matrix (U). A step computes them up to three times:

    forward              C + A for every layer, U
    activation gradient  C + 2 A for every layer that is trained or has something trained below it, U likewise
    weight gradient      C for every trained layer, U when the head is trained
    recompute            C + A, or less, for every checkpointed layer that passes a gradient back

Adapters add their own products to the first three and take away the layers' weight gradient. Only matrix products
count, as in torch.utils.flop_counter; norms, softmax and the embedding look-up are left out. A fused attention kernel
computes the scores once more on the way back (2.5 A instead of 2 A).
"""

from dataclasses import replace
from itertools import accumulate
from operator import or_

from semfreeze_core.cost.lora import adapted_matrices, adapter_parameters
from semfreeze_core.errors import PlanError
from semfreeze_core.records.cost import FlopStatus, StepFlop
from semfreeze_core.records.model import LayerKind, LayerShape, ModelShape
from semfreeze_core.records.training import TrainableParts, TrainingSetup

FLOP_PER_WEIGHT = 2  # one multiplication and one addition
# docs/costs-and-memory.md has these formulas too, and finetune/audit/step_count.py counts with eager attention.
ATTENTION_GRADIENT = 2  # eager attention: each of the two products has two inputs, so two products on the way back

# Layers whose last matrix is multiplied last, with nothing after it that keeps a value for the backward pass (without
# dropout). A norm behind it, or experts weighted by their router, would.
ENDS_WITH_LAST_MATRIX: frozenset[LayerKind] = frozenset(
    {"gated-rmsnorm", "gated-rmsnorm-qk", "mlp-layernorm", "parallel-layernorm"}
)

CACHE_NEEDS_FROZEN_EMBEDDINGS = (
    "prefix_cache keeps boundary states for the whole run, but the embeddings below the boundary are trained and would "
    "change them: freeze the embeddings or turn the prefix cache off"
)


def step_flop(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts, cached: bool = False) -> StepFlop:
    """FLOPs of one training step, for any selection of parts; flop_status says whether exact or an upper bound.

    The activation gradient of the lowest trained layer is whole, down to its input: semfreeze hands that layer a
    detached input that requires a gradient. Where nothing does, it costs the same if a trained norm reads the input,
    and a little less if matrices do at once (post-norm layers) or the norm is frozen (adapters on layer 0 in PEFT
    without checkpointing): nothing flows back through those. Assumes that a layer is trained or frozen as a whole.

    Args:
        shape: the counted model.
        setup: batch, sequence length, loss, adapters and checkpointing.
        parts: what is trained; with adapters, the layers that have them.
        cached: whether the forward pass starts at the freeze depth, on states from a prefix cache.

    Raises:
        PlanError: parts do not fit the model, or cached states would go stale under trained embeddings.

    Source: Kaplan et al. 2020, section 2.1 (https://arxiv.org/abs/2001.08361); ours counts the real matrices, the
    attention's products and the head, and leaves out what frozen parts do not compute.
    """
    parts = tied_parts(shape, parts)
    layers = range(shape.n_layers)
    linear = [linear_flop(layer, setup) for layer in shape.layers]
    attention = [attention_flop(layer, setup) for layer in shape.layers]
    adapters = [adapter_flop(layer, setup) * trained for layer, trained in zip(shape.layers, parts.layers, strict=True)]
    before, behind = embedding_flop(shape, setup), final_flop(shape, setup)
    head = head_flop(shape, setup)
    first_layer = cached_layers(parts) if cached else 0
    carries = layers_with_gradient(setup, parts)
    norm_gradient = any(carries) or embeddings_carry(setup, parts)
    final_gradient = norm_gradient or (parts.final_norm and shape.final_norm_parameters > shape.final_linear_weights)
    head_gradient = norm_gradient or parts.final_norm
    weight_gradients = adapters if setup.lora else linear
    return StepFlop(
        forward=before * (first_layer == 0)
        + sum(linear[first_layer:] + attention[first_layer:] + adapters[first_layer:])
        + behind
        + head,
        activation_gradient=before * embeddings_carry(setup, parts)
        + sum(
            linear[layer] + ATTENTION_GRADIENT * attention[layer] + adapters[layer]
            for layer in layers
            if carries[layer]
        )
        + behind * final_gradient
        + head * head_gradient,
        weight_gradient=before * parts.embeddings
        + sum(weight_gradients[layer] for layer in layers if parts.layers[layer])
        + behind * parts.final_norm
        + head * parts.head,
        recompute=sum(
            recompute_flop(layer, setup, trained)
            for layer, trained, carried in zip(shape.layers, parts.layers, carries, strict=True)
            if carried
        ),
    )


def run_flop(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """FLOPs of the whole run: every step's, plus filling the prefix cache when there is one.

    Without a cache: steps x step. With one, the frozen prefix runs once over the distinct examples met, which are those
    of min(steps, steps per epoch) steps (a last, smaller batch is counted as a full one), and every step runs the rest.

    Raises:
        PlanError: as step_flop.
    """
    step = step_flop(shape, setup, parts)
    if not setup.prefix_cache:
        return setup.steps * step.total
    cached_step = step_flop(shape, setup, parts, cached=True)
    prefix = step.forward - cached_step.forward
    return min(setup.steps, setup.steps_per_epoch) * prefix + setup.steps * cached_step.total


def recompute_flop(layer: LayerShape, setup: TrainingSetup, trained: bool) -> int:
    """FLOPs of computing one checkpointed layer again on the way back: C + A and its adapters', or less.

    The reentrant way computes all of it. The non-reentrant way stops at the last tensor the backward pass needs, an
    input of the layer's last matrix product where nothing after that product keeps anything: that product is spared.
    """
    if setup.checkpointing == "none":
        return 0
    whole = linear_flop(layer, setup) + attention_flop(layer, setup)
    whole += adapter_flop(layer, setup) * trained
    if setup.checkpointing == "reentrant" or layer.kind not in ENDS_WITH_LAST_MATRIX:
        return whole
    last = layer.matrices[-1]
    weights = last.weights_per_token
    if trained and setup.lora and last in adapted_matrices(layer, setup.lora):
        weights = setup.lora.rank * last.outputs  # B comes after W and A
    return whole - FLOP_PER_WEIGHT * setup.tokens_per_step * weights


def flop_status(shape: ModelShape, setup: TrainingSetup) -> FlopStatus:
    """Whether step_flop is exact: an upper bound when it is not known where the recomputation of a layer stops."""
    stops_early = setup.checkpointing in ("non-reentrant", "transformers-5")
    known = all(layer.kind in ENDS_WITH_LAST_MATRIX for layer in shape.layer_shapes)
    return "upper bound" if stops_early and not known else "exact"


def linear_flop(layer: LayerShape, setup: TrainingSetup) -> int:
    """Forward FLOPs of one layer's weight matrices: C = 2 T W.

    Each token meets each weight once, in one multiplication and one addition.
    """
    return FLOP_PER_WEIGHT * setup.tokens_per_step * layer.linear_weights


def attention_flop(layer: LayerShape, setup: TrainingSetup) -> int:
    """Forward FLOPs of one layer's attention products: A = 4 T s q.

    Scores and weighted sum are two products of T x s x q multiply-adds. Grouped heads do not lower it, as keys and
    values are repeated for every query head; nor does the causal mask, as the masked half is computed and dropped.
    """
    query_width = layer.n_heads * layer.head_dim
    return 2 * FLOP_PER_WEIGHT * setup.tokens_per_step * setup.sequence_length * query_width


def adapter_flop(layer: LayerShape, setup: TrainingSetup) -> int:
    """Forward FLOPs of one layer's adapters, 2 T r (inputs + outputs) a matrix; 0 without LoRA.

    On the way back they cost this once for the activation gradient and once for the weight gradient.
    """
    if setup.lora is None:
        return 0
    return FLOP_PER_WEIGHT * setup.tokens_per_step * adapter_parameters(layer, setup.lora)


def embedding_flop(shape: ModelShape, setup: TrainingSetup) -> int:
    """Forward FLOPs of matrices between the embedding and layer 0 (OPT's project_in); the look-up itself is none."""
    return FLOP_PER_WEIGHT * setup.tokens_per_step * shape.embedding_linear_weights


def final_flop(shape: ModelShape, setup: TrainingSetup) -> int:
    """Forward FLOPs of matrices between the last layer and the head (OPT's project_out), for every token."""
    return FLOP_PER_WEIGHT * setup.tokens_per_step * shape.final_linear_weights


def head_flop(shape: ModelShape, setup: TrainingSetup) -> int:
    """Forward FLOPs of the head: U = 2 V d for every token that gets logits.

    A supervised-only loss computes the logits of supervised tokens alone.
    """
    return FLOP_PER_WEIGHT * setup.head_tokens_per_step * shape.head_linear_weights


def embeddings_carry(setup: TrainingSetup, parts: TrainableParts) -> bool:
    """Whether the gradient runs down to the embedding's output: it is trained, or transformers 5 makes it require one.

    Turning checkpointing on in transformers 5 also calls enable_input_require_grads(), for adapters' sake.
    """
    return parts.embeddings or setup.checkpointing == "transformers-5"


def layers_with_gradient(setup: TrainingSetup, parts: TrainableParts) -> tuple[bool, ...]:
    """Whether each layer must pass a gradient back: when it, or anything below it, requires one.

    Backpropagation stops at the lowest tensor that requires a gradient. An embedding's output that does lies below
    every layer, so it makes even frozen layers carry the gradient.
    """
    return tuple(accumulate(parts.layers, or_, initial=embeddings_carry(setup, parts)))[1:]


def cached_layers(parts: TrainableParts) -> int:
    """Number of layers a prefix cache stands in for: those below the freeze depth, none at freeze depth 0.

    Raises:
        PlanError: trained embeddings would change the cached states.
    """
    if parts.freeze_depth > 0 and parts.embeddings:
        raise PlanError(CACHE_NEEDS_FROZEN_EMBEDDINGS)
    return parts.freeze_depth


def tied_parts(shape: ModelShape, parts: TrainableParts) -> TrainableParts:
    """The parts as this model trains them: a tied head and its embedding are one parameter, trained together or not.

    Raises:
        PlanError: parts are for a model with another number of layers.
    """
    if len(parts.layers) != shape.n_layers:
        raise PlanError(f"the trainable parts name {len(parts.layers)} layers, but the model has {shape.n_layers}")
    if not shape.tied:
        return parts
    trained = parts.embeddings or parts.head
    return replace(parts, embeddings=trained, head=trained)


def run_seconds(flop: int, flop_per_second: float | None) -> float | None:
    """Seconds of a run at a rate, or None without one. Assumes that forward and backward pass reach the same rate."""
    return None if flop_per_second is None else flop / flop_per_second
