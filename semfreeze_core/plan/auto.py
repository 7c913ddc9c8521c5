"""The rule auto: which depths are worth trying, and which of them to take, from free checks or from a race.

Thresholds are those of semfreeze_core/records/defaults.py, chosen on the tasks they were measured on.
"""

from dataclasses import dataclass
from typing import Any

from semfreeze_core.plan.abstention import evidence_reasons
from semfreeze_core.plan.rules import Decision
from semfreeze_core.records.defaults import LEAST_BIGRAM_COVERAGE, MIN_ANSWER_TAG, MIN_RACED_STEPS
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.race import Race
from semfreeze_core.records.task_checks import TaskChecks
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


def quarter_depth(n_layers: int) -> int:
    """The depth that is safe where nothing else is known: a quarter of the layers."""
    return n_layers // 4


def deep_depth(n_layers: int, pick: int | None) -> int:
    """The depth that saves most: the analysis' own, or two thirds of the layers where it has none above a quarter."""
    return pick if pick is not None and pick > quarter_depth(n_layers) else 2 * n_layers // 3


def candidate_variants(n_layers: int, pick: int | None) -> dict[str, int]:
    """Variants to race, as their names in a validation with their freeze depths, shallowest first.

    Full finetuning, a quarter and the deep depth. A variant that starts wide and then freezes deep belongs here too,
    to be tried where the deep one loses.
    """
    depths = sorted({0, quarter_depth(n_layers), deep_depth(n_layers, pick)})
    return {variant_name(depth): depth for depth in depths}


def variant_name(depth: int) -> str:
    """The name of a depth's variant in a validation."""
    return f"depth:{depth}" if depth else "full"


def decide_by_auto(curve: GainCurve, basis: AutoBasis) -> Decision:
    """The race's winner; without a race a quarter of the layers where completions are new, else the deep depth.

    Without a race it makes no recommendation where the analysis gives no evidence. Ours.
    """
    n_layers, checks, race = curve.n_layers, basis.checks, basis.race
    coverage = None if checks is None else checks.bigram_coverage
    parameters: dict[str, Any] = {"bigram_coverage": coverage, "steps": basis.steps}
    if race is not None:
        depth = next(variant.freeze_depth for variant in race.variants if variant.name == race.chosen)
        parameters["objective"] = race.objective.kind
        return Decision("auto", parameters, depth, depth, (race.reason,))
    covered = coverage is not None and coverage >= LEAST_BIGRAM_COVERAGE
    depth = deep_depth(n_layers, basis.pick) if covered else quarter_depth(n_layers)
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
        new = coverage < LEAST_BIGRAM_COVERAGE
        compared = f"{'below' if new else 'at least'} {number(LEAST_BIGRAM_COVERAGE, 2)}"
        which = "the safe quarter" if new else "the deep candidate"
        why = f"It freezes {depth} of {n_layers} layers, {which}: {known} ({compared})."
    short = basis.steps < MIN_RACED_STEPS
    race = (
        f"The finetune of {basis.steps} steps is too short for a race of variants (at least {MIN_RACED_STEPS} steps)."
        if short
        else "`semfreeze finetune` compares variants in a race where that costs less than it can save."
    )
    return (f"Unprobed: no finetune was tried. {why}", race)
