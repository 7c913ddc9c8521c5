"""What a freeze depth costs in FLOPs and bytes: pure arithmetic, no torch."""

from semfreeze_core.cost.dynamic import batch_depths, depths_flop, dynamic_flop, dynamic_step_flop, ordered_by_depth
from semfreeze_core.cost.flops import flop_status, run_flop, run_seconds, step_flop
from semfreeze_core.cost.hardware import Gpu, find_gpu
from semfreeze_core.cost.layer_sets import parts_of_layers, read_layers
from semfreeze_core.cost.lora import adapter_parameters, check_targets
from semfreeze_core.cost.memory import training_bytes
from semfreeze_core.cost.progressive import (
    Phase,
    names_depths,
    progressive_bytes,
    progressive_cost,
    progressive_flop,
    progressive_phases,
    read_switch,
    refused_with_switch,
    require_step,
    trial_flop,
)
from semfreeze_core.cost.savings import Saving, cheapest_fit, savings
from semfreeze_core.cost.setup import ordered_by_length
from semfreeze_core.cost.table import (
    check_setup,
    compare_costs,
    cost_table,
    depth_cost,
    full_cost,
    lora_cost,
    parts_at_depth,
    stock_setup,
)

__all__ = [
    "Gpu",
    "Phase",
    "Saving",
    "adapter_parameters",
    "batch_depths",
    "cheapest_fit",
    "check_setup",
    "check_targets",
    "compare_costs",
    "cost_table",
    "depth_cost",
    "depths_flop",
    "dynamic_flop",
    "dynamic_step_flop",
    "find_gpu",
    "flop_status",
    "full_cost",
    "lora_cost",
    "names_depths",
    "ordered_by_depth",
    "ordered_by_length",
    "parts_at_depth",
    "parts_of_layers",
    "progressive_bytes",
    "progressive_cost",
    "progressive_flop",
    "progressive_phases",
    "read_layers",
    "read_switch",
    "refused_with_switch",
    "require_step",
    "run_flop",
    "run_seconds",
    "savings",
    "step_flop",
    "stock_setup",
    "training_bytes",
    "trial_flop",
]
