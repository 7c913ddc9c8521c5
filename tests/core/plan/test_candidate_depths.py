"""Depths to try for real: spread over the layers, every rule's and score's pick, or those that were said."""

import pytest

from semfreeze_core.errors import InputError
from semfreeze_core.plan.candidate_depths import (
    Candidate,
    auto_depths,
    candidates_of,
    depth_arms,
    parse_depths,
    proposal,
)
from semfreeze_core.plan.opinions import gather_opinions
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.store import example_run


def test_auto_depths_hold_every_pick_and_spread_to_the_cap():
    assert auto_depths(30, [Candidate(19, True), Candidate(5, False), Candidate(None, False)]) == [
        0,
        5,
        7,
        15,
        19,
        20,
        22,
    ]


def test_depths_are_read_in_order_and_full_finetuning_is_always_an_arm():
    assert parse_depths("22, 0,7,", 30) == (0, 7, 22)
    assert depth_arms((22, 7)) == ("full", "depth:7", "depth:22")


@pytest.mark.parametrize(
    ("pick", "aim", "expected"),
    [
        (17, "compute", (20, "sweeps")),
        (22, "compute", (20, "sweeps")),
        (13, "compute", (20, "sweeps")),
        (12, "compute", (12, "reading")),  # more than a quarter of the layers from two thirds
        (17, "steps", (17, "reading")),
        (17, "cheapest", (17, "reading")),
        (None, "compute", (None, None)),
    ],
)
def test_two_thirds_is_proposed_at_equal_compute_where_the_reading_says_about_the_same(pick, aim, expected):
    assert proposal(30, pick, aim) == expected


@pytest.mark.parametrize("depths", ["", "0", "1,1", "-1,2", "30"])
def test_depths_out_of_range_or_twice_are_refused(depths):
    with pytest.raises(InputError, match=r"expected different depths in 0\.\.29"):
        parse_depths(depths, 30)


@pytest.mark.parametrize("depths", ["a", "1,b", "1.5", "1;2"])
def test_depths_that_are_no_numbers_are_refused(depths):
    with pytest.raises(InputError, match="expected comma-separated whole numbers, or auto"):
        parse_depths(depths, 30)


def test_picks_are_those_of_every_rule_and_score():
    candidates = candidates_of(gather_opinions(read_run(example_run()), metric="semantic"))
    assert {"coverage", "paper", "compute", "turning", "half", "block_influence", "depth_prior"} <= set(candidates)
    assert candidates["half"] == Candidate(15, True)
