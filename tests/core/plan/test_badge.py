"""The badge of a plan: measured by a finished validation of what it trains that passed, and by no other."""

import pytest

from semfreeze_core.plan.badge import evidence_badge, with_badge
from semfreeze_core.plan.document import parse_plan, plan_digests
from semfreeze_core.plan.make import make_plan
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.runs.store import example_run
from semfreeze_core.wording.plan import badge_sentence, plan_details


@pytest.fixture(scope="module")
def reports():
    """The bundled validation, as one that passed."""
    return {
        name: report.model_copy(update={"verdict": "holds", "finished": True})
        for name, report in list_validations(example_run()).items()
    }


@pytest.fixture(scope="module")
def plan(reports):
    (report,) = reports.values()
    return make_plan(read_run(example_run()), rule="manual", depth=report.freeze_depth)


def changed(reports, **fields):
    return {name: report.model_copy(update=fields) for name, report in reports.items()}


def test_a_plan_that_a_validation_passed_is_measured_and_keeps_its_digests(plan, reports):
    measured = with_badge(plan, reports)
    assert (plan.evidence.badge, measured.evidence.badge) == ("estimated", "measured")
    assert plan_digests(measured) == plan_digests(plan), "a validation of the plan is still one of it"
    assert parse_plan(measured.model_dump_json()) == measured
    assert badge_sentence("measured") in plan_details(measured)
    assert badge_sentence("estimated") in plan_details(plan)


@pytest.mark.parametrize(
    "fields",
    [{"verdict": "fails"}, {"verdict": "undecided"}, {"finished": False}, {"freeze_depth": 3}, {"layers": "0-3"}],
)
def test_other_validations_leave_it_as_it_is(plan, reports, fields):
    assert with_badge(plan, changed(reports, **fields)).evidence.badge == "estimated"


def test_a_validation_that_failed_outweighs_one_that_passed(plan, reports):
    both = reports | {f"again-{name}": report for name, report in changed(reports, verdict="fails").items()}
    assert with_badge(plan, both).evidence.badge == "estimated"


def test_short_finetunes_check_a_depth_and_a_validation_goes_further(plan, reports):
    assert evidence_badge({}, plan.freeze_depth, checked=True) == "checked"
    assert evidence_badge(changed(reports, verdict="fails"), plan.freeze_depth, checked=True) == "checked"
    assert evidence_badge(reports, plan.freeze_depth, checked=True) == "measured"
    assert evidence_badge(changed(reports, freeze_depth=None), None) == "estimated", (
        "no recommendation, no badge to earn"
    )
    assert evidence_badge(changed(reports, freeze_depth=None, layers="0-3"), None, "0-3") == "measured"
