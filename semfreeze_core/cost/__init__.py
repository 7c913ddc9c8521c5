"""What a freeze depth costs in FLOP and bytes: pure arithmetic, no torch."""

from semfreeze_core.cost.flops import run_flop, step_flop
from semfreeze_core.cost.memory import training_bytes
from semfreeze_core.cost.table import check_setup, cost_table, depth_cost, full_cost, parts_at_depth

__all__ = [
    "check_setup",
    "cost_table",
    "depth_cost",
    "full_cost",
    "parts_at_depth",
    "run_flop",
    "step_flop",
    "training_bytes",
]
