"""Figures of curves hold the record's own numbers, and the two colors mean frozen and trained."""

from dataclasses import replace

import numpy as np
import pytest

from semfreeze_core.plan.depth_spread import DepthSpread
from semfreeze_core.records.gain import Band
from semfreeze_core.records.interval import Interval
from semfreeze_core.records.scores import SCORE_NAMES
from semfreeze_dashboard.charts import curves
from semfreeze_dashboard.charts.curves import (
    draw_coverage,
    draw_depth_counts,
    draw_deviation,
    draw_gains,
    draw_law,
    draw_task_null,
)
from semfreeze_dashboard.charts.theme import AXIS_TITLE, FROZEN, GRAY, TRAINED
from tests.core.plan.curves import last_layer_alone, make_curve, straight


def lines(figure):
    """Named traces, the shading of intervals left out."""
    return {trace.name: trace for trace in figure.data if trace.name}


def tints(figure):
    return [(shape.x0, shape.x1) for shape in figure.layout.shapes if shape.type == "rect"]


def certain(values):
    return Band(np.asarray(values), np.asarray(values) - 0.1, np.asarray(values) + 0.1)


def without_interval(values):
    return Band(np.asarray(values), np.full(len(values), np.nan), np.full(len(values), np.nan))


def test_draw_deviation_shows_deviation_baseline_and_advantage():
    curve = make_curve(straight(4))
    drawn = lines(draw_deviation(curve, 2))
    by_name = {name.split(" ")[0]: trace.y for name, trace in drawn.items()}
    np.testing.assert_array_equal(by_name["its"], curve.isotonic)
    np.testing.assert_array_equal(by_name["deviation"], curve.deviation.mean)
    np.testing.assert_array_equal(by_name["random-label"], curve.null.mean)
    np.testing.assert_array_equal(by_name["advantage"], curve.advantage.mean)


def test_draw_deviation_shades_the_interval_around_each_line():
    curve = make_curve(straight(4))
    shades = [trace for trace in draw_deviation(curve, 2).data if trace.fill == "toself"]
    assert len(shades) == 3
    np.testing.assert_array_equal(shades[1].y, [*curve.deviation.high, *curve.deviation.low[::-1]])


@pytest.mark.parametrize(("depth", "expected"), [(None, []), (0, [(0, 4)]), (1, [(0, 1), (1, 4)]), (4, [(0, 4)])])
def test_draw_coverage_and_draw_deviation_tint_what_is_frozen_and_what_is_trained(depth, expected):
    assert tints(draw_coverage(make_curve(straight(4)), {}, depth)) == expected
    assert tints(draw_deviation(make_curve(straight(4)), depth)) == [t for t in expected for _ in range(2)], "two rows"


def test_axis_titles_of_both_rows_are_of_one_size():
    curve = make_curve(straight(4))
    figure = draw_deviation(curve, 2)
    titles = [axis.title for axis in figure.select_yaxes()] + [figure.layout.xaxis2.title]
    assert {title.font.size for title in titles} == {AXIS_TITLE}
    assert all(title.text for title in titles)


def test_draw_law_marks_the_turning_depth_and_its_interval():
    late, later = ([*np.ones(k), *np.linspace(1, 0, 21 - k)] for k in (12, 14))
    curve = make_curve(late, replicates=[late] * 50 + [later] * 50)
    turning = curve.law.turning_depth
    assert turning.low < turning.high
    shapes = draw_law(curve, None).layout.shapes
    assert [(s.x0, s.x1) for s in shapes] == [(turning.low, turning.high), (turning.estimate, turning.estimate)]
    drawn = lines(draw_law(curve, None))
    np.testing.assert_array_equal(drawn["scaling law"].y, curve.law.fitted)
    np.testing.assert_array_equal(drawn["advantage"].y, curve.advantage.mean)


