"""Races on losses made by hand: who is within the margin, who wins, and when nobody can tell."""

import numpy as np
import pytest

from semfreeze_core.gains.race import RaceLosses, choose_balanced, choose_lowest, standing

ITEMS = 64
BEFORE = np.full(ITEMS, 4.0) + np.linspace(-1, 1, ITEMS)
WAVE = np.tile([1.0, -1.0], ITEMS // 2)
EVEN = np.full(ITEMS, 5.0)
FLOP = {"full": 300, "depth:7": 240, "depth:20": 130}


def after(gain, noise=0.0):
    """Item losses that fell by `gain` on the average."""
    return BEFORE - gain + noise * WAVE


def race(tokens=EVEN, **gains):
    names = {"full": "full", "quarter": "depth:7", "deep": "depth:20"}
    losses = {names[n]: value if isinstance(value, np.ndarray) else after(value) for n, value in gains.items()}
    return RaceLosses(BEFORE, tokens, losses, FLOP)


@pytest.mark.parametrize(("gain", "expected"), [(0.96, "within"), (0.94, "outside")])
def test_a_variant_is_within_the_margin_or_not(gain, expected):
    losses = race(full=1.0, deep=gain)
    assert standing(losses, "depth:20", np.ones(ITEMS), margin=0.05) == expected
    assert standing(losses, "full", np.ones(ITEMS)) == "within"


def test_the_interval_is_the_one_sided_bootstrap_percentile():
    # The mean of 64 draws of 0.02 +- s: its 10th percentile is 0.02 - 1.2816 s / 8, which is 0 at s = 0.125.
    inside, beyond = (race(full=1.0, deep=BEFORE - 0.97 + s * WAVE) for s in (0.1, 0.15))
    assert standing(inside, "depth:20", np.ones(ITEMS)) == "within"
    assert standing(beyond, "depth:20", np.ones(ITEMS)) == "cannot tell"


@pytest.mark.parametrize(
    ("gains", "winner", "decided"),
    [
        ({"full": 1.0, "quarter": 1.0, "deep": 0.99}, "depth:20", True),
        ({"full": 1.0, "quarter": 0.97, "deep": 0.6}, "depth:7", True),
        ({"full": 1.0, "quarter": 0.8, "deep": 0.6}, "full", True),
        ({"full": 1.0, "quarter": 1.0, "deep": after(0.95, 0.5)}, "depth:7", False),  # cannot tell of deep
        ({"full": 1.0, "quarter": 0.5, "deep": after(0.95, 0.5)}, "full", False),  # and the safe one is outside
        ({"full": 1.0, "deep": after(0.95, 0.5)}, "full", False),  # the safe one has no result
        ({"full": -0.1, "quarter": 0.2, "deep": 0.1}, "depth:7", True),  # full did not learn
    ],
)
def test_the_cheapest_within_the_margin_wins_and_the_safe_one_where_nobody_can_tell(gains, winner, decided):
    choice = choose_balanced(race(**gains), "depth:7")
    assert (choice.variant, choice.decided) == (winner, decided)
    assert set(choice.standings) == {
        {"full": "full", "quarter": "depth:7", "deep": "depth:20"}[n]
        for n, gain in gains.items()
        if isinstance(gain, np.ndarray) or gain > 0
    }


def test_weightings_that_disagree_cannot_tell():
    tokens = np.where(np.arange(ITEMS) < 8, 100.0, 1.0)
    few = np.where(np.arange(ITEMS) < 8, 0.5, 1.1)  # loses on the long completions alone
    losses = race(tokens, full=1.0, quarter=1.0, deep=BEFORE - few)
    choice = choose_balanced(losses, "depth:7")
    assert choice.standings["depth:20"] == ("within", "outside")
    assert (choice.variant, choice.decided) == ("depth:7", False)


def test_a_variant_whose_loss_fell_in_one_weighting_only_is_not_ranked():
    tokens = np.where(np.arange(ITEMS) < 8, 100.0, 1.0)
    worse_where_it_is_long = np.where(np.arange(ITEMS) < 8, -1.0, 1.0)
    losses = race(tokens, full=0.5, deep=BEFORE - worse_where_it_is_long)
    assert losses.learned() == ["full"]


def test_the_lowest_loss_wins_among_those_allowed():
    losses = race(full=1.0, quarter=1.1, deep=0.9)
    assert choose_lowest(losses, ["full", "depth:7", "depth:20"]).variant == "depth:7"
    assert choose_lowest(losses, ["full", "depth:20"]).variant == "full"
    tokens = np.where(np.arange(ITEMS) < 8, 100.0, 1.0)
    few = np.where(np.arange(ITEMS) < 8, 0.5, 1.3)
    choice = choose_lowest(race(tokens, full=1.0, deep=BEFORE - few), ["full", "depth:20"])
    assert (choice.variant, choice.decided) == ("depth:20", False)
