"""What a plan rests on in one word: an estimate, short finetunes that decided, or a validation that it passed."""

from collections.abc import Mapping

from semfreeze_core.plan.document import Badge, FreezePlan
from semfreeze_core.records.training import DepthSwitch
from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.wording.layers import set_of
from semfreeze_core.wording.validation import finished_at


def evidence_badge(
    reports: Mapping[str, ValidationReport],
    depth: int | None,
    layers: str | None = None,
    switch: DepthSwitch | None = None,
    *,
    checked: bool = False,
) -> Badge:
    """The badge of what a plan trains by the validations beside it.

    Args:
        reports: of the run that the plan is of, by name.
        depth: k; None where none is recommended.
        layers: as ranges, where a depth does not say what is trained.
        switch: of a plan that freezes deeper at a step.
        checked: whether short finetunes chose it.
    """
    tested = {} if depth is None and layers is None else finished_at(reports, depth, layers, switch)
    verdicts = {report.verdict for report in tested.values()}
    if "holds" in verdicts and "fails" not in verdicts:
        return "measured"
    return "checked" if checked else "estimated"


def with_badge(plan: FreezePlan, reports: Mapping[str, ValidationReport]) -> FreezePlan:
    """The plan, measured where a validation beside it passed."""
    checked = plan.evidence.measurement is not None or plan.evidence.race is not None
    badge = evidence_badge(reports, plan.freeze_depth, set_of(plan.trainable), plan.switch, checked=checked)
    return plan.model_copy(update={"evidence": plan.evidence.model_copy(update={"badge": badge})})
