"""Decision rules, reasons to abstain, and the freeze plan document."""

from semfreeze_core.plan.document import FreezePlan, parse_plan, require_model, trainable_names
from semfreeze_core.plan.make import TrainFlags, curve_of, default_setup, make_plan
from semfreeze_core.plan.opinions import gather_opinions
from semfreeze_core.plan.rules import RuleName, depth_cap, reachable_depth
from semfreeze_core.plan.rules_by_cost import Budget

__all__ = [
    "Budget",
    "FreezePlan",
    "RuleName",
    "TrainFlags",
    "curve_of",
    "default_setup",
    "depth_cap",
    "gather_opinions",
    "make_plan",
    "parse_plan",
    "reachable_depth",
    "require_model",
    "trainable_names",
]
