"""What a finetune is to be good at, as the rule that estimates its depth."""

import pytest

from semfreeze_core.cost import compare_costs
from semfreeze_core.errors import PlanError
from semfreeze_core.plan.objective import Limits, compute_share, rule_of_objective
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.sources.models.named_shape import named_shape

FULL = compare_costs(named_shape("shape:smollm2-135m"), TrainingSetup(), lora=None).full
RATE = FULL.flop / 7200  # full finetuning takes two hours


@pytest.mark.parametrize(
    ("objective", "limits", "expected"),
    [
        ("balanced", Limits(memory_gib=4.0), ("paper", None)),
        ("quality", Limits(memory_gib=4.0), ("auto", None)),
        ("memory", Limits(), ("budget", None)),
        ("memory", Limits(memory_gib=4.0, hours=1.0), ("budget", Budget(max_memory_gib=4.0))),
        ("memory", Limits(gpu="H100"), ("budget", Budget(gpu="H100"))),
        ("time", Limits(gpu="H100"), ("budget", None)),
        ("time", Limits(hours=1.0, memory_gib=4.0), ("budget", Budget(max_cost_fraction=0.5))),
    ],
)
def test_each_objective_has_its_rule_and_its_limit(objective, limits, expected):
    assert rule_of_objective(objective, "paper", limits, FULL, [RATE]) == expected


@pytest.mark.parametrize(("hours", "share"), [(0.0001, 0.001), (0.5, 0.25), (2, 1.0), (50, 1.0), (2 / 3, 0.333)])
def test_a_share_is_what_the_slowest_rate_does_in_the_time(hours, share):
    assert compute_share(hours, FULL, [RATE, 2 * RATE]) == pytest.approx(share)
    assert compute_share(hours, FULL, [RATE]) <= max(0.001, hours / 2 + 1e-9)


def test_a_time_without_a_rate_is_refused():
    with pytest.raises(PlanError, match="needs a rate"):
        rule_of_objective("time", "coverage", Limits(hours=1.0), FULL, [])
