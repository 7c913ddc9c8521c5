"""What a race is estimated to cost, by the cost model at the bundled model's shape."""

from dataclasses import replace
from pathlib import Path

import pytest

from semfreeze_core.cost import parts_at_depth, run_flop, step_flop
from semfreeze_core.gains.race_price import race_price, race_rows
from semfreeze_core.records.defaults import RACE_ROWS, RACE_STEPS, RATE_TRIALS
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.runs.folder import read_run

EXAMPLE = Path(__file__).parents[3] / "sample_data" / "example_run"
WIDE, DEEP = 7, 20


@pytest.fixture(scope="module")
def shape():
    return read_run(EXAMPLE).shape


def shares(shape, steps, batch_size):
    """Likely and worst price of a race, and what deep freezing saves next to wide, of training every layer."""
    setup = TrainingSetup(
        batch_size=batch_size, steps=steps, sequence_length=128, supervised_fraction=0.3, train_examples=400
    )
    uncached = replace(setup, prefix_cache=False)
    full, wide, deep = (step_flop(shape, uncached, parts_at_depth(shape, k), cached=False) for k in (0, WIDE, DEEP))
    readings = 3 * race_rows(steps, batch_size, 2) * full.forward // batch_size
    price = race_price([deep.total, wide.total], readings)
    saved = run_flop(shape, setup, parts_at_depth(shape, WIDE)) - run_flop(shape, setup, parts_at_depth(shape, DEEP))
    return tuple(flop / (steps * full.total) for flop in (price.likely, price.worst, saved))


@pytest.mark.parametrize(
    ("steps", "batch_size", "likely", "worst"),
    [
        (150, 4, 0.35, 0.96),
        (150, 8, 0.29, 0.91),
        (300, 4, 0.17, 0.48),
        (300, 8, 0.15, 0.45),
        (1000, 4, 0.05, 0.14),
        (1000, 8, 0.05, 0.14),
    ],
)
def test_a_race_of_the_bundled_model_costs_this_share_of_training_every_layer(shape, steps, batch_size, likely, worst):
    assert shares(shape, steps, batch_size)[:2] == pytest.approx((likely, worst), abs=0.006)


def test_a_race_of_300_steps_costs_less_than_it_can_save_and_one_of_100_more(shape):
    for batch_size in (4, 8):
        likely, _, saved = shares(shape, 300, batch_size)
        assert likely < 0.6 * saved
        likely, _, saved = shares(shape, 100, batch_size)
        assert likely > saved


def test_a_race_loses_the_rates_that_lose_the_costlier_variant_and_all_readings():
    price = race_price([3, 5], 7)
    half = RACE_STEPS // 2
    assert price.likely == 2 * half * 3 + half * 5 + RACE_STEPS * 5 + 7
    assert price.worst == (RATE_TRIALS - 1) * RACE_STEPS * 8 + RACE_STEPS * 5 + 7


def test_longer_finetunes_are_raced_on_more_examples():
    least, most = RACE_ROWS
    rows = [race_rows(steps, 4, 2) for steps in (150, 300, 2000, 100_000)]
    assert rows == sorted(rows)
    assert (rows[0], rows[-1]) == (least, most)
    assert least < rows[2] < most
    assert race_rows(2000, 4, 3) < rows[2], "each variant is one more evaluation"
