"""What a finetune costs that freezes few layers at first, and more from a step on."""

from dataclasses import dataclass, replace

from semfreeze_core.cost.flops import run_flop
from semfreeze_core.cost.memory import training_bytes
from semfreeze_core.cost.table import parts_at_depth
from semfreeze_core.records.cost import TrainingBytes
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import DepthSwitch, TrainableParts, TrainingSetup


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
