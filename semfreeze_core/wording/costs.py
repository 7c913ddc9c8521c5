"""What training costs: the setup in one line, the cost of every freeze depth, and what the estimates leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from semfreeze_core.records.defaults import LOOK_STEPS
from semfreeze_core.wording.layers import set_of
from semfreeze_core.wording.numbers import MISSING, byte_size, counted, duration_at, flops, gib, percent, rate_range
from semfreeze_core.wording.tables import Column, Table, table

if TYPE_CHECKING:
    from semfreeze_core.cost.hardware import Gpu
    from semfreeze_core.cost.savings import Saving
    from semfreeze_core.plan.document import FreezePlan
    from semfreeze_core.records.cost import CostTable, DepthCost, FlopStatus, Trainer
    from semfreeze_core.records.training import DepthSwitch, LossKind, TrainingSetup

LOGITS: dict[LossKind, str] = {
    "materialised": "full logits",
    "supervised-only": "target-token logits",
    "chunked": "target-token logits in chunks",
    "chunked-loop": "target-token logits in chunks, without a kernel",
    "fused": "chunked cross-entropy",
}
TRAINER_DIFFERENCES: dict[Trainer, str] = {
    "semfreeze train": "target-token logits, prefix cache",
    "stock trainer": "full logits, no prefix cache",
}
MEMORY_NOTE = "Memory is the sum of tensor sizes on one device; allocator and runtime overhead are not included."
_PARTS = ("weights", "gradients", "optimizer", "activations", "logits")


class RelativeCost(Protocol):
    """A cost beside that of full finetuning; both shares are of the same number of steps."""

    @property
    def relative_flop(self) -> float: ...
    @property
    def relative_bytes(self) -> float | None: ...


BY_LENGTH = "batches of like length"


def setup_line(setup: TrainingSetup) -> str:
    """A training setup in one line; defaults that are off are left out."""
    parts = [
        f"batch size {setup.batch_size}{at_a_time(setup)}",
        f"{setup.sequence_length:,} tokens per example",
        f"{setup.steps:,} steps",
        setup.optimizer,
        setup.precision,
        LOGITS[setup.loss],
        "prefix cache" if setup.prefix_cache else "no prefix cache",
    ]
    if setup.prefix_cache and not setup.prefix_off_device:
        parts[-1] += " (frozen layers stay on the device)"
    if setup.frozen_bits is not None:
        parts.append(f"frozen layers quantized to {setup.frozen_bits} bits")
    if setup.lora is not None:
        parts.append(f"LoRA of rank {setup.lora.rank} on {' '.join(setup.lora.targets)}")
    if setup.checkpointing != "none":
        parts.append(f"{setup.checkpointing} checkpointing")
    if setup.batches == "by-length":
        parts.append(BY_LENGTH)
    return ", ".join(parts)


def at_a_time(setup: TrainingSetup) -> str:
    """Behind the size of a batch, how many of its examples go through the model at once; empty where all do."""
    return f" ({setup.micro_batch_size} at a time)" if setup.passes_per_step > 1 else ""


def cost_sentence(cost: RelativeCost) -> str:
    """What a depth is estimated to cost; at the same steps, which the label says."""
    return f"Estimated cost at the same steps: {_shares(cost.relative_flop, cost.relative_bytes)}."


def alternative_sentence(trainer: Trainer, relative_flop: float, relative_bytes: float | None) -> str:
    """What the same depth is estimated to cost in the other kind of trainer, which the sentence describes.

    Args:
        trainer: "stock trainer" or "semfreeze train".
        relative_flop, relative_bytes: shares of full finetuning in that trainer; None where memory is unknown.
    """
    where = f"In a {trainer}" if trainer == "stock trainer" else f"With `{trainer}`"
    return f"{where} ({TRAINER_DIFFERENCES[trainer]}): {_shares(relative_flop, relative_bytes)}."


def _shares(relative_flop: float, relative_bytes: float | None) -> str:
    memory = "its memory is unknown" if relative_bytes is None else f"{percent(relative_bytes)} of its memory"
    return f"{percent(relative_flop)} of full finetuning's compute, {memory}"


def plan_cost_table(plan: FreezePlan) -> Table:
    """Compute and memory of the plan beside full finetuning's, by component; one cost per column.

    A plan that freezes deeper at a step has a column for each phase too.
    """
    planned, full = plan.cost.planned, plan.cost.full
    layers, switch = set_of(plan.trainable), plan.switch
    costs = {} if planned is None else {f"layers {layers}" if layers else f"freeze {planned.freeze_depth}": planned}
    if planned is not None and switch is not None and plan.cost.phases is not None:
        wide, deep = plan.cost.phases
        costs = {
            f"freeze {switch.wide_depth}, then {switch.deep_depth}": planned,
            f"first {counted(wide.steps, 'step')}": wide.cost,
            f"other {counted(deep.steps, 'step')}": deep.cost,
        }
    costs["full finetuning"] = full
    step, whole = full.step_flop.total, full.flop
    rows = [("compute, first step", *[flops(cost.step_flop.total, step) for cost in costs.values()])]
    operations = ["forward", "activation_gradient", "weight_gradient", *["recompute"] * bool(full.step_flop.recompute)]
    for name in operations:
        cells = [flops(getattr(cost.step_flop, name), step) for cost in costs.values()]
        rows.append((f"  {name.replace('_', ' ')}", *cells))
    rows.append(("compute, all steps", *[flops(cost.flop, whole) for cost in costs.values()]))
    rows.append(("memory", *[gib(cost.bytes.total) for cost in costs.values()]))
    for name in _PARTS:
        rows.append((f"  {name}", *[gib(getattr(cost.bytes, name)) for cost in costs.values()]))
    return table([Column("estimated cost", text=True), *map(Column, costs)], rows)


def depth_cost_table(costs: CostTable, rates: Sequence[float] = ()) -> Table:
    """One row per freeze depth: compute of the first step and of all steps, memory by component.

    A finetune that freezes deeper at a step has a row, and one for each of its phases.

    One column has the shares of compute and memory in the other kind of trainer, one with checkpointing those under
    the default checkpointing of transformers 5; with a rate in FLOP/s, or the lowest and highest, a last column has the
    training time.
    """
    elsewhere: dict[str, Sequence[DepthCost]] = {}
    if costs.alternative is not None:
        elsewhere[costs.alternative.trainer] = costs.alternative.depths
    if costs.transformers_5 is not None:
        elsewhere["transformers 5"] = costs.transformers_5
    titles = ["frozen layers", "first step", "all steps", "compute", "memory", "memory, share", *_PARTS]
    titles += [*elsewhere, *["time"] * bool(rates)]
    largest = max([*costs.depths, costs.full], key=lambda cost: cost.flop)
    named = [(str(cost.freeze_depth), cost) for cost in costs.depths]
    named += [("LoRA", costs.lora)] if costs.lora else []
    if (both := costs.progressive) is not None:
        steps = [counted(n, "step") for n in both.steps]
        named.append((f"{both.switch.wide_depth}, then {both.switch.deep_depth}", both.whole))
        named += zip((f"first {steps[0]}", f"other {steps[1]}"), both.phases, strict=True)
    rows = []
    for i, (name, cost) in enumerate(named):
        cells = [
            name,
            flops(cost.step_flop.total, largest.step_flop.total),
            flops(cost.flop, largest.flop),
            percent(cost.relative_flop),
            gib(cost.bytes.total),
            percent(cost.relative_bytes),
            *[gib(getattr(cost.bytes, part)) for part in _PARTS],
        ]
        for other in elsewhere.values():
            shares = (other[i].relative_flop, other[i].relative_bytes) if i < len(other) else ()
            cells.append(", ".join(map(percent, shares)) or MISSING)
        if rates:
            cells.append(duration_at(cost.flop, rates))
        rows.append(cells)
    return table([Column(title) for title in titles], rows)


def looks_sentence(switch: DepthSwitch, lost_flop: int, never_flop: int) -> str:
    """How trials decide when a finetune freezes deeper, and what that adds to its cost.

    Args:
        switch: that they decide.
        lost_flop: of one trial, what is not gone on from, FLOPs.
        never_flop: of the whole finetune where no trial allows it, FLOPs.
    """
    after, it, none = ("After", "it", "it does not allow") if switch.trials == 1 else ("Every", "each", "none allows")
    return (
        f"{after} {counted(switch.step, 'step')} a trial of {LOOK_STEPS} steps with either depth, on eval examples, "
        f"decides whether it freezes deeper: {it} adds {flops(lost_flop)}. Where {none} it, all takes "
        f"{flops(never_flop)}."
    )


def lora_name(costs: CostTable, rank: int) -> str:
    """What to call LoRA on all layers next to freeze depths."""
    return f"LoRA, rank {rank}{', base in bf16' if costs.lora_in_bf16 else ''}"


def cost_notes(costs: CostTable) -> list[str]:
    """What the cost table's numbers mean and what they leave out."""
    notes = [f"{MEMORY_NOTE} Compute and memory shares are relative to full finetuning in the same number of steps."]
    if costs.full.bytes.activations is None:
        notes.insert(
            0,
            f"Activation memory of this model family is unknown, so memory totals are unknown; "
            f"{_flop_note(costs.flop_status)}. With --model, --calibrate counts it.",
        )
    if costs.flop_status == "upper bound":
        notes.append(
            "FLOPs are an upper bound: how much of this family's layers is recomputed in the backward pass is unknown."
        )
    if costs.lora is not None:
        base = ", its base in bfloat16" if costs.lora_in_bf16 else ""
        notes.append(f"LoRA: adapters on all layers, nothing frozen; same setup, no prefix cache{base}.")
    if (both := costs.progressive) is not None:
        wide, deep, first = both.switch.wide_depth, both.switch.deep_depth, counted(both.steps[0], "step")
        notes.append(
            f"{wide}, then {deep}: {counted(wide, 'layer')} frozen for {first}, then {deep}; the memory is that of the "
            "phase that needs most."
        )
        if both.looks is not None:
            notes.append(looks_sentence(both.switch, both.looks.lost, both.looks.never))
    if costs.alternative is not None:
        trainer = costs.alternative.trainer
        notes.append(
            f"{trainer}: compute and memory shares there ({TRAINER_DIFFERENCES[trainer]}), relative to full "
            "finetuning there."
        )
    if costs.transformers_5 is not None:
        notes.append(
            f"transformers 5: compute and memory shares with its default checkpointing. {_WHY_STOCK_COSTS_MORE}"
        )
    return notes


