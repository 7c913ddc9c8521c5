"""Which learning rate a search tries next, and which it chooses."""

import pytest

from semfreeze_core.gains.rates import (
    at_edge,
    best_trial,
    compared_steps,
    compared_steps_on_batches,
    is_behind,
    is_unstable,
    later_half,
    lost_steps,
    next_rate,
    starting_rate,
    too_high_rate,
)
from semfreeze_core.records.defaults import RATE_GRID, RATE_STEPS, RATE_TRIALS
from semfreeze_core.records.rates import RateSearch, RateTrial


def trial(rate, loss, end="read"):
    losses = None if loss is None else [loss - 0.1, loss + 0.1]
    return RateTrial(
        rate=rate, end=end, steps=4, half_losses=losses, losses=losses, train_losses=[2.0] * 4, flop=1, seconds=1.0
    )


def search(losses, start, before=2.0, **how):
    """The rates that are tried, in order, where each gives the loss of its place in the grid (NaN: none)."""
    trials = []
    while (rate := next_rate(trials, start, before, **how)) is not None:
        loss = losses[RATE_GRID.index(rate)]
        trials.append(trial(rate, loss, "read" if loss is not None else "diverged"))
    return trials


#        1e-6 3e-6 1e-5 3e-5 1e-4 3e-4 1e-3 3e-3
BOWL = [1.9, 1.8, 1.6, 1.4, 1.2, 1.3, 1.7, None]


@pytest.mark.parametrize(
    ("start", "tried"),
    [
        (1e-4, [1e-4, 3e-4, 3e-5]),
        (3e-5, [3e-5, 1e-4, 3e-4]),
        (3e-4, [3e-4, 1e-3, 1e-4, 3e-5]),
        (1e-3, [1e-3, 3e-3, 3e-4, 1e-4, 3e-5]),
        (1e-5, [1e-5, 3e-5, 1e-4, 3e-4]),
    ],
)
def test_a_search_climbs_down_to_the_best_rate_and_tries_both_its_neighbors(start, tried):
    trials = search(BOWL, start)
    assert [t.rate for t in trials] == tried
    best = best_trial(trials, 2.0)
    assert best is not None
    assert best.rate == 1e-4
    assert not at_edge(trials, 1e-4)


@pytest.mark.parametrize(
    ("start", "too_high", "tried"),
    [
        (1e-4, 3e-4, [1e-4, 3e-5]),
        (1e-4, None, [1e-4, 3e-5, 3e-4]),
        (3e-4, 1e-3, [3e-4, 1e-4, 3e-5]),
        (3e-5, 3e-4, [3e-5, 1e-5, 1e-4]),
    ],
)
def test_a_search_that_begins_at_a_deeper_variants_rate_tries_lower_ones_first(start, too_high, tried):
    trials = search(BOWL, start, before=None, lower_first=True, too_high=too_high)
    assert [t.rate for t in trials] == tried
    assert best_trial(trials, None).rate == 1e-4
    assert not at_edge(trials, 1e-4, too_high)


def test_a_bound_that_is_not_next_to_the_chosen_rate_is_an_edge_only_below():
    trials = search([2.2, 2.1, 1.9, 1.8, 1.7, 1.6, 1.5, 1.4], 3e-4, before=None, lower_first=True, too_high=1e-3)
    assert [t.rate for t in trials] == [3e-4, 1e-4]
    assert not at_edge(trials, 3e-4, 1e-3)
    assert at_edge(trials, 3e-4), "without the bound a higher rate might be better"


def test_a_rate_is_too_high_where_it_was_stopped_and_not_where_it_was_only_worse():
    def searched(*ends, bound=None):
        rates = zip((1e-4, 3e-4, 1e-3, 3e-5), ends, strict=False)
        trials = [trial(rate, 1.0 if rate == 1e-4 else 1.1 if end == "read" else None, end) for rate, end in rates]
        return RateSearch(
            rate=1e-4, start=1e-4, steps=4, n_items=2, loss_before=None, trials=trials, spent_flop=0, spent_seconds=0.0,
            too_high=bound,
        )  # fmt: skip

    assert too_high_rate(searched("read", "behind")) == 3e-4
    assert too_high_rate(searched("read", "read", "diverged")) == 1e-3
    assert too_high_rate(searched("read", "read")) is None
    assert too_high_rate(searched("read", "read", "read", "behind")) is None, "a lower one is not too high"
    assert too_high_rate(searched("read", "read", bound=1e-3)) == 1e-3
    assert too_high_rate(searched("read").model_copy(update={"rate": None})) is None


