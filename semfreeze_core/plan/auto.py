"""The rule auto: which depths are worth trying, and which of them to take, from free checks or from a race.

Thresholds are those of semfreeze_core/records/defaults.py, chosen on the tasks they were measured on.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from semfreeze_core.plan.abstention import evidence_reasons
from semfreeze_core.plan.rules import Decision
from semfreeze_core.records.defaults import LEAST_BIGRAM_COVERAGE, MIN_ANSWER_TAG, MIN_RACED_STEPS
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.race import Objective, Race
from semfreeze_core.records.task_checks import TaskChecks
from semfreeze_core.records.training import DepthSwitch
from semfreeze_core.records.usual_depths import half_depth, quarter_depth, two_thirds_depth
from semfreeze_core.wording.numbers import number, percent


@dataclass(frozen=True)
class AutoBasis:
    """What the rule auto decides by, besides the analysis.

    Attributes:
        checks: the free checks of the task; None of an analysis that has none.
        steps: of the planned finetune.
        pick: depth that the coverage rule recommends; None where it makes no recommendation.
        race: of the variants, or None.
    """

    checks: TaskChecks | None
    steps: int
    pick: int | None
    race: Race | None = None


def completions_are_known(checks: TaskChecks | None) -> bool:
    """Whether free checks say that training completions hold most of what eval completions are made of."""
    coverage = None if checks is None else checks.bigram_coverage
    return coverage is not None and coverage >= LEAST_BIGRAM_COVERAGE


def deep_depth(n_layers: int, pick: int | None, checks: TaskChecks | None) -> int:
    """The depth that may lose nothing and saves most.

    Half of the layers where completions are new; else the analysis' own depth, or two thirds of the layers where it has
    none above a quarter.
    """
    if not completions_are_known(checks):
        return half_depth(n_layers)
    return pick if pick is not None and pick > quarter_depth(n_layers) else two_thirds_depth(n_layers)


def candidate_variants(n_layers: int, pick: int | None, checks: TaskChecks | None) -> dict[str, int]:
    """Variants to race, as their names in a validation with their freeze depths, shallowest first.

    Full finetuning, a quarter and the deep depth. `trial_after_race` says where one that starts wide and then freezes
    deep is tried.
    """
    depths = sorted({0, quarter_depth(n_layers), deep_depth(n_layers, pick, checks)})
    return {variant_name(depth): depth for depth in depths}


def variant_name(depth: int) -> str:
    """The name of a depth's variant in a validation."""
    return f"depth:{depth}" if depth else "full"


def trial_after_race(depths: Collection[int], objective: Objective, raced_steps: int, steps: int) -> DepthSwitch | None:
    """The finetune that is tried where the deepest variant of a race does not win: wide in the race, then deep.

    The race's steps are its wide phase. One trial from the winner's checkpoint decides whether it freezes deeper there;
    more of them would cost about ten of full finetuning's steps each. None where something else than the cheapest
    variant is wanted, or the finetune ends too early.

    Args:
        depths: of the variants.
        objective: what the finetune is to be good at.
        raced_steps: of the race.
        steps: of the whole finetune.
    """
    if objective.kind != "balanced" or len(set(depths)) < 2:
        return None
    switch = DepthSwitch(min(depths), max(depths), raced_steps, measured=True, trials=1)
    return switch if switch.looks(steps) else None


def switch_of(race: Race) -> DepthSwitch | None:
    """Where the finetune that a race chose may freeze deeper; None where it trains the same layers to the end."""
    if race.deeper_depth is None:
        return None
    return DepthSwitch(chosen_depth(race), race.deeper_depth, race.steps, measured=True, trials=1)


def chosen_depth(race: Race) -> int:
    """The freeze depth of the variant that a race chose."""
    return next(variant.freeze_depth for variant in race.variants if variant.name == race.chosen)


def is_undecided(curve: GainCurve) -> bool:
    """Whether only a race can choose: the analysis gives no evidence, so free checks recommend nothing."""
    return bool(evidence_reasons(curve))


def decide_by_auto(curve: GainCurve, basis: AutoBasis) -> Decision:
    """The race's winner, or the depth that a trial tries after it; without a race a quarter of the layers where
    completions are new, else the deep depth.

    Without a race it makes no recommendation where the analysis gives no evidence. Ours.
    """
    n_layers, checks, race = curve.n_layers, basis.checks, basis.race
    coverage = None if checks is None else checks.bigram_coverage
    parameters: dict[str, Any] = {"bigram_coverage": coverage, "steps": basis.steps}
    if race is not None:
        depth = chosen_depth(race) if race.deeper_depth is None else race.deeper_depth
        parameters["objective"] = race.objective.kind
        return Decision("auto", parameters, depth, depth, (race.reason,))
    known = completions_are_known(checks)
    depth = deep_depth(n_layers, basis.pick, checks) if known else quarter_depth(n_layers)
    if reasons := evidence_reasons(curve):
        return Decision("auto", parameters, depth, None, reasons)
    return Decision("auto", parameters, depth, depth, (*_unprobed_reasons(n_layers, depth, basis), *tag_notes(checks)))


def tag_notes(checks: TaskChecks | None) -> tuple[str, ...]:
    """A sentence where prompts have no answer tag, else none."""
    share = None if checks is None else checks.answer_tag_share
    if share is None or share >= MIN_ANSWER_TAG:
        return ()
    return (
        f"Only {percent(share)} of the prompts end in the same two tokens. Prompts that end in a fixed tag, such as "
        '"Response:", start at a lower loss.',
    )


def _unprobed_reasons(n_layers: int, depth: int, basis: AutoBasis) -> tuple[str, ...]:
    coverage = None if basis.checks is None else basis.checks.bigram_coverage
    if coverage is None:
        unknown = (
            "the analysis was made by a version that did not check how new the completions are"
            if basis.checks is None
            else "too few examples were checked to tell how new the completions are"
        )
        why = f"It freezes {depth} of {n_layers} layers, the safe quarter, because {unknown}."
    else:
        known = f"{percent(coverage)} of the token pairs in held-out completions occur in other completions"
        new = not completions_are_known(basis.checks)
        compared = f"{'below' if new else 'at least'} {number(LEAST_BIGRAM_COVERAGE, 2)}"
        deep = "the coverage rule's depth" if depth == basis.pick else "two thirds of them"
        which = "the safe quarter" if new else deep
        why = f"It freezes {depth} of {n_layers} layers, {which}: {known} ({compared})."
    short = basis.steps < MIN_RACED_STEPS
    race = (
        f"The finetune of {basis.steps} steps is too short for a race of variants (at least {MIN_RACED_STEPS} steps)."
        if short
        else "`semfreeze finetune` compares variants in a race where that costs less than it can save."
    )
    return (f"Unprobed: no race of finetunes was made. {why}", race)