def states_sentence(setup: TrainingSetup, states_bytes: int) -> str:
    """What the prefix cache keeps, and that it is not on the device."""
    return (
        f"Prefix cache: at most {byte_size(states_bytes)} of boundary states for {setup.train_examples:,} examples of "
        f"{setup.sequence_length} tokens, in the machine's memory or on disk; not in the memory above."
    )


def loading_sentence(whole_bytes: int, depth: int, bytes_at_depth: int) -> str:
    """What a device needs while a model is loaded to be trained.

    Args:
        whole_bytes: with all layers on the device.
        depth: a freeze depth.
        bytes_at_depth: with that many layers kept elsewhere.
    """
    return (
        f"Before the steps, the device holds the whole model: {gib(whole_bytes)}. Where it has less room, `semfreeze "
        f"train` keeps frozen layers in the machine's memory or on disk: {gib(bytes_at_depth)} at freeze depth {depth}."
    )


def saving_sentence(saving: Saving, total_bytes: int, *, flags: bool = True) -> str:
    """The change that saves most memory.

    Args:
        saving: the change.
        total_bytes: memory without it.
        flags: whether it is named by the flags of a command, or in words.
    """
    saved = f"saves {gib(saving.saved_bytes)} of {gib(total_bytes)} memory"
    return f"Largest saving left: {(_flags if flags else _changes_text)(saving)} {saved}{_price(saving)}."


