"""FLOP of one training step and of a whole run, equal to torch's own counter under eager attention.

Symbols: T tokens a step, s sequence length, q = heads x head width, W linear weights of a layer, k frozen layers.
A layer multiplies every token by its weights (C = 2 T W) and by the other tokens (A = 4 T s q); the head multiplies the
tokens that get logits by its matrix (U). A step computes them up to three times:

    forward              C + A for every layer, U
    activation gradient  C + 2 A for every layer that is trained or has something trained below it, U likewise
    weight gradient      C for every trained layer, U when the head is trained

Only matrix products count, as in torch.utils.flop_counter; norms, softmax and the embedding look-up are left out.
A fused attention kernel computes the scores once more on the way back (2.5 A instead of 2 A).
"""

from dataclasses import replace
from itertools import accumulate
from operator import or_

from semfreeze_core.errors import PlanError
from semfreeze_core.records.cost import StepFlop
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import TrainableParts, TrainingSetup

FLOP_PER_WEIGHT = 2  # one multiplication and one addition
ATTENTION_GRADIENT = 2  # eager attention: each of the two products has two inputs, so two products on the way back

CACHE_NEEDS_FROZEN_EMBEDDINGS = (
    "prefix_cache keeps boundary states for the whole run, but the embeddings below the boundary are trained and would "
    "change them: freeze the embeddings or turn the prefix cache off"
)


def step_flop(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts, cached: bool = False) -> StepFlop:
    """FLOP of one training step, exact for any selection of parts.

    The activation gradient of the lowest trained layer is whole: its input norm is trained, so the gradient must pass
    back through its first matrices too. Assumes that a layer is trained or frozen as a whole.

    Args:
        shape: the counted model.
        setup: batch, sequence length and loss.
        parts: what is trained.
        cached: whether the forward pass starts at the freeze depth, on states from a prefix cache.

    Raises:
        PlanError: parts do not fit the model, or cached states would go stale under trained embeddings.

    Source: Kaplan et al. 2020, section 2.1 (https://arxiv.org/abs/2001.08361); ours counts the real matrices, the
    attention's products and the head, and leaves out what frozen parts do not compute.
    """
    parts = tied_parts(shape, parts)
    linear = [linear_flop(shape, setup, layer) for layer in range(shape.n_layers)]
    attention = [attention_flop(shape, setup, layer) for layer in range(shape.n_layers)]
    head = head_flop(shape, setup)
    first_layer = cached_layers(parts) if cached else 0
    carries_gradient = layers_with_gradient(parts)
    head_gradient = any(carries_gradient) or parts.embeddings or parts.final_norm
    return StepFlop(
        forward=sum(linear[first_layer:]) + sum(attention[first_layer:]) + head,
        activation_gradient=sum(
            C + ATTENTION_GRADIENT * A
            for C, A, carries in zip(linear, attention, carries_gradient, strict=True)
            if carries
        )
        + head * head_gradient,
        weight_gradient=sum(C for C, trained in zip(linear, parts.layers, strict=True) if trained) + head * parts.head,
    )


def run_flop(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """FLOP of the whole run: every step's, plus filling the prefix cache when there is one.

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


def linear_flop(shape: ModelShape, setup: TrainingSetup, layer: int) -> int:
    """Forward FLOP of one layer's weight matrices: C = 2 T W.

    Each token meets each weight once, in one multiplication and one addition.
    """
    return FLOP_PER_WEIGHT * setup.tokens_per_step * shape.layers[layer].linear_weights


def attention_flop(shape: ModelShape, setup: TrainingSetup, layer: int) -> int:
    """Forward FLOP of one layer's attention products: A = 4 T s q.

    Scores and weighted sum are two products of T x s x q multiply-adds. Grouped heads do not lower it, as keys and
    values are repeated for every query head; nor does the causal mask, as the masked half is computed and dropped.
    """
    query_width = shape.layers[layer].n_heads * shape.layers[layer].head_dim
    return 2 * FLOP_PER_WEIGHT * setup.tokens_per_step * setup.sequence_length * query_width


def head_flop(shape: ModelShape, setup: TrainingSetup) -> int:
    """Forward FLOP of the head: U = 2 V d for every token that gets logits.

    A supervised-only loss computes the logits of supervised tokens alone.
    """
    return FLOP_PER_WEIGHT * setup.head_tokens_per_step * shape.head_linear_weights


def layers_with_gradient(parts: TrainableParts) -> tuple[bool, ...]:
    """Whether each layer must pass a gradient back: when it, or anything below it, is trained.

    Backpropagation stops at the lowest trained parameter. Trained embeddings lie below every layer, so they make even
    frozen layers carry the gradient.
    """
    return tuple(accumulate(parts.layers, or_, initial=parts.embeddings))[1:]


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
