"""The cost of every freeze depth, relative to full finetuning."""

from dataclasses import replace

from semfreeze_core.cost.flops import CACHE_NEEDS_FROZEN_EMBEDDINGS, flop_status, run_flop, step_flop, tied_parts
from semfreeze_core.cost.lora import check_targets
from semfreeze_core.cost.memory import training_bytes
from semfreeze_core.cost.setup import alternative_setup, stock_trainer
from semfreeze_core.errors import PlanError
from semfreeze_core.records.activation_count import CalibratedBytes
from semfreeze_core.records.cost import AlternativeCosts, CostTable, DepthCost
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup

CACHE_HAS_NO_EMBEDDINGS = (
    "prefix_cache starts each step at the boundary, but checkpointing transformers-5 sends the gradient down to the "
    "embeddings below it: choose non-reentrant checkpointing, or turn the prefix cache off"
)


def parts_at_depth(
    shape: ModelShape,
    k: int,
    embeddings: bool | None = None,
    final_norm: bool | None = None,
    head: bool | None = None,
    lora: bool = False,
) -> TrainableParts:
    """The parts trained when the first k layers are frozen.

    What is left unset is trained at k = 0, which is full finetuning; at k > 0 only the final norm is, because trained
    embeddings send the gradient back through every frozen layer. With LoRA nothing left unset is trained but the
    adapters. On a tied model an unset one of embeddings and head follows the other. Some models have no final norm.

    Args:
        shape: the counted model.
        k: freeze depth, 0..L.
        embeddings: whether the embeddings are trained.
        final_norm: whether the norm before the head is trained.
        head: whether the head is trained.
        lora: whether the trained layers get adapters in place of their own weights.

    Raises:
        PlanError: k is outside 0..L; a final norm is to be trained where there is none; or head and embeddings are
            tied and differ, or are trained above a frozen prefix.
    """
    if not 0 <= k <= shape.n_layers:
        raise PlanError(f"freeze depth {k} is outside 0..{shape.n_layers}, the number of the model's layers")
    has_norm = shape.final_norm_parameters > 0
    if final_norm and not has_norm:
        raise PlanError("this model has no norm between its layers and its head: leave --train-norm out")
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
        embeddings=full and not lora if embeddings is None else embeddings,
        final_norm=(has_norm and not lora) if final_norm is None else final_norm,
        head=full and not lora if head is None else head,
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
    if setup.prefix_cache and parts.freeze_depth > 0 and setup.checkpointing == "transformers-5":
        problems.append(CACHE_HAS_NO_EMBEDDINGS)
    if problems:
        raise PlanError("; ".join(problems))


def depth_cost(
    shape: ModelShape, setup: TrainingSetup, parts: TrainableParts, calibrated: CalibratedBytes | None = None
) -> DepthCost:
    """The cost of training these parts, in FLOPs and bytes and relative to full finetuning (full_cost).

    Raises:
        PlanError: parts do not fit the model, or contradict the setup (check_setup); targets match nothing.
    """
    return _checked_cost(shape, setup, parts, full_cost(shape, setup, calibrated), calibrated)


def full_cost(shape: ModelShape, setup: TrainingSetup, calibrated: CalibratedBytes | None = None) -> DepthCost:
    """The cost of full finetuning, which all relative figures are measured against.

    Everything is trained, with the same head, loss, precision, optimizer and checkpointing, and no adapters, quantized
    weights or prefix cache.
    """
    setup = replace(setup, prefix_cache=False, lora=None, frozen_bits=None)
    return _cost(shape, setup, parts_at_depth(shape, 0), None, calibrated)


def lora_cost(
    shape: ModelShape, setup: TrainingSetup, lora: LoraSetup, calibrated: CalibratedBytes | None = None
) -> DepthCost:
    """The cost of LoRA on all layers and nothing else, the other thing people do to save; without a prefix cache.

    Raises:
        PlanError: targets match nothing.
    """
    setup = replace(setup, prefix_cache=False, lora=lora)
    return depth_cost(shape, setup, parts_at_depth(shape, 0, lora=True), calibrated)


def lora_reference_cost(
    shape: ModelShape, setup: TrainingSetup, lora: LoraSetup, calibrated: CalibratedBytes | None = None
) -> tuple[DepthCost, bool]:
    """What LoRA on all layers costs next to a finetune of whole layers, and whether its base is in bfloat16 for it.

    Autocast keeps float32 weights for the optimizer's sake. A base that is not trained needs none, so people load it in
    bfloat16: where the setup is of autocast and that takes less memory, it is what others are compared with. A setup of
    adapters says itself how these are trained, and so does a calibration, which is of one precision.

    Raises:
        PlanError: targets match nothing.
    """
    cost = lora_cost(shape, setup, lora, calibrated)
    if setup.precision != "bf16-autocast" or setup.lora is not None or calibrated is not None:
        return cost, False
    loaded = lora_cost(shape, replace(setup, precision="bf16"), lora)
    totals = cost.bytes.total, loaded.bytes.total
    if totals[0] is None or totals[1] is None or totals[1] >= totals[0]:
        return cost, False
    full = full_cost(shape, setup).bytes.total
    return replace(loaded, relative_bytes=None if full is None else totals[1] / full), True