def fit_sentence(saving: Saving | None, what: str) -> str:
    """The changes with which something fits that does not fit as it is.

    Args:
        saving: all of them; None where no changes are enough.
        what: does not fit, as the subject of the sentence: "Full finetuning".
    """
    if saving is None:
        return (
            f"{what} does not fit with any change of the setup that we know of; a shorter --sequence-length needs less."
        )
    return f"{what} fits with {_flags(saving)}{_price(saving)}."


def estimate_sentence(
    name: str, n_layers: int, depth: int, costs: CostTable, gpu: Gpu | None, rates: Sequence[float]
) -> str:
    """What a depth of a model takes in hours and memory, beside full finetuning, and whether it fits a GPU.

    Args:
        name: of the model.
        n_layers: L.
        depth: k.
        costs: of every depth.
        gpu: that it is for, or None.
        rates: FLOP/s, or the lowest and highest; empty where none is known.
    """
    cost, full = costs.depths[depth], costs.full
    if depth == 0:
        sentence = f"Full finetuning of {name} needs {_memory_and_time(full, rates)}"
    else:
        sentence = (
            f"{name} with {depth} of {n_layers} layers frozen needs {_memory_and_time(cost, rates)}; full finetuning "
            f"{_memory_and_time(full, rates)}"
        )
    if gpu is None or cost.bytes.total is None:
        return f"{sentence}."
    fits = "fits" if cost.bytes.total <= gpu.memory_bytes else "does not fit"
    return f"{sentence}. It {fits} on {_gpu_name(gpu)}."


def _memory_and_time(cost: DepthCost, rates: Sequence[float]) -> str:
    memory = gib(cost.bytes.total) if cost.bytes.total is not None else "unknown memory"
    return f"{memory} and {duration_at(cost.flop, rates)}" if rates else memory


def _gpu_name(gpu: Gpu) -> str:
    """A GPU with its memory, of which one that is known by nothing else has its name."""
    return f"{gpu.name} ({gib(gpu.memory_bytes)})" if gpu.source else f"a GPU of {gib(gpu.memory_bytes)}"


