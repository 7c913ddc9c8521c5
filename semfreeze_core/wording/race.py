"""Sentences on a race of variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from semfreeze_core.records.defaults import LOOK_STEPS, MARGIN, RACE_CONFIDENCE, RACE_STEPS, RACE_WINS, RATE_TRIALS
from semfreeze_core.records.looks import Look
from semfreeze_core.wording.costs import at_a_time
from semfreeze_core.wording.numbers import MISSING, counted, duration, flops, gib, nats, number, percent
from semfreeze_core.wording.rates import learning_rate, trial_line
from semfreeze_core.wording.tables import Column, Table, table
from semfreeze_core.wording.training import look_sentence

if TYPE_CHECKING:
    from semfreeze_core.plan.document import FreezePlan
    from semfreeze_core.records.finetune_report import FinetuneReport
    from semfreeze_core.records.race import Objective, Race, RaceVariant, RacingVariant
    from semfreeze_core.records.training import DepthSwitch, TrainingSetup
    from semfreeze_core.records.validation import ArmRun

# Stages of `semfreeze finetune` whose messages say what it does, what that costs, and what it has decided.
MESSAGE_STAGES = ("Holding out", "Finetune", "Race", "Training")
PRIVATE_FOLDER = "Its folder `decision` holds rows of your data: remove it before you publish the model."
_RACING_COLUMNS = (
    Column("variant", text=True),
    Column("eval loss"),
    Column("learning rate"),
    Column("learning rates tried, by the loss on training batches", text=True),
    Column("state", text=True),
)
_NOTE = Column("note", text=True)
_RACED_COLUMNS = (
    Column("variant", text=True),
    Column("learning rate"),
    Column("eval loss"),
    Column("eval loss, by target token"),
    Column("compute, whole finetune"),
    Column("time, whole finetune"),
    _NOTE,
)
NOT_RANKED = "Not ranked: its loss did not fall at its rates."


def variant_text(depth: int) -> str:
    """A variant in words."""
    return f"freeze {depth}" if depth else "train all layers"


def variant_title(name: str) -> str:
    """A variant in words, from its name in a validation."""
    if name == "full":
        return variant_text(0)
    kind, _, depth = name.partition(":")
    return variant_text(int(depth)) if kind == "depth" and depth.isdecimal() else name


def objective_text(objective: Objective) -> str:
    """What a finetune is to be good at, in words."""
    match objective.kind:
        case "balanced":
            return (
                f"the cheapest variant within {percent(MARGIN)} of the best one's loss reduction "
                f"({percent(RACE_CONFIDENCE)} confidence)"
            )
        case "quality":
            return "the lowest loss"
        case "memory":
            return f"the lowest loss in {gib(int(objective.limit or 0))}"
        case _:
            return f"the lowest loss within {duration(objective.limit or 0.0)}"


def race_reason(
    objective: Objective,
    variants: Sequence[RaceVariant],
    chosen: str,
    decided: bool,
    n_eval: int,
    deeper_depth: int | None = None,
) -> str:
    """Why a variant was chosen, with every variant's loss, and what is tried after it.

    Args:
        objective: what the winner is to be good at.
        variants: of the race.
        chosen: name of the winner.
        decided: whether the race could tell.
        n_eval: eval examples.
        deeper_depth: that a trial tries from the winner's checkpoint, or None.
    """
    winner = next(variant for variant in variants if variant.name == chosen)
    losses = "; ".join(
        f"{variant_text(variant.freeze_depth)} {number(variant.loss)}"
        for variant in variants
        if variant.loss is not None
    )
    measured = f"Eval loss after {RACE_STEPS} steps, each at its own learning rate ({n_eval} eval examples): {losses}."
    which = variant_text(winner.freeze_depth)
    asked = objective_text(objective)
    if objective.kind == "time" and (winner.run_seconds or 0.0) > (objective.limit or 0.0):
        why = f"No variant ends within {duration(objective.limit or 0.0)}, so the fastest is taken: {which}."
    elif decided:
        why = f"Chosen: {which}, {asked}."
    elif objective.kind == "balanced":
        why = f"The race cannot tell which variant is {asked}. Taken: {which}, the safe choice."
    else:
        why = f"Chosen: {which}, {asked}; weighted by target tokens another variant is lower."
    if deeper_depth is not None:
        why += (
            f" A trial of {LOOK_STEPS} steps from its checkpoint decides whether the training continues with "
            f"{variant_text(deeper_depth)}."
        )
    return f"{measured} {why}"


def nothing_learned(runs: Sequence[ArmRun]) -> str:
    """Why nothing is trained: no variant's loss fell at any of its learning rates, or none could be trained."""
    reasons = " ".join(f"{run.arm}: {run.reason or NOT_RANKED}" for run in runs)
    if all(run.status == "failed" and run.cause in ("resources", "refused") for run in runs):
        return f"No variant of the race could be trained. {reasons}"
    return (
        f"No variant learned anything in {counted(RACE_STEPS, 'step')}, so there is nothing to choose from. {reasons} "
        "Check that completions follow from their prompts, and that eval examples are of the same task."
    )