def stock_setup(setup: TrainingSetup) -> TrainingSetup:
    """The setup under checkpointing as transformers 5 turns it on by itself, which leaves no use for a prefix cache.

    gradient_checkpointing_enable() makes the embedding's output require a gradient, so that every frozen layer is
    computed again and carries the activation gradient.
    """
    return replace(setup, prefix_cache=False, checkpointing="transformers-5")


def cost_table(
    shape: ModelShape,
    setup: TrainingSetup,
    embeddings: bool | None = None,
    final_norm: bool | None = None,
    head: bool | None = None,
    calibrated: CalibratedBytes | None = None,
) -> tuple[DepthCost, ...]:
    """The cost of every freeze depth 0..L, entry k for depth k.

    Depth L is left out when neither norm nor head is trained there: nothing would be trained at all.

    Args:
        shape: the counted model.
        setup: the finetune, the same at every depth.
        embeddings, final_norm, head: as in parts_at_depth.
        calibrated: as in training_bytes.

    Raises:
        PlanError: as parts_at_depth and depth_cost, at any depth.
    """
    lora = setup.lora is not None
    rows = [parts_at_depth(shape, k, embeddings, final_norm, head, lora) for k in range(shape.n_layers + 1)]
    full = full_cost(shape, setup, calibrated)
    return tuple(_checked_cost(shape, setup, parts, full, calibrated) for parts in rows if parts.any)


def compare_costs(
    shape: ModelShape,
    setup: TrainingSetup,
    embeddings: bool | None = None,
    final_norm: bool | None = None,
    head: bool | None = None,
    lora: LoraSetup | None = None,
    calibrated: CalibratedBytes | None = None,
) -> CostTable:
    """The cost of every freeze depth, beside full finetuning, LoRA everywhere and transformers 5's checkpointing.

    Args:
        shape: the counted model.
        setup: the finetune, the same at every depth.
        embeddings, final_norm, head: as in parts_at_depth.
        lora: adapters of the LoRA reference, or None for none.
        calibrated: as in training_bytes.

    Raises:
        PlanError: as cost_table.
    """
    around = (embeddings, final_norm, head)
    reference, in_bf16 = (None, False) if lora is None else lora_reference_cost(shape, setup, lora, calibrated)
    stock = None
    if setup.checkpointing != "none":
        stock = cost_table(shape, stock_setup(stock_trainer(setup)), *around, calibrated=calibrated)
    trainer, other = alternative_setup(setup, parts_at_depth(shape, 1, *around, lora=setup.lora is not None))
    return CostTable(
        depths=cost_table(shape, setup, *around, calibrated=calibrated),
        full=full_cost(shape, setup, calibrated),
        lora=reference,
        transformers_5=stock,
        flop_status=flop_status(shape, setup),
        bytes_status="projected" if calibrated is None else "calibrated",
        alternative=AlternativeCosts(
            trainer, cost_table(shape, other, *around, calibrated=calibrated), full_cost(shape, other, calibrated)
        ),
        lora_in_bf16=in_bf16,
    )


def _checked_cost(
    shape: ModelShape,
    setup: TrainingSetup,
    parts: TrainableParts,
    full: DepthCost,
    calibrated: CalibratedBytes | None,
) -> DepthCost:
    parts = tied_parts(shape, parts)
    check_setup(setup, parts)
    if setup.lora is not None:
        check_targets(shape, setup.lora)
    return _cost(shape, setup, parts, full, calibrated)


def _cost(
    shape: ModelShape,
    setup: TrainingSetup,
    parts: TrainableParts,
    full: DepthCost | None,
    calibrated: CalibratedBytes | None,
) -> DepthCost:
    """A row of the table; relative to itself when it is full finetuning."""
    flop, memory = run_flop(shape, setup, parts), training_bytes(shape, setup, parts, calibrated)
    full_flop, full_bytes = (flop, memory.total) if full is None else (full.flop, full.bytes.total)
    return DepthCost(
        freeze_depth=parts.freeze_depth,
        step_flop=step_flop(shape, setup, parts),
        flop=flop,
        bytes=memory,
        relative_flop=flop / full_flop,
        relative_bytes=None if memory.total is None or full_bytes is None else memory.total / full_bytes,
    )
