"""Rules replayed on made-up finetunes, whose losses say which of them is right."""

import pytest

from semfreeze_core.gains.race_price import race_rows
from semfreeze_core.records.defaults import RACE_WINS
from tests.benchmarks.made_up_tasks import cell, task
from tests.benchmarks.searched_cells import read_all
from tests.benchmarks.searched_replay import (
    RUN_STEPS,
    always,
    best_threshold,
    bigram_coverage,
    by_check,
    half,
    race,
    searches,
    two_thirds,
)
from tests.benchmarks.searched_report import report


def test_shares_at_the_same_steps_and_flops():
    made_up = task(depth_8=0.25)
    assert made_up.kept_at_steps("depth:8").estimate == pytest.approx(0.5)
    # Full finetuning has lowered losses by 0.2 where it has taken 400 of its 1000 FLOPs.
    assert made_up.kept_at_compute("depth:8").estimate == pytest.approx(0.25 / 0.2)
    assert made_up.regret("depth:8").estimate == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("fractions", "chosen", "lost"),
    [
        ({}, "depth:6", 400),  # all alike: the cheapest
        ({"depth_6": 0.3}, "depth:3", 300),  # half loses
        ({"depth_6": 0.3, "depth_3": 0.2}, "depth:6", 400),
    ],
)
def test_the_race_takes_the_cheapest_within_the_margin(fractions, chosen, lost):
    taken = race(task(**{"depth_6": 0.5} | fractions))
    # Half searches first: two trials of two steps of 75 are stopped. A quarter does not try again what was too high:
    # one of two steps of 100. Three evaluations of 72 items take 9 forward passes of a batch each, a third of 125.
    assert race_rows(RUN_STEPS, 8, 2) == 72
    searched, readings = 2 * 2 * 75 + 2 * 100, 3 * 9 * 125 / 3
    assert (taken.variant, taken.price) == (chosen, pytest.approx((searched + readings + lost) / 75_000))


def test_a_rule_without_a_race_pays_for_its_own_search():
    assert always(task(), "depth:3").price == pytest.approx(2 * 2 * 100 / 75_000)


def test_a_search_on_batches_begins_where_the_one_before_ended_and_goes_by_their_losses():
    cells = [cell(variant, 0.5) for variant in ("depth:6", "depth:3")]
    search = cells[0].search
    # On the eval items 3e-4 was not read to its end; on the batches it was, and is better.
    better = search.trials[1].model_copy(update={"train_losses": [3.0, 2.0, 1.5, 1.4], "end": "read"})
    cells[0] = cells[0].model_copy(update={"search": search.model_copy(update={"trials": [search.trials[0], better]})})
    made = searches({one.variant: one for one in cells})
    assert [(one.rate, one.start) for one in made.values()] == [(3e-4, 1e-4), (1e-4, 3e-4)]
    assert made["depth:3"].too_high == 1e-3


def test_no_race_without_a_variant_or_where_nothing_was_learned():
    assert race(task()) is None
    assert race(task(depth_6=-0.1, depth_3=-0.1)) is None


def test_the_threshold_lies_between_tasks_where_deep_is_safe_and_where_it_is_not():
    tasks = [task(coverage=0.2, depth_8=0.3), task(coverage=0.4, depth_8=0.3), task(coverage=0.6), task(coverage=0.8)]
    assert best_threshold(tasks, bigram_coverage, two_thirds) == pytest.approx(0.5)
    taken = [by_check(one, bigram_coverage, 0.5, two_thirds).variant for one in tasks]
    assert taken == ["depth:3", "depth:3", "depth:8", "depth:8"]


def test_the_report_names_rules_and_their_regret():
    tasks = [
        task(f"task{i}", coverage=coverage, depth_8=share)
        for i, (coverage, share) in enumerate(((0.1, 0.3), (0.2, 0.3), (0.7, 0.5), (0.8, 0.5)))
    ]
    lines = report(tasks).splitlines()
    assert "| two thirds | 20.0 % | 40.0 % (task0) | 40 % | 4 |" in lines
    assert "| a quarter | 0.0 % | 0.0 % (task0) | 81 % | 4 |" in lines  # 80 and its search
    assert any(
        "pairs covered, two thirds: best on all 0.45" in line and "about 0 of 4 (none)" in line for line in lines
    )


def test_a_race_is_made_where_it_pays_as_often_as_its_deep_variant_won():
    taken = [(task, one) for task in read_all() if (one := race(task)) is not None]
    won = [one.variant == half(task) for task, one in taken]
    assert sum(won) / len(won) == pytest.approx(RACE_WINS, abs=0.05)
