"""The arms of a validation: what each trains, at which rate, and for how many steps."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from semfreeze_core.cost import (
    Phase,
    batch_depths,
    check_targets,
    dynamic_flop,
    dynamic_step_flop,
    parts_at_depth,
    parts_of_layers,
    progressive_phases,
    read_layers,
    read_switch,
    require_step,
    run_flop,
    step_flop,
    training_bytes,
)
from semfreeze_core.errors import PlanError
from semfreeze_core.records.cost import TrainingBytes
from semfreeze_core.records.defaults import (
    DYNAMIC,
    FURTHER_VARIANTS,
    LEARNING_RATES,
    LORA_RANK,
    PROGRESSIVE,
    STEPS,
    VARIANTS,
)
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import DepthSwitch, LoraSetup, TrainableParts, TrainingSetup
from semfreeze_core.records.usual_depths import half_depth

ArmKind = Literal["full", "frozen", "lora"]

DEFAULT_RATES: dict[ArmKind, float] = {kind: LEARNING_RATES[kind] for kind in get_args(ArmKind)}
DEFAULT_LORA = LoraSetup(LORA_RANK)
_DEPTH = re.compile(r"depth:(\d+)")
_LAYERS = "layers:"
_PROGRESSIVE = re.compile(rf"{PROGRESSIVE}(?::\d+-\d+)?(?:@\d+)?")


@dataclass(frozen=True)
class Arm:
    """One way of finetuning.

    Attributes:
        name: "full", "planned", "half", "lora", "planned+lora", "depth:K", "layers:" with ranges, as in
            "layers:0-3,26-29", or "progressive:W-K@N", which freezes W layers for N steps and then K; of "progressive"
            alone the plan says K; or "dynamic", which freezes in each batch what its examples pick.
        parts: what is trained; with adapters, the layers that have them; with a switch, before it; with depths of the
            examples, in a batch of the least.
        lora: the adapters, or None.
        learning_rate: constant after warm-up, and the same after a switch.
        switch: from which step on it freezes deeper, or None.
        example_depths: the freeze depth of each training example, in their order, where batches have their own; or
            None.
    """

    name: str
    parts: TrainableParts
    lora: LoraSetup | None
    learning_rate: float
    switch: DepthSwitch | None = None
    example_depths: tuple[int, ...] | None = None

    @property
    def kind(self) -> ArmKind:
        """What its default learning rate depends on."""
        if self.lora is not None:
            return "lora"
        return "full" if all(self.parts.layers) else "frozen"

    @property
    def freeze_depth(self) -> int:
        """Layers frozen, with a switch before it."""
        return self.parts.freeze_depth

    def phases(self, shape: ModelShape, setup: TrainingSetup) -> tuple[Phase, ...]:
        """Its training in stretches that train the same parts: one, or two where it freezes deeper at a step.

        Args:
            shape: the counted model.
            setup: of the whole training; without a switch its prefix cache is as the arm has it.
        """
        if self.switch is None:
            return (Phase(self.parts, setup),)
        return progressive_phases(shape, setup, self.switch)

    def flop(self, shape: ModelShape, setup: TrainingSetup) -> int:
        """FLOPs of the setup's steps, cache passes included, and the pass that chooses depths of examples."""
        if self.example_depths is not None:
            return dynamic_flop(shape, setup, self.example_depths)
        return sum(run_flop(shape, phase.setup, phase.parts) for phase in self.phases(shape, setup))

    def step_flop(self, shape: ModelShape, setup: TrainingSetup) -> int:
        """FLOPs of a step of its first phase, from its cache; the mean over an epoch where batches have own depths."""
        cached = setup.prefix_cache and self.freeze_depth > 0
        if self.example_depths is None:
            return step_flop(shape, setup, self.parts, cached=cached).total
        depths = batch_depths(self.example_depths, setup.batch_size)
        steps = [dynamic_step_flop(shape, setup, self.freeze_depth, k, cached).total for k in depths]
        return sum(steps) // len(steps)

    def memory(self, shape: ModelShape, setup: TrainingSetup) -> TrainingBytes:
        """Device memory of its largest step, in bytes by part."""
        steps = [training_bytes(shape, phase.setup, phase.parts) for phase in self.phases(shape, setup)]
        return max(steps, key=lambda one: one.known)

    def has_rate(self, rates: Mapping[str, float]) -> bool:
        """Whether learning rates by name or kind give this arm one."""
        return self.name in rates or self.kind in rates


