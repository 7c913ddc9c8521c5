"""From a rule and its options to its decision; options that contradict each other are refused."""

from collections.abc import Callable, Sequence
from typing import assert_never, get_args

from semfreeze_core.errors import PlanError
from semfreeze_core.plan.auto import AutoBasis, decide_by_auto
from semfreeze_core.plan.rules import (
    AutomaticRule,
    Decision,
    RuleName,
    decide_by_coverage,
    decide_by_paper,
    decide_by_pilots,
    decide_by_turning,
    layers_decision,
    manual_decision,
)
from semfreeze_core.plan.rules_by_cost import Budget, decide_by_budget, decide_by_compute
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.defaults import COVERAGE_WEIGHT, TAU
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.pilots import Measurement

RULES: tuple[RuleName, ...] = get_args(RuleName)
AUTOMATIC_RULES: tuple[AutomaticRule, ...] = get_args(AutomaticRule)  # in the order in which they are shown
MEASURED_NEEDS_DATA = "--rule measured runs short finetunes of your model: give --train and --eval"


def decide(
    curve: GainCurve,
    rule: RuleName,
    costs: Callable[[], Sequence[DepthCost]],
    *,
    depth: int | None,
    tau: float,
    weight: float,
    budget: Budget | None,
    measurement: Measurement | None = None,
    layers: Sequence[int] | None = None,
    auto: AutoBasis | None = None,
) -> Decision:
    """The rule's decision on a curve.

    Args:
        curve: the gain curve.
        rule: which rule.
        costs: estimated for every freeze depth; computed only for the rules that use them.
        depth: the user's own depth, of the rule manual alone.
        tau, weight: of the rule coverage alone.
        budget: of the rule budget alone.
        measurement: result of the pilots, of the rule measured alone.
        layers: the user's own trained layers, ascending, of the rule manual in place of a depth.
        auto: what the rule auto decides by; needed by that one.

    Raises:
        PlanError: all contradictions in one message; or no depth fits the budget.
    """
    refuse_contradictions(
        curve.n_layers,
        rule,
        depth=depth,
        tau=tau,
        weight=weight,
        budget=budget,
        measured=measurement is not None,
        layers=layers is not None,
    )
    match rule:  # what a rule needs is given, and no other rule's: all else is refused above
        case "measured":
            assert measurement is not None
            return decide_by_pilots(measurement)
        case "auto":
            assert auto is not None
            return decide_by_auto(curve, auto)
        case "manual":
            if layers is not None:
                return layers_decision(curve, layers)
            assert depth is not None
            return manual_decision(curve, depth)
        case "budget":
            assert budget is not None
            return decide_by_budget(curve, costs(), budget)
        case _:
            return decide_automatically(curve, rule, costs, tau=tau, weight=weight)


def decide_automatically(
    curve: GainCurve, rule: AutomaticRule, costs: Callable[[], Sequence[DepthCost]], *, tau: float, weight: float
) -> Decision:
    """The decision of a rule that takes no more than a curve and costs; arguments as those of `decide`."""
    match rule:
        case "coverage":
            return decide_by_coverage(curve, tau=tau, weight=weight)
        case "paper":
            return decide_by_paper(curve)
        case "compute":
            return decide_by_compute(curve, costs())
        case "turning":
            return decide_by_turning(curve)
        case _:
            assert_never(rule)


def refuse_contradictions(
    n_layers: int,
    rule: str | None,
    *,
    depth: int | None,
    tau: float,
    weight: float,
    budget: Budget | None,
    measured: bool = False,
    layers: bool = False,
) -> None:
    """Refuse numbers out of range, and options of another rule; None stands for all rules at once.

    `measured` is whether pilots decide, `layers` whether the user names the trained layers.

    Raises:
        PlanError: all of them in one message.
    """
    problems = []
    if not 0 < tau <= 1:
        problems.append(f"--tau must be in (0, 1], found {tau:g}")
    if not 0 <= weight < 1:
        problems.append(f"weight must be in [0, 1), found {weight:g}")
    if rule is not None:
        manual_flag = "--depth" if depth is not None else "--layers" if layers else None
        problems += _rule_problems(rule, manual_flag, (tau, weight) != (TAU, COVERAGE_WEIGHT), budget, measured)
    if depth is not None and layers:
        problems.append("--depth and --layers both say what is trained: give one of them")
    if depth is not None and not 0 <= depth <= n_layers:
        problems.append(f"--depth must be in 0..{n_layers} for this model, found {depth}")
    if budget is not None:
        problems += budget.problems
    if problems:
        raise PlanError("; ".join(problems) + ".")


def _rule_problems(
    rule: str, manual_flag: str | None, weighed: bool, budget: Budget | None, measured: bool
) -> list[str]:
    problems = []
    if rule == "measured" and not measured:
        problems.append(MEASURED_NEEDS_DATA)
    if measured and rule != "measured":
        problems.append(f"pilots decide the rule measured, not {rule}")
    if rule not in RULES:
        problems.append(f"--rule {rule}: expected {', '.join(RULES[:-1])} or {RULES[-1]}")
    if weighed and rule != "coverage":
        problems.append(f"--tau and the weight apply only to the rule coverage, not to {rule}")
    if manual_flag is not None and rule != "manual":
        problems.append(f"{manual_flag} selects the rule manual, but --rule {rule} was given")
    if manual_flag is None and rule == "manual":
        problems.append("--rule manual needs --depth or --layers")
    if budget is not None and rule != "budget":
        other = f"--rule {rule} was given" if manual_flag is None else f"{manual_flag} was given too"
        problems.append(f"--max-memory-gib, --gpu and --max-cost-fraction select the rule budget, but {other}")
    if budget is None and rule == "budget":
        problems.append("--rule budget needs --max-memory-gib, --gpu or --max-cost-fraction")
    return problems