def fitting_changes(gpu: Gpu, total_bytes: int, saving: Saving) -> str:
    """The changes of a setup with which it fits a GPU, for a button that makes them."""
    needs = f"This needs {gib(total_bytes)}, more than {_gpu_name(gpu)} has."
    return f"{needs} It fits, in {gib(saving.cost.bytes.total)}, with {_changes_text(saving)}{_price(saving)}."


def no_fit(gpu: Gpu, total_bytes: int, least_depth: int | None, presets: Mapping[str, int]) -> str:
    """That no change of a setup that trains all of a depth's weights makes it fit a GPU, and what does.

    Args:
        gpu: it does not fit on.
        total_bytes: that it needs.
        least_depth: the smallest freeze depth that fits as it is, or None.
        presets: bytes of the named setups that fit at the depth.
    """
    needs = f"This needs {gib(total_bytes)}, more than {_gpu_name(gpu)} has."
    named = " or ".join(f"{name} ({gib(size)})" for name, size in presets.items())
    fits = f" At this depth, the training setup {named} fits." if presets else ""
    deeper = "" if least_depth is None else f" As it is, it fits from freeze depth {least_depth} on."
    return f"{needs} No milder change of the setup makes it fit.{fits}{deeper} Shorter examples need less."


def _changes_text(saving: Saving) -> str:
    """Its changes in words."""
    changes = []
    for name, value in saving.options:
        match name:
            case "loss":
                changes.append(LOGITS[value])  # type: ignore[index]  # a kind of loss
            case "prefix_cache":
                changes.append("a prefix cache")
            case "micro_batch_size":
                changes.append(f"{value} example{'' if value == 1 else 's'} at a time")
            case "checkpointing":
                changes.append(f"{value} checkpointing")
            case _:
                changes.append(str(value))
    return " and ".join([", ".join(changes[:-1]), changes[-1]] if changes[1:] else changes)


def _flags(saving: Saving) -> str:
    """Its options as flags of a command."""
    flags = [
        f"--{name.replace('_', '-')}" if value is True else f"--{name.replace('_', '-')} {value}"
        for name, value in saving.options
    ]
    return " ".join(flags)


def _price(saving: Saving) -> str:
    """What a saving costs besides, as the end of a sentence."""
    more = saving.flop_ratio - 1
    compute = f" for {percent(more)} more compute" if more >= 0.005 else ""
    return compute if saving.same_result else f"{compute}; it changes the result slightly"


def flop_status_word(status: FlopStatus) -> str:
    """How FLOPs are known, as the beginning of a caption."""
    return "Exact" if status == "exact" else "Upper bound"


def _flop_note(status: FlopStatus) -> str:
    return "FLOPs are exact" if status == "exact" else "FLOPs are an upper bound"


_WHY_STOCK_COSTS_MORE = (
    "gradient_checkpointing_enable() makes the embedding's output require a gradient, so frozen layers are recomputed "
    "and carry gradients."
)


def transformers_5_sentence(stock: RelativeCost) -> str:
    """What the plan's depth costs with the default checkpointing of transformers 5."""
    return (
        f"With the default checkpointing of transformers 5, this depth costs {percent(stock.relative_flop)} of full "
        f"finetuning's compute and {percent(stock.relative_bytes)} of its memory: {_WHY_STOCK_COSTS_MORE}"
    )


def time_note(rates: Sequence[float], source: str | None, reason: str | None) -> str:
    """At which rate, or lowest and highest, the training time was estimated, or why there is no estimate."""
    if not rates:
        return f"Training time is unknown: {reason}."
    return f"Training time: at {rate_range(rates)}, {source}."


def gpu_fit_sentence(
    name: str, memory_bytes: int, costs: Sequence[DepthCost], least_depth: int | None, *, adapters: bool = False
) -> str:
    """From which freeze depth on a GPU holds the training.

    Args:
        name: of the GPU.
        memory_bytes: of the GPU.
        costs: by freeze depth, from 0 on.
        least_depth: the smallest that fits, or None.
        adapters: whether adapters train in place of the layers.
    """
    gpu = f"{name}, {gib(memory_bytes)}"
    if costs[0].bytes.total is None:
        return f"{gpu}: whether it fits is unknown, because memory totals are."
    if least_depth is None:
        return f"{gpu}: fits at no freeze depth."
    if least_depth == 0:
        whole = "adapters on all layers" if adapters else "full finetuning"
        return f"{gpu}: fits at every freeze depth, including {whole}."
    return f"{gpu}: fits from freeze depth {least_depth} on."