def make_arms(
    names: tuple[str, ...],
    shape: ModelShape,
    planned: TrainableParts | None,
    *,
    lora: LoraSetup = DEFAULT_LORA,
    planned_lora: LoraSetup | None = None,
    planned_switch: DepthSwitch | None = None,
    rates: dict[str, float] | None = None,
    steps: int = STEPS,
    example_depths: Sequence[int] | None = None,
) -> tuple[Arm, ...]:
    """The arms of these names, in their order.

    Args:
        names: as in Arm.
        shape: the counted model.
        planned: what the plan trains; None when it makes no recommendation.
        lora: adapters of the arms `lora` and `planned+lora`.
        planned_lora: the plan's own adapters, when it is a LoRA plan.
        planned_switch: where the plan freezes deeper, when it does.
        rates: learning rates by arm name or kind (full, frozen, lora); a name takes precedence.
        steps: of the training, within which a progressive arm freezes deeper.
        example_depths: of the training examples, for the arm `dynamic`.

    Raises:
        PlanError: all problems in one message: unknown or repeated names, a planned arm without a plan, a depth or a
            step out of range, rates of no arm or out of range, targets that match nothing.
    """
    rates = rates or {}
    problems = [f"variant {name}: given twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    problems += [p for name in names if (p := _name_problem(name, shape, planned, steps)) is not None]
    if planned_switch is not None and "planned" in names:
        try:
            require_step(planned_switch, steps)
        except PlanError as error:
            problems.append(f"variant planned: {error}")
        if planned_switch.measured:
            problems.append(
                "variant planned: trials decide when the plan freezes deeper, which only `semfreeze train` makes; name "
                f"a step, as in {PROGRESSIVE}@{planned_switch.step}"
            )
    if DYNAMIC in names and not example_depths:
        problems.append(
            f"variant {DYNAMIC}: needs the freeze depth of each training example, which `semfreeze validate` measures; "
            "in Python, call semfreeze_core.example_depths.with_example_depths first"
        )
    known = {*names, *get_args(ArmKind)}
    problems += [
        f"--lr {name}: no such variant or kind ({', '.join(sorted(known))})" for name in rates if name not in known
    ]
    problems += [
        f"--lr {name}={rate:g}: expected more than 0, at most 1" for name, rate in rates.items() if not 0 < rate <= 1
    ]
    if not names:
        problems.append("no variant is named")
    if any("lora" in name for name in names):
        try:
            check_targets(shape, lora)
        except PlanError as error:
            problems.append(str(error))
    if problems:
        raise PlanError("; ".join(problems) + ".")

    def make(name: str) -> Arm:
        adapters = lora if "lora" in name else planned_lora if name == "planned" else None
        switch = planned_switch if name == "planned" else _switch(name, shape, planned, steps)
        depths = tuple(example_depths) if name == DYNAMIC and example_depths else None
        if depths is not None:
            parts = parts_at_depth(shape, min(depths))
        elif switch is not None:
            parts = parts_at_depth(shape, switch.wide_depth)
        else:
            parts = _parts(name, shape, planned, adapters)
        arm = Arm(name, parts, adapters, 0.0, switch, depths)
        return replace(arm, learning_rate=rates.get(name, rates.get(arm.kind, DEFAULT_RATES[arm.kind])))

    return tuple(make(name) for name in names)


def _name_problem(name: str, shape: ModelShape, planned: TrainableParts | None, steps: int) -> str | None:
    last = shape.n_layers
    if depth := _DEPTH.fullmatch(name):
        return None if int(depth[1]) <= last else f"variant {name}: outside 0..{last}"
    if name.startswith(_LAYERS):
        try:
            read_layers(name.removeprefix(_LAYERS), last)
        except PlanError as error:
            return f"variant {name}: {error}"
        return None
    if _PROGRESSIVE.fullmatch(name):
        return _switch_problem(name, shape, planned, steps)
    if name == DYNAMIC:
        return None
    if name not in VARIANTS:
        return f"variant {name}: expected {', '.join((*VARIANTS, *FURTHER_VARIANTS[:-1]))} or {FURTHER_VARIANTS[-1]}"
    if name.startswith("planned") and planned is None:
        return f"variant {name}: the plan makes no recommendation; name a depth, as in depth:{last // 2}"
    return None


def _switch_problem(name: str, shape: ModelShape, planned: TrainableParts | None, steps: int) -> str | None:
    """What is wrong with a progressive arm; None where nothing is."""
    try:
        _switch(name, shape, planned, steps)
    except PlanError as error:
        return f"variant {name}: {error}"
    return None


def _switch(name: str, shape: ModelShape, planned: TrainableParts | None, steps: int) -> DepthSwitch | None:
    """Where a progressive arm freezes deeper; None for other arms."""
    if not _PROGRESSIVE.fullmatch(name):
        return None
    text = name.removeprefix(PROGRESSIVE).removeprefix(":")
    depth = None if planned is None else planned.freeze_depth
    return read_switch(text, shape, depth, steps, written_after=f"{PROGRESSIVE}:")


def _parts(name: str, shape: ModelShape, planned: TrainableParts | None, lora: LoraSetup | None) -> TrainableParts:
    if depth := _DEPTH.fullmatch(name):
        return parts_at_depth(shape, int(depth[1]))
    if name.startswith(_LAYERS):
        return parts_of_layers(shape, read_layers(name.removeprefix(_LAYERS), shape.n_layers))
    if name in ("full", "lora"):
        return parts_at_depth(shape, 0, lora=lora is not None)
    if name == "half":
        return parts_at_depth(shape, half_depth(shape.n_layers))
    assert planned is not None, f"{name}: checked by make_arms"
    if name == "planned":
        return planned
    if name == "planned+lora":
        return TrainableParts(planned.layers, embeddings=False, final_norm=False, head=False)
    raise AssertionError(f"{name} is named in VARIANTS, but what it trains is not said here")


def steps_at_equal_compute(shape: ModelShape, arm: Arm, setup: TrainingSetup, full_flop: int) -> int:
    """Steps that the arm makes for `full_flop` FLOPs, cache pass included; at least 1.

    Args:
        shape: the counted model.
        arm: its parts and adapters.
        setup: as the arm trains: with its prefix cache and adapters; its steps do not matter.
        full_flop: FLOPs of full finetuning at the same steps.
    """

    def cost(steps: int) -> int:
        return arm.flop(shape, replace(setup, steps=steps))

    low, high = 1, 2
    while cost(high) <= full_flop:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= full_flop else (low, middle)
    return low
