"""A freeze plan as text: the headline, its estimated cost, and why the depth was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semfreeze_core.wording.costs import RelativeCost, alternative_sentence, cost_sentence, looks_sentence
from semfreeze_core.wording.layers import set_headline, set_of
from semfreeze_core.wording.numbers import NOT_MEASURED, Estimate, counted, flops, gib, interval_with_ci

if TYPE_CHECKING:
    from semfreeze_core.plan.document import Badge, FreezePlan, PlanCost
    from semfreeze_core.plan.opinions import Opinion
    from semfreeze_core.records.training import DepthSwitch

_CHOSEN_BY_COVERAGE = ("coverage", "compute")


def depth_headline(depth: int, n_layers: int) -> str:
    """What a freeze depth trains, in one sentence.

    Args:
        depth: layers frozen, counted from the input side.
        n_layers: of the model.
    """
    if depth == 0:
        return f"Train all {n_layers} layers and freeze none."
    if depth == n_layers:
        return f"Freeze all {n_layers} layers."
    last = "last layer" if n_layers - depth == 1 else f"last {n_layers - depth}"
    first = "first layer" if depth == 1 else f"first {depth}"
    return f"Freeze the {first} of {n_layers} layers and train the {last}."


def switch_headline(switch: DepthSwitch, n_layers: int) -> str:
    """What a finetune trains that freezes deeper at a step, in one sentence."""
    steps = f"{'at least ' if switch.measured else ''}{counted(switch.step, 'step')}"
    then = "the first" if switch.deep_depth == 1 else f"the first {switch.deep_depth}"
    if switch.trials == 1:
        steps, then = counted(switch.step, "step"), f"{then} if a trial on eval examples loses nothing"
    if switch.wide_depth == 0:
        return f"Train all {n_layers} layers for {steps}, then freeze {then}."
    first = "first layer" if switch.wide_depth == 1 else f"first {switch.wide_depth}"
    return f"Freeze the {first} of {n_layers} layers for {steps}, then {then}."


def phases_sentence(cost: PlanCost, switch: DepthSwitch | None) -> str:
    """What each phase of a plan that freezes deeper at a step is estimated to cost; "" of another plan."""
    if cost.phases is None or switch is None:
        return ""
    first, second = (f"{flops(p.cost.flop)} and {gib(p.cost.bytes.total)} of memory" for p in cost.phases)
    steps, rest = (phase.steps for phase in cost.phases)
    sentence = f"Estimated: {first} for the first {counted(steps, 'step')}, {second} for the other {rest:,}."
    if cost.looks is None:
        return sentence
    return f"{sentence} {looks_sentence(switch, cost.looks.lost, cost.looks.never)}"


def no_recommendation(rule: str, candidate_depth: int | None) -> str:
    """That a rule makes no recommendation, and which depth its formula selects all the same."""
    alone = "" if candidate_depth is None else f" Its formula alone selects depth {candidate_depth}."
    return f"No recommendation from the {rule} rule.{alone}"


def headline(plan: FreezePlan) -> str:
    """What the plan recommends, in one sentence."""
    if plan.recommendation == "abstain" or plan.freeze_depth is None:
        return no_recommendation(plan.rule, plan.candidate_depth)
    if plan.trainable is not None and not plan.trainable.is_suffix:
        return set_headline(plan.trainable)
    if plan.switch is not None:
        return switch_headline(plan.switch, plan.n_layers)
    return depth_headline(plan.freeze_depth, plan.n_layers)


def plan_summary(plan: FreezePlan) -> list[str]:
    """The headline and, where something is frozen, its estimated cost here and in the other kind of trainer."""
    cost, other = plan.cost.planned, plan.cost.alternative
    if cost is None or not (plan.freeze_depth or set_of(plan.trainable)):
        return [headline(plan)]
    lines = [headline(plan), cost_sentence(cost)]
    if phases := phases_sentence(plan.cost, plan.switch):
        lines.append(phases)
    if other is not None:
        lines.append(alternative_sentence(other.trainer, other.planned.relative_flop, other.planned.relative_bytes))
    return lines


def opinion_summary(rule: str, opinion: Opinion, n_layers: int) -> list[str]:
    """What a rule recommends for a run, and what that is estimated to cost or why there is no recommendation."""
    if opinion.freeze_depth is None:
        return [no_recommendation(rule, opinion.candidate_depth), *opinion.reasons]
    return depth_summary(opinion.freeze_depth, n_layers, opinion.cost)


def depth_summary(depth: int, n_layers: int, cost: RelativeCost | None) -> list[str]:
    """What a freeze depth trains, and what that is estimated to cost."""
    return [depth_headline(depth, n_layers), *([cost_sentence(cost)] if cost is not None else [])]


def schedule_summary(depth: int, switch: DepthSwitch | None, n_layers: int, cost: RelativeCost | None) -> list[str]:
    """`depth_summary` of a finetune that may freeze so deep only after a step.

    Args:
        depth: frozen in the end.
        switch: when it is; None from the first step on.
        n_layers: L.
        cost: of all steps, or None.
    """
    if switch is None:
        return depth_summary(depth, n_layers, cost)
    return [switch_headline(switch, n_layers), *([cost_sentence(cost)] if cost is not None else [])]


def coverage_sentence(depth: int, coverage: Estimate, rule: str = "") -> str:
    """The coverage of a depth, and what it may be used for.

    Args:
        depth: k.
        coverage: R(k), a fraction.
        rule: that chose the depth, if one did.
    """
    shown = interval_with_ci(coverage, 2)
    if shown == NOT_MEASURED:
        return f"Coverage R({depth}) was not measured."
    use = "Used to choose the depth; it" if rule in _CHOSEN_BY_COVERAGE else "It"
    return f"Coverage R({depth}): {shown}. {use} does not forecast loss."


def set_coverage_sentence(layers: str, coverage: Estimate) -> str:
    """The share of all gain in a set of layers, and what it may be used for.

    Args:
        layers: as ranges.
        coverage: the share, a fraction.
    """
    shown = interval_with_ci(coverage, 2)
    if shown == NOT_MEASURED:
        return f"Coverage of layers {layers} was not measured."
    return f"Coverage of layers {layers}: {shown}. It does not forecast loss."


def plan_details(plan: FreezePlan) -> list[str]:
    """The coverage of the plan's depth, why this depth, and the largest that a rule may choose; one sentence each."""
    details = []
    if layers := set_of(plan.trainable):
        details.append(set_coverage_sentence(layers, plan.gain_coverage))
    elif plan.freeze_depth:
        details.append(coverage_sentence(plan.freeze_depth, plan.gain_coverage, plan.rule))
    details += plan.reasons
    if plan.recommendation == "freeze" and plan.evidence.badge is not None:
        details.append(badge_sentence(plan.evidence.badge))
    if (cap := plan.rule_parameters.get("cap")) is not None:
        details.append(f"Maximum automatic depth: {cap} (the last quarter of the layers always trains).")
    return details


def badge_sentence(badge: Badge) -> str:
    """What a plan rests on."""
    match badge:
        case "measured":
            return "Evidence: measured. A validation compared it with full finetuning, and it passed."
        case "checked":
            return "Evidence: checked. Short finetunes of several variants chose it."
        case _:
            return "Evidence: estimated. No finetune has confirmed it."


def stack_sentence(n_layers: int, depth: int | None) -> str:
    """The layer stack for those who do not see it."""
    if depth is None:
        return f"Layer stack: {n_layers} layers, no depth recommended."
    return f"Layer stack: {depth} of {n_layers} layers frozen, {n_layers - depth} trained."
