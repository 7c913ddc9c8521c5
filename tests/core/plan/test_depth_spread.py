"""Each example's depth by the paper's rule: hand-computed picks, and what their spread may be called."""

from dataclasses import replace

import numpy as np
import pytest

from semfreeze_core.plan.depth_spread import depth_spread, pick_depths
from semfreeze_core.plan.rules import decide_by_paper
from semfreeze_core.records.trace import TransitionTrace
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.store import example_run
from semfreeze_core.wording.rules import depth_counts_sentence, depth_spread_sentence
from tests.core.plan.curves import make_curve, straight

N_LAYERS = 30


@pytest.fixture(scope="module")
def example():
    return read_run(example_run())


def falling_at(depths):
    """Deviations of examples that fall by a half over the layer before each depth, and by a little over all others."""
    steps = np.full((len(depths), N_LAYERS), 0.01)
    steps[np.arange(len(depths)), np.asarray(depths) - 1] = 0.5
    return np.hstack([np.ones((len(depths), 1)), 1 - np.cumsum(steps, axis=1)]).astype(np.float32)


@pytest.fixture
def picking(example):
    """The picks of examples that pick these depths, at their first target token and at their later ones as well."""

    def make(depths, first=None, later=None):
        mean, first = falling_at(depths), falling_at(depths if first is None else first)
        later = np.full_like(mean, np.nan) if later is None else falling_at(later)
        trace = TransitionTrace("semantic", mean, mean, first, first, later, later)
        return depth_spread(replace(example, traces={"semantic": trace}), "semantic")

    return make


def test_pick_depths_equals_a_hand_computed_case():
    # Eight layers, cap 6: falls of layers 0 to 7 by example.
    falls = np.array(
        [
            [0.4, 0.1, 0.0, 0.3, 0.0, 0.0, 0.9, 0.9],  # layer 0; layer 3 where 0 is not searched
            [0.0, 0.1, 0.5, 0.3, 0.5, 0.0, 0.0, 0.0],  # the first of two equal ones
            [-0.3, -0.2, -0.9, -0.5, -0.4, -0.1, 0.0, 0.0],  # all raise it: the one that does least
        ]
    )
    deviation = np.hstack([np.full((3, 1), 2.0), 2.0 - np.cumsum(falls, axis=1)])
    assert pick_depths(np.round(deviation * 8).astype(np.float32), 0).tolist() == [1, 3, 6]
    assert pick_depths(deviation.astype(np.float32), 1).tolist() == [4, 3, 6]


def test_pick_depths_of_one_example_is_the_rules_depth_for_it(example):
    trace = example.traces["semantic"]
    for row in (0, 100, 255):
        falls = -np.diff(trace.deviation[row].astype(np.float64))
        (pick,) = pick_depths(trace.deviation[[row]], 1)
        assert pick == decide_by_paper(make_curve(straight(N_LAYERS), falls, start=1)).candidate_depth


def test_picks_within_a_quarter_of_the_layers_are_one_depth(picking):
    spread = picking([18] * 30 + [20] * 60 + [22] * 8 + [2] * 2)
    assert (spread.low, spread.high, spread.share, spread.verdict) == (18, 22, 0.98, "one depth fits")
    assert spread.counts.sum() == 100
    assert spread.counts[[2, 18, 20, 22]].tolist() == [2, 30, 60, 8]
    assert (
        depth_spread_sentence(spread) == "One depth fits: by the paper rule, 98% of 100 examples pick depths 18 to 22."
    )
    assert depth_counts_sentence(spread) == "Examples per depth: 2: 2, 18: 30, 20: 60, 22: 8."


def test_picks_that_different_tokens_of_an_example_repeat_are_differences(picking):
    depths = [4, 8, 12, 16, 20] * 20
    spread = picking(depths, first=depths, later=[d + 1 for d in depths])
    assert spread.verdict == "examples differ"
    assert spread.repeatability.estimate == pytest.approx(1)
    assert depth_spread_sentence(spread) == (
        "Examples differ: by the paper rule, 100% of 100 examples pick depths 4 to 20. Over 100 examples, the picks at "
        "the first target token and at the later ones agree: rank correlation 1.00 (95% CI 1.00–1.00)."
    )


def test_picks_that_no_example_repeats_may_be_noise(picking):
    depths = np.array([4, 8, 12, 16, 20] * 20)
    spread = picking(depths, first=depths, later=np.repeat([4, 8, 12, 16, 20], 20))
    assert spread.repeatability.estimate == pytest.approx(0)
    assert spread.repeatability.low < 0 < spread.repeatability.high
    assert spread.verdict == "unclear"
    assert "may be noise" in depth_spread_sentence(spread)
    assert "at the later ones do not agree significantly: rank correlation 0.00 (95% CI -0." in depth_spread_sentence(
        spread
    )


@pytest.mark.parametrize(
    ("later", "why"),
    [
        (None, "0 of at least 16 examples have more than one target token."),
        ([9] * 100, "all first target tokens, or all later ones, pick the same depth."),
    ],
)
def test_picks_whose_noise_is_not_known_say_so(picking, later, why):
    spread = picking([4, 8, 12, 16, 20] * 20, later=later)
    assert spread.verdict == "unclear"
    assert np.isnan(spread.repeatability.estimate)
    assert depth_spread_sentence(spread).endswith(why)


def test_picks_need_a_layer_to_search(example):
    two_layers = replace(example.shape, layer_index=example.shape.layer_index[:2])  # tied, with a cap of 1
    model = example.manifest.model.model_copy(update={"shape": two_layers})
    run = replace(example, manifest=example.manifest.model_copy(update={"model": model}))
    assert depth_spread(run, "semantic") is None
    assert (
        depth_spread_sentence(None) == "Depths per example: the paper rule has no layer left to search in this model."
    )