@dataclass(frozen=True)
class RaceSeconds:
    """What a race and the finetunes it chooses from take.

    Attributes:
        likely, worst: of the race, seconds.
        shortest, longest: of the whole finetune, seconds.
    """

    likely: float
    worst: float
    shortest: float
    longest: float


def race_line(
    depths: Sequence[int],
    objective: Objective,
    n_eval: int,
    shares: tuple[float, float],
    steps: int,
    trial: DepthSwitch | None = None,
) -> str:
    """What a race does and costs, before it starts.

    Args:
        depths: of its variants.
        objective: what the winner is to be good at.
        n_eval: eval examples.
        shares: likely and most that it adds, as shares of the compute of training every layer for all steps.
        steps: of the whole finetune.
        trial: what is tried where the deepest variant does not win, or None.
    """
    names = ", ".join(variant_text(depth) for depth in depths)
    likely, worst = (percent(share) for share in shares)
    shallowest = min(depths)
    stands = f" Training all layers is not raced; {variant_text(shallowest)} stands for it." if shallowest else ""
    tried = ""
    if trial is not None:
        deep = variant_text(trial.deep_depth)
        tried = (
            f" If {deep} does not win, a trial of {LOOK_STEPS} steps from the winner's checkpoint decides whether the "
            f"training continues with {deep}."
        )
    return (
        f"Race: {names}. Each makes the first {RACE_STEPS} of {steps:,} steps at its own learning rate, the best of up "
        f"to {RATE_TRIALS} on the same batches, and is compared on {n_eval} eval examples.{stands} The training "
        f"continues with {objective_text(objective)}.{tried} The race adds about {likely} to the compute of training "
        f"every layer for {steps:,} steps, at worst {worst}."
    )


def race_time_line(seconds: RaceSeconds) -> str:
    """How long a race and the whole training take, at the speed of the evaluation before training."""
    run = dict.fromkeys([duration(seconds.shortest), duration(seconds.longest)])
    return (
        f"Estimated time: race {duration(seconds.likely)}, at worst {duration(seconds.worst)}; whole training "
        f"{' to '.join(run)}. It is estimated from the speed of the evaluation before training."
    )


def too_costly(likely: float, saved: float, depths: Sequence[int], steps: int) -> str:
    """Why a race is not worth its price.

    Args:
        likely: what it would add, as a share of the compute of training every layer.
        saved: what the cheapest variant saves next to the costliest, likewise.
        depths: of the variants.
        steps: of the whole finetune.
    """
    return (
        f"A race would take {percent(likely)} of the compute of training every layer for {steps:,} steps. "
        f"{variant_text(max(depths)).capitalize()} saves {percent(saved)} of it next to {variant_text(min(depths))}, "
        f"but the deeper variant won on {percent(RACE_WINS)} of the tasks that we measured."
    )


def cost_line(flop: tuple[int, int], peak_bytes: int | None) -> str:
    """The estimated cost of a finetune over the variants it may become.

    Args:
        flop: least and most, FLOPs.
        peak_bytes: the most device memory; None where it is unknown.
    """
    least, most = flop
    compute = flops(most) if least == most else f"{flops(least, most)} to {flops(most)}"
    return f"Estimated: {compute}, {gib(peak_bytes)} of memory. The time is estimated once the speed is measured."


def plan_cost_line(plan: FreezePlan) -> str:
    """The estimated cost of the finetune that a plan is of."""
    planned = plan.cost.planned or plan.cost.full
    return cost_line((planned.flop, planned.flop), planned.bytes.total)


def micro_batch_reason(setup: TrainingSetup, whole_bytes: int | None, limit_bytes: float | None) -> str:
    """Why not all examples of a step go through the model at once where memory is limited.

    Args:
        setup: with the micro-batches that fit.
        whole_bytes: device memory with the whole batch at once.
        limit_bytes: of the objective.
    """
    return (
        f"Micro-batches: the {setup.batch_size} examples of a step go through the model {setup.examples_per_pass} at a "
        f"time. All at once would take {gib(whole_bytes)}, more than the limit of {gib(limit_bytes)}. The result is "
        "the same."
    )


