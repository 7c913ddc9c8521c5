"""Finetunes that freeze few layers at first, and more from a step on: how they are written, and what they cost."""

import re
from dataclasses import dataclass, replace

from semfreeze_core.cost.flops import run_flop, step_flop
from semfreeze_core.cost.memory import training_bytes
from semfreeze_core.cost.table import depth_cost, full_cost, parts_at_depth
from semfreeze_core.errors import PlanError
from semfreeze_core.records.activation_count import CalibratedBytes
from semfreeze_core.records.cost import LookCost, ProgressiveCost, TrainingBytes
from semfreeze_core.records.defaults import CURVE_EXAMPLES, LOOK_STEPS, WIDE_STEPS
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import DepthSwitch, TrainableParts, TrainingSetup
from semfreeze_core.records.usual_depths import quarter_depth, two_thirds_depth

_SWITCH = re.compile(r"(?:(\d{1,6})-(\d{1,6}))?(?:@(\d{1,9}|auto))?")


def names_depths(text: str) -> bool:
    """Whether "W-K@N" names its two freeze depths."""
    match = _SWITCH.fullmatch(text)
    return match is not None and match[1] is not None


def read_switch(
    text: str, shape: ModelShape, deep_depth: int | None, steps: int, *, written_after: str = ""
) -> DepthSwitch:
    """The switch that "W-K@N" stands for: W layers are frozen for N steps, then K; "@auto" decides when by trials.

    "W-K" and "@N" may be left out: a quarter of the layers and then `deep_depth`; WIDE_STEPS, at most half of all.

    Args:
        text: as above; "" leaves both out.
        shape: the counted model.
        deep_depth: layers frozen in the end where the text does not say; None where nothing says it.
        steps: of the whole finetune.
        written_after: what stands before it where somebody writes it, for examples.

    Raises:
        PlanError: it is not so written, or no such finetune is possible; a part of a sentence, without its subject.
    """
    match = _SWITCH.fullmatch(text)
    last, first = shape.n_layers, quarter_depth(shape.n_layers)
    example = f"{written_after}{first}-{max(first + 1, two_thirds_depth(last))}"
    if match is None:
        raise PlanError(f"expected W-K@N, as in {example}@{WIDE_STEPS}: W layers frozen for N steps, then K")
    if match[1] is None and deep_depth is None:
        raise PlanError(f"the plan makes no recommendation; name two depths, as in {example}")
    wide, deep = (first, deep_depth or 0) if match[1] is None else (int(match[1]), int(match[2]))
    if deep > last:
        raise PlanError(f"freezes {deep} layers in the end, but the model has {last}")
    if wide >= deep:
        raise PlanError(f"freezes {wide} layers at first and {deep} later; the second must be more, as in {example}")
    if not parts_at_depth(shape, deep).any:
        raise PlanError("trains nothing in the end, as the model has no norm between its layers and its head")
    if steps < 2:
        raise PlanError(f"freezes deeper after a step, so it needs at least 2 steps, found {steps}")
    measured = match[3] == "auto"
    step = min(WIDE_STEPS, steps // 2) if measured or match[3] is None else int(match[3])
    if step < 1:
        raise PlanError(_wrong_step(step, steps))
    switch = DepthSwitch(wide, deep, step, measured)
    require_step(switch, steps)
    return switch


def refused_with_switch(setup: TrainingSetup, around: tuple[bool | None, ...]) -> list[str]:
    """What of a setup a finetune that freezes deeper at a step cannot have; parts of a sentence.

    Args:
        setup: of the finetune.
        around: whether embeddings, final norm and head are trained, as far as somebody says.
    """
    problems = []
    if any(flag is not None for flag in around):
        problems.append("what trains around the layers is each depth's default: leave the --train-… flags out")
    if setup.lora is not None or setup.frozen_bits is not None:
        problems.append("it trains the layers' own weights: leave --lora and --frozen-bits out")
    return problems


def require_step(switch: DepthSwitch, steps: int) -> None:
    """Refuse a finetune that ends before it freezes deeper.

    Args:
        switch: where it freezes deeper.
        steps: of the whole finetune.

    Raises:
        PlanError: a part of a sentence, without its subject.
    """
    step = switch.step
    if step >= steps:
        raise PlanError(_wrong_step(step, steps))
    if switch.measured and not switch.looks(steps):
        raise PlanError(
            f"tries to freeze deeper after step {step} with {LOOK_STEPS} steps each way, so it needs more than "
            f"{step + LOOK_STEPS} steps, found {steps}"
        )


def _wrong_step(step: int, steps: int) -> str:
    return f"freezes deeper after step {step}; expected a step from 1 to {steps - 1}, of {steps}"


@dataclass(frozen=True)
class Phase:
    """Successive steps of a finetune that train the same parts.

    Attributes:
        parts: what is trained.
        setup: with the phase's own steps, and a prefix cache where this phase has one.
    """

    parts: TrainableParts
    setup: TrainingSetup


def progressive_phases(shape: ModelShape, setup: TrainingSetup, switch: DepthSwitch) -> tuple[Phase, ...]:
    """The phases of a finetune in order: wide, then deep; the wide one alone when it ends before the switch.

    A phase has a cache only where examples come again in it. Until then a cache spares nothing: it computes the frozen
    layers once per example, as the steps do. And it would compute them for examples that the phase never meets.

    Args:
        shape: the counted model.
        setup: of the whole finetune, with all its steps.
        switch: the two depths, and the step between them.

    Raises:
        PlanError: a depth is outside 0..L.
    """
    wide_steps = min(setup.steps, switch.step)
    stretches = ((switch.wide_depth, wide_steps), (switch.deep_depth, setup.steps - wide_steps))
    return tuple(
        Phase(
            parts_at_depth(shape, depth),
            replace(
                setup, steps=steps, prefix_cache=setup.prefix_cache and depth > 0 and steps > setup.steps_per_epoch
            ),
        )
        for depth, steps in stretches
        if steps
    )


def progressive_flop(shape: ModelShape, setup: TrainingSetup, switch: DepthSwitch) -> int:
    """FLOPs of the whole run: the wide phase's run, and the deep phase's with a cache of its own.

    With n steps before the switch and m after it: run_flop(n steps, wide) + run_flop(m steps, deep). The deep phase
    computes its frozen layers anew, as the wide one has moved them, over the examples that it meets.

    Raises:
        PlanError: a depth is outside 0..L.
    """
    return sum(run_flop(shape, phase.setup, phase.parts) for phase in progressive_phases(shape, setup, switch))


def progressive_bytes(shape: ModelShape, setup: TrainingSetup, switch: DepthSwitch) -> tuple[TrainingBytes, ...]:
    """Device memory of a step in each phase, in bytes by part; the larger one is the run's peak.

    Raises:
        PlanError: a depth is outside 0..L.
    """
    phases = progressive_phases(shape, setup, switch)
    return tuple(training_bytes(shape, phase.setup, phase.parts) for phase in phases)


def progressive_cost(
    shape: ModelShape, setup: TrainingSetup, switch: DepthSwitch, calibrated: CalibratedBytes | None = None
) -> ProgressiveCost:
    """What a finetune that freezes deeper at a step costs, and each of its phases.

    Args:
        shape: the counted model.
        setup: of the whole finetune, with all its steps.
        switch: the two depths, and the step between them.
        calibrated: as in training_bytes.

    Raises:
        PlanError: a depth is outside 0..L, or the setup contradicts one of them.
    """
    full, phases = full_cost(shape, setup, calibrated), progressive_phases(shape, setup, switch)
    costs = [depth_cost(shape, phase.setup, phase.parts, calibrated) for phase in phases]
    costs = [replace(cost, relative_flop=cost.flop / full.flop) for cost in costs]
    flop, largest = sum(cost.flop for cost in costs), max(costs, key=lambda cost: cost.bytes.known)
    whole = replace(
        largest,
        freeze_depth=switch.deep_depth,
        step_flop=costs[0].step_flop,
        flop=flop,
        relative_flop=flop / full.flop,
    )
    steps = tuple(phase.setup.steps for phase in phases)
    looks = look_cost(shape, setup, switch) if switch.measured else None
    return ProgressiveCost(switch, whole, tuple(costs), steps, looks)


def look_cost(shape: ModelShape, setup: TrainingSetup, switch: DepthSwitch) -> LookCost:
    """What it adds to decide by short trainings when to freeze deeper.

    Raises:
        PlanError: a depth is outside 0..L.
    """
    refused = len(switch.looks(setup.steps)) * trial_flop(shape, setup, switch, deeper=False)
    wide = run_flop(shape, setup, parts_at_depth(shape, switch.wide_depth))
    return LookCost(lost=trial_flop(shape, setup, switch, deeper=True), never=wide + refused)


def trial_flop(shape: ModelShape, setup: TrainingSetup, switch: DepthSwitch, *, deeper: bool) -> int:
    """FLOPs that one decision whether to freeze deeper adds.

    It makes LOOK_STEPS steps with either depth, without a cache, and evaluates both on CURVE_EXAMPLES examples, taken
    to be as long as those of training. The finetune goes on from one of the two; the other is lost.

    Args:
        shape: the counted model.
        setup: of the whole finetune.
        switch: the two depths.
        deeper: what is decided.

    Raises:
        PlanError: a depth is outside 0..L.
    """
    wide, deep = (parts_at_depth(shape, depth) for depth in (switch.wide_depth, switch.deep_depth))
    uncached = replace(setup, prefix_cache=False)
    one = replace(uncached.of_pass(1), checkpointing="none")
    readings = 2 * CURVE_EXAMPLES * step_flop(shape, one, wide).forward
    return LOOK_STEPS * step_flop(shape, uncached, wide if deeper else deep).total + readings
