"""Numbers read the same everywhere: units, digits, and intervals in cells and in sentences."""

import math

import pytest

from semfreeze_core.records.gain import Interval
from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.wording import numbers

UNKNOWN = Interval(math.nan, math.nan, math.nan)


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [(None, "unknown"), (2**29, "0.50 GiB"), (int(5.81 * 2**30), "5.8 GiB"), (128 * 2**30, "128 GiB")],
)
def test_gib_has_two_to_three_digits(n_bytes, shown):
    assert numbers.gib(n_bytes) == shown


def test_gib_of_a_limit_has_the_decimals_asked_for():
    assert numbers.gib(int(5.76 * 2**30), 2) == "5.76 GiB"


@pytest.mark.parametrize(("n_bytes", "shown"), [(0, "0.0 MiB"), (3 * 2**20, "3.0 MiB"), (2**30, "1.0 GiB")])
def test_byte_size_turns_to_gib_at_one(n_bytes, shown):
    assert numbers.byte_size(n_bytes) == shown


@pytest.mark.parametrize(
    ("count", "of", "shown"),
    [
        (586.78e12, None, "587 TFLOPs"),
        (2.224e12, None, "2.22 TFLOPs"),
        (12.34e15, None, "12.3 PFLOPs"),
        (30e9, 2e12, "0.03 TFLOPs"),
        (1.5e3, None, "0.00 MFLOPs"),
        (4e18, None, "4.00 EFLOPs"),
    ],
)
def test_flops_share_the_unit_of_the_largest(count, of, shown):
    assert numbers.flops(count, of) == shown


def test_flops_per_second_is_a_rate():
    assert numbers.flops_per_second(133.81e9) == "134 GFLOP/s"


@pytest.mark.parametrize(
    ("fraction", "shown"), [(0.5943, "59%"), (1.0, "100%"), (-0.0004, "0%"), (None, "unknown"), (math.nan, "unknown")]
)
def test_percent_has_no_space_and_no_minus_before_zero(fraction, shown):
    assert numbers.percent(fraction) == shown


@pytest.mark.parametrize(("fraction", "shown"), [(0.15, "15%"), (0.125, "12.5%"), (1.0, "100%")])
def test_percent_as_given_has_no_digits_that_are_zero(fraction, shown):
    assert numbers.percent_as_given(fraction) == shown


def test_an_interval_in_a_cell_and_in_a_sentence():
    coverage = Interval(0.951, 0.943, 0.954)
    assert numbers.interval(coverage, 2) == "0.95 [0.94, 0.95]"
    assert numbers.interval_with_ci(coverage, 2) == "0.95 (95% CI 0.94–0.95)"
    assert numbers.percent_interval(coverage) == "95% [94, 95]"
    assert numbers.percent_with_ci(coverage) == "95% (95% CI 94–95%)"
    assert numbers.percent_with_ci(coverage, more="required: 95%") == "95% (95% CI 94–95%; required: 95%)"


def test_a_range_with_a_minus_is_written_out():
    assert numbers.interval_with_ci(Interval(-0.1, -0.2, 0.05), 2) == "-0.10 (95% CI -0.20 to 0.05)"


def test_an_estimate_without_an_interval_stands_alone():
    alone = Interval(0.71, math.nan, math.nan)
    assert numbers.interval(alone, 2) == numbers.interval_with_ci(alone, 2) == "0.71"
    assert numbers.percent_interval(IntervalEntry(estimate=0.5, low=None, high=None)) == "50%"


def test_what_was_not_measured_says_so():
    assert numbers.interval(UNKNOWN) == numbers.interval_with_ci(UNKNOWN) == "not measured"
    assert numbers.percent_interval(UNKNOWN) == numbers.number(None) == numbers.nats(math.nan) == "—"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "unknown"), (0.5, "0.5 s"), (23.8, "24 s"), (90, "1.5 min"), (9000, "2.5 h"), (172800, "2.0 d")],
)
def test_duration_suits_its_unit(seconds, shown):
    assert numbers.duration(seconds) == shown


def test_counts_take_their_noun():
    assert [numbers.counted(n, "seed") for n in (1, 3, 1200)] == ["1 seed", "3 seeds", "1,200 seeds"]
    assert numbers.layer_range(19, 30) == "layers 19–29"
    assert numbers.layer_range(29, 30) == "layer 29"
    assert numbers.parameter_count(41_216) == "41,216 parameters"
    assert numbers.parameter_count(134_515_008) == "135 million parameters"
    assert numbers.parameter_count(7_241_732_096) == "7.24 billion parameters"


def test_a_time_at_two_rates_is_a_range():
    assert numbers.duration_at(7200e12, (1e12,)) == "2.0 h"
    assert numbers.duration_at(7200e12, (1e12, 2e12)) == "1.0 h to 2.0 h"
    assert numbers.duration_at(7200e12, (1e12, 1e12)) == "2.0 h"
    assert numbers.duration_at(7200e12, ()) == numbers.UNKNOWN
    assert numbers.rate_range((93.6e12, 171.6e12)) == "93.6 TFLOP/s to 172 TFLOP/s"
    assert numbers.rate_range((5e9,)) == "5.00 GFLOP/s"
