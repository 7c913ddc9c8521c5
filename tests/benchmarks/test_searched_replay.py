"""Rules replayed on made-up finetunes, whose losses say which of them is right."""

import pytest

from tests.benchmarks.made_up_tasks import task
from tests.benchmarks.searched_replay import best_threshold, by_coverage, race
from tests.benchmarks.searched_report import report


def test_shares_at_the_same_steps_and_flops():
    made_up = task(depth_8=0.25)
    assert made_up.kept_at_steps("depth:8").estimate == pytest.approx(0.5)
    # Full finetuning has lowered losses by 0.2 where it has taken 400 of its 1000 FLOPs.
    assert made_up.kept_at_compute("depth:8").estimate == pytest.approx(0.25 / 0.2)
    assert made_up.regret("depth:8").estimate == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("fractions", "chosen"),
    [
        ({}, "depth:8"),  # all alike: the cheapest
        ({"depth_8": 0.3}, "depth:3"),  # two thirds loses
        ({"depth_8": 0.3, "depth_3": 0.3}, "full"),
    ],
)
def test_the_race_takes_the_cheapest_within_the_margin(fractions, chosen):
    taken = race(task(**fractions))
    # Three searches of 50, and 10 of each loser's best rate; over 600 steps of 125.
    assert (taken.variant, taken.price) == (chosen, pytest.approx(170 / 75_000))


def test_no_race_without_a_rate_that_learned():
    assert race(task(full=-0.1)) is None


def test_the_threshold_lies_between_tasks_where_deep_is_safe_and_where_it_is_not():
    tasks = [task(coverage=0.2, depth_8=0.3), task(coverage=0.4, depth_8=0.3), task(coverage=0.6), task(coverage=0.8)]
    assert best_threshold(tasks) == pytest.approx(0.5)
    assert [by_coverage(one, 0.5).variant for one in tasks] == ["depth:3", "depth:3", "depth:8", "depth:8"]


def test_the_report_names_rules_and_their_regret():
    tasks = [
        task(f"task{i}", coverage=coverage, depth_8=share)
        for i, (coverage, share) in enumerate(((0.1, 0.3), (0.2, 0.3), (0.7, 0.5), (0.8, 0.5)))
    ]
    lines = report(tasks).splitlines()
    assert "| two thirds | 20.0 % | 40.0 % (task0) | 40 % | 4 |" in lines
    assert "| a quarter | 0.0 % | 0.0 % (task0) | 80 % | 4 |" in lines
    assert any("coverage is wrong about 0 of 4 (none)" in line for line in lines)
