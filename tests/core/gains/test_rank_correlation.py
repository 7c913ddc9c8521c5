"""The rank correlation is scipy's, and its interval that of the examples drawn."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from semfreeze_core.gains.bootstrap import resampling_weights
from semfreeze_core.gains.rank_correlation import rank_correlation

WEIGHTS = resampling_weights(60, 0)


def test_rank_correlation_is_scipys_with_ties():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 60), rng.integers(0, 6, 60)
    b = a + b
    interval = rank_correlation(a, b, WEIGHTS)
    assert interval.estimate == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert 0 < interval.low < interval.estimate < interval.high < 1
    assert rank_correlation(a, -b, WEIGHTS).estimate == pytest.approx(-interval.estimate)


def test_rank_correlation_covers_zero_where_nothing_orders():
    rng = np.random.default_rng(1)
    covers = [
        (interval := rank_correlation(rng.normal(size=60), rng.normal(size=60), WEIGHTS)).low < 0 < interval.high
        for _ in range(100)
    ]
    assert sum(covers) >= 88  # of 95 expected


def test_rank_correlation_of_a_constant_is_not_known():
    interval = rank_correlation(np.ones(60), np.arange(60), WEIGHTS)
    assert np.isnan([interval.estimate, interval.low, interval.high]).all()
