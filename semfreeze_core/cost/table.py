"""The price of every freeze depth, relative to full finetuning."""

from dataclasses import replace

from semfreeze_core.cost.flops import CACHE_NEEDS_FROZEN_EMBEDDINGS, run_flop, step_flop, tied_parts
from semfreeze_core.cost.memory import training_bytes
from semfreeze_core.errors import PlanError
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import TrainableParts, TrainingSetup


def parts_at_depth(
    shape: ModelShape,
    k: int,
    embeddings: bool | None = None,
    final_norm: bool | None = None,
    head: bool | None = None,
) -> TrainableParts:
    """The parts trained when the first k layers are frozen.

    What is left unset is trained at k = 0, which is full finetuning; at k > 0 only the final norm is, because trained
    embeddings send the gradient back through every frozen layer. On a tied model an unset one of embeddings and head
    follows the other.

    Args:
        shape: the counted model.
        k: freeze depth, 0..L.
        embeddings: whether the embeddings are trained.
        final_norm: whether the norm before the head is trained.
        head: whether the head is trained.

    Raises:
        PlanError: k is outside 0..L; or head and embeddings are tied and told apart, or trained above a frozen prefix.
    """
    if not 0 <= k <= shape.n_layers:
        raise PlanError(f"freeze depth {k} is outside 0..{shape.n_layers}, the number of the model's layers")
    full = k == 0
    if shape.tied:
        embeddings = head if embeddings is None else embeddings
        head = embeddings if head is None else head
        if not full and (embeddings or head):
            raise PlanError(
                f"head and embeddings of this model are tied (one parameter): training either at freeze depth {k} "
                "trains the embeddings below the frozen layers. Leave both frozen, or use freeze depth 0"
            )
        if embeddings is not head:
            raise PlanError(
                "head and embeddings of this model are tied (one parameter): "
                f"found embeddings={embeddings} and head={head}, expected the same for both"
            )
    return TrainableParts(
        layers=tuple(i >= k for i in range(shape.n_layers)),
        embeddings=full if embeddings is None else embeddings,
        final_norm=True if final_norm is None else final_norm,
        head=full if head is None else head,
    )


def check_setup(setup: TrainingSetup, parts: TrainableParts) -> None:
    """Refuse a setup and parts that contradict each other.

    A prefix cache at freeze depth 0 is no contradiction: there is no prefix, so nothing is cached.

    Raises:
        PlanError: all contradictions in one message.
    """
    problems = []
    if not parts.any:
        problems.append("nothing is trained: train at least one layer, the final norm or the head")
    if setup.prefix_cache and parts.freeze_depth > 0 and parts.embeddings:
        problems.append(CACHE_NEEDS_FROZEN_EMBEDDINGS)
    if problems:
        raise PlanError("; ".join(problems))


def depth_cost(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> DepthCost:
    """The price of training these parts, in FLOP and bytes and relative to full finetuning (full_cost).

    Raises:
        PlanError: parts do not fit the model, or contradict the setup (check_setup).
    """
    parts = tied_parts(shape, parts)
    check_setup(setup, parts)
    full = full_cost(shape, setup)
    flop = run_flop(shape, setup, parts)
    memory = training_bytes(shape, setup, parts)
    return DepthCost(
        freeze_depth=parts.freeze_depth,
        step_flop=step_flop(shape, setup, parts),
        flop=flop,
        bytes=memory,
        relative_flop=flop / full.flop,
        relative_bytes=None if memory.total is None or full.bytes.total is None else memory.total / full.bytes.total,
    )


def full_cost(shape: ModelShape, setup: TrainingSetup) -> DepthCost:
    """The price of full finetuning, which all relative figures are measured against.

    Everything is trained, with the same head, loss and precision, and no prefix cache.
    """
    setup = replace(setup, prefix_cache=False)
    parts = parts_at_depth(shape, 0)
    memory = training_bytes(shape, setup, parts)
    return DepthCost(
        freeze_depth=0,
        step_flop=step_flop(shape, setup, parts),
        flop=run_flop(shape, setup, parts),
        bytes=memory,
        relative_flop=1.0,
        relative_bytes=None if memory.total is None else 1.0,
    )


def cost_table(
    shape: ModelShape,
    setup: TrainingSetup,
    embeddings: bool | None = None,
    final_norm: bool | None = None,
    head: bool | None = None,
) -> tuple[DepthCost, ...]:
    """The price of every freeze depth 0..L, entry k for depth k.

    Depth L is left out when neither norm nor head is trained there: nothing would be trained at all.

    Args:
        shape: the counted model.
        setup: the finetune, the same at every depth.
        embeddings, final_norm, head: as in parts_at_depth.

    Raises:
        PlanError: as parts_at_depth and depth_cost, at any depth.
    """
    rows = [parts_at_depth(shape, k, embeddings, final_norm, head) for k in range(shape.n_layers + 1)]
    return tuple(depth_cost(shape, setup, parts) for parts in rows if parts.any)
