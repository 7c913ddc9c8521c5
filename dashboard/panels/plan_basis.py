"""What is decided on the page Decide, as other pages read it: rule, setup, costs, and the plan of a depth."""

from dataclasses import dataclass, replace
from typing import cast

from semfreeze_core.cost.hardware import Gpu
from semfreeze_core.cost.setup import setup_from_options
from semfreeze_core.cost.speed import Speed, training_speed
from semfreeze_core.errors import PlanError
from semfreeze_core.plan.decide import AUTOMATIC_RULES
from semfreeze_core.plan.objective import Limits, rule_of_objective
from semfreeze_core.plan.opinions import Comparison, Opinion
from semfreeze_core.plan.rules import RuleName
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.records.cost import CostTable, ProgressiveCost
from semfreeze_core.records.defaults import LORA_RANK, RULE
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.records.race import ObjectiveKind
from semfreeze_core.records.training import LoraSetup, TrainingSetup

from ..data import compute, depth_choice, estimates, exports, link, setup_fields
from ..forms.finetune_form import OBJECTIVES
from ..forms.setup_form import limits_budget
from .page import PageContext

BUDGET: RuleName = "budget"
RULES: tuple[RuleName, ...] = (RULE, *AUTOMATIC_RULES, BUDGET)


@dataclass(frozen=True)
class PlanBasis:
    """What a plan is made from, apart from the depth.

    Attributes:
        objective: what the finetune is to be good at.
        rule: that is asked for it.
        budget: of the rule budget, or None.
        problem: why the objective cannot be asked for; "" where it can.
        options: the training setup as options.
        gpu: that it is for, or None.
        setup: what the options mean.
        costs: of every freeze depth.
        speed: rates that the finetune runs at.
        comparison: what every rule recommends.
    """

    objective: ObjectiveKind
    rule: RuleName
    budget: Budget | None
    problem: str
    options: EstimateOptions
    gpu: Gpu | None
    setup: TrainingSetup
    costs: CostTable
    speed: Speed
    comparison: Comparison

    @property
    def opinion(self) -> Opinion | None:
        """What the rule recommends; None for a budget without a limit."""
        return self.comparison.rules.get(self.rule)

    @property
    def last_depth(self) -> int:
        """The deepest freeze depth that the setup has."""
        return len(self.costs.depths) - 1


def plan_basis(ctx: PageContext) -> PlanBasis:
    """What the link holds: after its widgets are drawn, shown or hidden, and before the depth's slider.

    The depth moves to what the rule recommends where another rule, run or budget is asked.
    """
    run = ctx.opened.run
    options, gpu = setup_fields.training_setup()
    setup = setup_from_options(run.shape, run, options, with_reference=True, gpu=gpu)
    costs = estimates.depth_costs(ctx.opened, setup, LoraSetup(options.lora_rank or LORA_RANK))
    speed = training_speed(None, None, setup, gpu=gpu, measured=estimates.finetune_rate(ctx.opened, setup.precision)[0])
    objective = cast(ObjectiveKind, link.chosen_option("objective", OBJECTIVES))
    rule = cast(RuleName, link.chosen_option("rule", RULES))
    limits = Limits(
        link.number("memory", 0) or None, None if gpu is None else gpu.name, link.number("within", 0) or None
    )
    problem, budget = "", None
    try:
        rule, budget = rule_of_objective(objective, rule, limits, costs.full, speed.rates)
    except PlanError as error:
        rule, problem = BUDGET, str(error)
    if rule == BUDGET and objective == OBJECTIVES[0]:
        budget = limits_budget(link.number("memory", 0), link.number("compute", 100), gpu)
    comparison = compute.comparison(ctx.opened, ctx.metric, setup, budget)
    basis = PlanBasis(objective, rule, budget, problem, options, gpu, setup, costs, speed, comparison)
    depth_choice.follow(ctx.opened.name, (rule, budget), basis.opinion.freeze_depth if basis.opinion else None)
    return basis


def deeper_cost(ctx: PageContext, basis: PlanBasis, depth: int) -> ProgressiveCost | None:
    """What it costs to freeze this deep only after the steps that the link holds; None where it holds none.

    Raises:
        PlanError: it is not possible at this depth or in this setup.
    """
    steps = int(link.number("wide", 0))
    return estimates.deeper_cost(ctx.opened, basis.setup, depth, steps) if steps else None


def selection(ctx: PageContext, basis: PlanBasis, depth: int) -> exports.PlanSelection:
    """The plan of a depth."""
    chosen = exports.plan_selection(ctx, basis.opinion, basis.rule, depth, basis.budget, basis.options, basis.setup)
    try:
        deeper = deeper_cost(ctx, basis, depth)
    except PlanError:  # which the page Decide says
        deeper = None
    return chosen if deeper is None else replace(chosen, switch=deeper.switch)