def test_gains_and_coverage_of_the_law_are_drawn_where_one_fits():
    fits, none = make_curve(last_layer_alone(20)), make_curve(straight(4))
    assert none.law.reason
    by_law = lines(draw_coverage(fits, {}, 2))["by the scaling law"]
    np.testing.assert_array_equal(by_law.y, fits.law.coverage.mean)
    gain = {trace.name: trace.y for trace in draw_gains(fits, 2).data}["contribution by the scaling law"]
    np.testing.assert_array_equal(gain, fits.law.gain)
    for figure in (draw_coverage(none, {}, 2), draw_gains(none, 2)):
        assert not [trace.name for trace in figure.data if "scaling law" in (trace.name or "")]


def test_draw_task_null_shows_own_and_swapped_completions():
    drawn = lines(draw_task_null(certain([0.9, 0.5]), certain([0.9, 0.8]), "semantic", None))
    assert {name: list(trace.y) for name, trace in drawn.items()} == {
        "own completions": [0.9, 0.5],
        "swapped completions": [0.9, 0.8],
    }
    assert drawn["swapped completions"].line.color == GRAY


def test_draw_gains_colors_frozen_and_trained_layers_and_greys_the_unmeasured():
    curve = make_curve(straight(4))
    unmeasured = curve.gain.mean.copy()
    unmeasured[0] = np.nan
    curve = replace(curve, gain=Band(unmeasured, unmeasured - 0.1, unmeasured + 0.1))
    drawn = lines(draw_gains(curve, 2))
    frozen, trained = drawn["contribution, layer frozen"], drawn["contribution, layer trained"]
    assert (list(frozen.x), frozen.marker.color) == ([1], FROZEN)
    assert (list(trained.x), trained.marker.color) == ([2, 3], TRAINED)
    assert (list(drawn["not measured"].x), drawn["not measured"].marker.color) == ([0], GRAY)
    np.testing.assert_allclose(trained.error_y.array, 0.1)


def test_draw_gains_without_a_depth_shows_all_layers_trained():
    drawn = lines(draw_gains(make_curve(straight(4)), None))
    assert "contribution, layer frozen" not in drawn
    assert list(drawn["contribution, layer trained"].x) == [0, 1, 2, 3]


def test_draw_coverage_gives_every_score_a_look_of_its_own(monkeypatch):
    names = (*SCORE_NAMES, "one more", "and another")
    monkeypatch.setattr(curves, "SCORE_NAMES", names)
    curve = make_curve(last_layer_alone(20))
    drawn = lines(draw_coverage(curve, dict.fromkeys(names, curve.coverage), 2))
    looks = {(line.line.color, line.line.dash) for line in drawn.values()}
    assert len(looks) == len(drawn) == len(names) + 2, "the coverage and the law's too"


def test_draw_coverage_shows_every_measured_score():
    curve = make_curve(straight(4))
    scores = {
        "depth_prior": without_interval(straight(4)),
        "block_influence": certain([1.0, 0.9, 0.4, 0.2, 0.0]),
        "variability": without_interval(np.full(5, np.nan)),
    }
    figure = draw_coverage(curve, scores, 2)
    drawn = lines(figure)
    assert set(drawn) == {"depth prior (L - k)/L", "block influence", "coverage (semantic)"}
    np.testing.assert_array_equal(drawn["block influence"].y, [1.0, 0.9, 0.4, 0.2, 0.0])
    assert len([t for t in figure.data if t.fill == "toself"]) == 2, "a score without an interval has none drawn"


def test_draw_picks_has_a_bar_for_every_depth():
    spread = DepthSpread("semantic", 4, np.array([2, 1, 2, 3, 2]), 1, 3, Interval(0.5, 0.4, 0.6), 5)
    figure = draw_depth_counts(spread, 2)
    (bars,) = figure.data
    assert (bars.x.tolist(), bars.y.tolist()) == ([0, 1, 2, 3, 4], [0, 1, 3, 1, 0])
    assert tints(figure) == [(0, 2), (2, 4)]
