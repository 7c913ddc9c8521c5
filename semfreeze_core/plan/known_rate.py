"""A learning rate for what a plan trains, where a validation beside it has searched one."""

from collections.abc import Mapping

from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.records.rates import KnownRate
from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.wording.layers import set_of
from semfreeze_core.wording.numbers import counted
from semfreeze_core.wording.validation import finished_at


def validated_rate(reports: Mapping[str, ValidationReport], plan: FreezePlan) -> KnownRate | None:
    """The rate that the newest finished validation of what the plan trains searched for it; None without one.

    Args:
        reports: of the run that the plan is of, by name, the newest last.
        plan: whose layers train.
    """
    tested = finished_at(reports, plan.freeze_depth, set_of(plan.trainable), plan.switch)
    for name, report in reversed(tested.items()):
        planned, setup = report.arms.get("planned"), report.settings.setup
        search = None if planned is None or setup.lora != plan.cost.setup.lora else planned.rate_search
        if search is not None and search.rate is not None:
            batch = counted(setup.batch_size, "example")
            return KnownRate(search.rate, f"the best that validation {name} tried, in batches of {batch}")
    return None
