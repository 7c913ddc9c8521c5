"""The learning rate that a validation beside a plan has searched."""

from dataclasses import replace

import pytest

from semfreeze_core.plan import make_plan
from semfreeze_core.plan.known_rate import validated_rate
from semfreeze_core.records.training import LoraSetup
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.runs.store import example_run


@pytest.fixture(scope="module")
def run():
    return read_run(example_run())


@pytest.fixture(scope="module")
def reports():
    return list_validations(example_run())


def test_the_newest_validation_of_the_planned_depth_gives_its_searched_rate(run, reports):
    ((name, report),) = reports.items()
    known = validated_rate(reports, make_plan(run))
    assert known.rate == report.arms["planned"].rate_search.rate
    assert known.origin == f"the best that validation {name} tried, in batches of 4 examples"


def test_a_validation_of_another_depth_or_of_other_weights_gives_none(run, reports):
    assert validated_rate(reports, make_plan(run, rule="manual", depth=7)) is None
    adapters = make_plan(run, setup=replace(make_plan(run).cost.setup, lora=LoraSetup(8)))
    assert adapters.freeze_depth == make_plan(run).freeze_depth
    assert validated_rate(reports, adapters) is None


def test_a_rate_that_nobody_searched_is_not_known(run, reports):
    ((name, report),) = reports.items()
    given = report.arms["planned"].model_copy(update={"rate_search": None})
    unsearched = report.model_copy(update={"arms": {**report.arms, "planned": given}})
    assert validated_rate({name: unsearched}, make_plan(run)) is None