def examples_line(n_train: int, n_eval: int, steps: int, setup: TrainingSetup) -> str:
    """What a finetune trains on, and for how long."""
    return (
        f"Finetune: {counted(steps, 'step')} of {setup.batch_size} examples{at_a_time(setup)} on {n_train:,} training "
        f"examples, evaluated on {n_eval:,}. The checkpoint with the lowest eval loss is kept."
    )


def unraced_line(why: str) -> str:
    """That no race is made, and why."""
    return f"No race: {why} Free checks decide."


def run_time_line(reason: str, seconds: float | None, deeper_seconds: float | None = None) -> str:
    """What a race decided, and how long the whole training takes at its speed.

    Args:
        reason: of the race.
        seconds: of the whole training.
        deeper_seconds: where a trial lets it freeze deeper; None where there is none, or it is unknown.
    """
    deeper = "" if deeper_seconds is None else f" ({duration(deeper_seconds)} if it freezes deeper)"
    return f"{reason} Estimated time of the whole training: {duration(seconds)}{deeper}, evaluation not included."


def racing_table(variants: Sequence[RacingVariant]) -> Table:
    """What is known of the variants while a race runs, the lowest eval loss first."""
    rows = []
    for variant in variants:
        rate = MISSING if variant.learning_rate is None else learning_rate(variant.learning_rate)
        state = variant.failure or ("evaluated" if variant.finished else "training")
        tried = "; ".join(map(trial_line, variant.trials))
        rows.append((variant_title(variant.name), number(variant.loss), rate, tried, state))
    return table(_RACING_COLUMNS, rows)


def leader_sentence(variants: Sequence[RacingVariant]) -> str:
    """Which variant of a race that runs has the lowest eval loss so far; the race compares them once all have one."""
    evaluated = [variant for variant in variants if variant.loss is not None]
    if not evaluated:
        return "No variant is evaluated yet."
    first = min(evaluated, key=lambda variant: variant.loss or 0.0)
    return (
        f"Lowest eval loss so far: {variant_title(first.name)}, {number(first.loss)} "
        f"({counted(len(evaluated), 'variant')} evaluated)."
    )


def race_table(race: Race) -> Table:
    """The variants of a race that has ended: what each reached, what its whole finetune takes, and notes if any."""
    rows = [
        (
            variant_text(variant.freeze_depth) + (" (chosen)" if variant.name == race.chosen else ""),
            learning_rate(variant.learning_rate),
            number(variant.loss),
            number(variant.token_loss),
            flops(variant.run_flop, race.full_flop),
            duration(variant.run_seconds),
            variant.reason,
        )
        for variant in race.variants
    ]
    raced = table(_RACED_COLUMNS, rows)
    return raced if any(variant.reason for variant in race.variants) else raced.without(_NOTE.title)


def finetune_lines(report: FinetuneReport) -> list[str]:
    """What a guided finetune chose, why, what it gave, and what training every layer would have cost."""
    lines = [f"Trained: {_trained(report)}."]
    if report.badge is not None:
        lines[0] += f" Evidence: {report.badge}."
    lines += report.reasons
    lines += [look_sentence(Look.model_validate(look)) for look in report.training.get("looks") or ()]
    before, after = (report.training[name] for name in ("before", "after"))
    if after is not None:
        was = "" if before is None else f"{number(before['loss'])} -> "
        lines.append(f"Eval loss {was}{nats(after['loss'])} at step {after['step']} of {report.steps:,}.")
    cost = f"Estimated compute: {flops(report.planned_flop)}"
    if report.freeze_depth:
        cost += f"; training every layer: {flops(report.full_flop)}"
    lines.append(f"{cost}.")
    if report.race_flop is not None:
        share = percent(report.race_flop / report.full_flop)
        what = "The race and its trial" if report.training.get("looks") else "The race"
        lines.append(f"{what} added {flops(report.race_flop)}, {share} of the compute of training every layer.")
    lines.append(f"Estimated memory: {gib(report.planned_bytes)}; training every layer: {gib(report.full_bytes)}.")
    return lines


def _trained(report: FinetuneReport) -> str:
    """Which layers a guided finetune trained, and when."""
    depth, first, n_layers = report.freeze_depth, report.first_depth, report.n_layers
    if first is not None:
        begin = f"{variant_text(first)} of {n_layers} layers" if first else "all layers"
        return f"{begin} for {counted(report.deeper_from or 0, 'step')}, then {variant_text(depth)}"
    return f"{variant_text(depth)} of {n_layers} layers" if depth else "all layers"