def test_batches_compare_rates_by_their_later_half_and_few_of_them_stop_none():
    losses = [4.0, 3.0, 2.0, 1.0, 0.5]
    assert later_half(losses) == [2.0, 1.0, 0.5]
    assert later_half(losses[:4]) == [2.0, 1.0]
    # Steps 6 to 10 of two real trainings; 64 eval examples say the same after the tenth.
    best, higher = [1.92, 2.41, 1.73, 1.75, 2.73], [2.02, 2.54, 2.06, 1.94, 2.94]
    assert is_behind(higher, best, on_batches=True)
    assert not is_behind(best, higher, on_batches=True)
    noisy = [2.0, 2.3, 1.8, 1.7, 2.9]
    assert not is_behind(noisy, best, on_batches=True)
    slightly = [loss + apart for loss, apart in zip(best, [0.05, -0.01, 0.02, 0.21, 0.11], strict=True)]
    assert is_behind(slightly, best, on_batches=True)
    assert not is_behind(slightly, best), "at the confidence of eval examples five batches say less"
    assert not is_behind([3.0, 3.1], [1.0, 1.1])
    assert not is_behind([3.0], [1.0])


def test_a_search_ends_after_so_many_trials_and_says_that_the_best_is_at_the_edge():
    falling = [1.9, 1.8, 1.7, 1.6, 1.5, 1.4, 1.3, 1.2]
    trials = search(falling, 1e-5)
    assert len(trials) == RATE_TRIALS
    assert best_trial(trials, 2.0).rate == 1e-3
    assert at_edge(trials, 1e-3)


def test_the_ends_of_the_grid_are_an_edge_too():
    rising = [1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9]
    trials = search(rising, 1e-5)
    assert [t.rate for t in trials] == [1e-5, 3e-5, 3e-6, 1e-6]
    assert at_edge(trials, 1e-6)


def test_while_no_rate_lowers_the_loss_the_next_lower_one_is_tried():
    too_high = [1.9, 2.1, 2.2, 2.4, None, None, None, None]
    trials = search(too_high, 1e-4)
    assert [t.rate for t in trials] == [1e-4, 3e-5, 1e-5, 3e-6, 1e-6]
    assert best_trial(trials, 2.0).rate == 1e-6
    nothing = search([2.5] * 8, 1e-5)
    assert [t.rate for t in nothing] == [1e-5, 3e-6, 1e-6]
    assert best_trial(nothing, 2.0) is None


def test_a_trial_that_stopped_behind_is_not_chosen():
    trials = [trial(1e-4, 1.5), trial(3e-4, None, "behind")]
    assert best_trial(trials, 2.0).rate == 1e-4
    assert next_rate(trials, 1e-4, 2.0) == 3e-5


def test_a_rate_is_behind_where_the_paired_losses_say_so():
    best = [1.0, 2.0, 3.0, 4.0]
    assert is_behind([1.11, 2.1, 3.09, 4.1], best)
    assert not is_behind([1.5, 1.8, 3.4, 3.7], best)
    assert not is_behind(best, best)
    assert not is_behind([0.9, 1.9, 2.91, 3.9], best)


def test_a_training_loss_that_rises_over_the_trial_is_unstable():
    assert is_unstable([2.0, 1.5, 1.8, 2.1])
    assert not is_unstable([2.0, 2.5, 1.8, 1.9])
    assert not is_unstable([2.0, 3.0])


def test_the_first_rate_falls_with_the_models_width():
    assert starting_rate(576, "full") == starting_rate(576, "frozen") == 1e-4
    assert starting_rate(576, "lora") == 3e-4
    assert starting_rate(4096, "full") == 1e-5
    assert starting_rate(10**9, "full") == RATE_GRID[0]


def test_how_long_rates_are_compared_and_what_that_loses():
    assert compared_steps(1000) == compared_steps(60) == RATE_STEPS
    assert compared_steps(12) == 4
    assert compared_steps(6) == 2
    assert compared_steps(5) is None


@pytest.mark.parametrize(
    ("steps", "batch_size", "n_examples", "compared"),
    [
        (1000, 8, 480, RATE_STEPS),
        (1000, 8, 80, 10),  # in the first pass
        (1000, 1, 480, None),  # ten examples say too little
        (1000, 32, 40, None),  # one step of the first pass
        (1000, 16, 40, 2),
        (5, 8, 480, None),
    ],
)
def test_on_batches_rates_are_compared_where_no_batch_was_trained_on(steps, batch_size, n_examples, compared):
    assert compared_steps_on_batches(steps, batch_size, n_examples) == compared
    assert lost_steps(20) == (20, 80)
    assert lost_steps(3) == (2, 12)
