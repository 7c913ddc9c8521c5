"""What moves along with the projection says at each hidden state what the run itself says there."""

from html import unescape

import numpy as np
import pytest

from semfreeze_core.plan import curve_of
from semfreeze_dashboard.charts.layer_by_layer import (
    add_layer_bars,
    followed_position,
    followed_token,
    place_among_layers,
    place_on_coverage,
)
from semfreeze_dashboard.charts.projection import draw_projection
from semfreeze_dashboard.charts.theme import FROZEN, TRAINED
from semfreeze_dashboard.charts.token_strip import settled_space, visible_token
from semfreeze_dashboard.data.projections import pca_points

DEPTH, SPACE = 19, 5


@pytest.fixture(scope="module")
def curve(example):
    return curve_of(example.run, "semantic")


@pytest.fixture(scope="module")
def followed(example):
    return followed_position(example.run.display, np.arange(1000))


@pytest.fixture(scope="module")
def figure(example, curve, followed):
    display, points = example.run.display, pca_points(example.run.display, 2)
    companions = [place_among_layers(curve, SPACE), place_on_coverage(curve, SPACE)]
    companions.append(followed_token(display, points, followed, SPACE))
    labels = example.run.examples["label"]
    drawn = draw_projection(display, points, labels, "label", "semantic", (), (), SPACE, companions)
    add_layer_bars(drawn, curve, DEPTH)
    return drawn


def test_bars_are_the_gains_in_the_colors_of_the_depth(figure, curve):
    (bars,) = [trace for trace in figure.data if trace.type == "bar"]
    np.testing.assert_array_equal(bars.y, curve.gain.mean[np.isfinite(curve.gain.mean)])
    for x, color in zip(bars.x, bars.marker.color, strict=True):
        assert color == (FROZEN if x < DEPTH else TRAINED)
    assert figure.layout.yaxis.domain[0] > figure.layout.yaxis2.domain[1], "the states stand above the bars"
    assert figure.layout.yaxis2.domain[0] > figure.layout.yaxis3.domain[1], "and those above the coverage"
    assert figure.layout.xaxis2.range == figure.layout.xaxis3.range, "layer over layer"


def test_every_frame_moves_the_line_and_the_followed_token_to_its_space(figure, example, curve, followed):
    display, points = example.run.display, pca_points(example.run.display, 2)
    coordinates = points.trajectories(np.array([followed]))[:, 0]
    for space, frame in enumerate(figure.frames):
        line, point, ring = frame.data[-3:]
        assert list(line.x) == [space, space]
        assert (list(point.x), list(point.y)) == ([space], [curve.coverage.mean[space]])
        assert point.text == (f"<b>{curve.coverage.mean[space]:.2f}</b>",)
        np.testing.assert_allclose([ring.x[0], ring.y[0]], coordinates[space])
        guess = visible_token(display.token_text[int(display.read_top[followed, space, 0])])
        right = display.read_top[followed, space, 0] == display.label_ids[followed]
        assert f"<b>{guess}</b>" in unescape(ring.text[0])
        assert ring.text[0].endswith("✓") == right
    shown = [figure.data[number] for number in figure.frames[0].traces[-3:]]
    assert list(shown[0].x) == [SPACE, SPACE]
    assert (shown[1].xaxis, list(shown[1].x)) == ("x3", [SPACE])
    assert shown[2].name.startswith("followed token: ")


def test_the_followed_token_ends_right_and_is_one_of_those_asked_for(example):
    display = example.run.display
    right = [p for p in range(len(display.read_top)) if settled_space(display, p) is not None]
    assert followed_position(display, np.array(right[3:4])) == right[3]
    wrong = np.array([p for p in range(len(display.read_top)) if p not in right])
    assert followed_position(display, wrong) is None
    assert followed_position(display, np.array([len(display.read_top)])) is None, "its guesses were not kept"


def test_bars_stand_below_states_in_three_dimensions_too(example, curve):
    display, points = example.run.display, pca_points(example.run.display, 3)
    labels = example.run.examples["label"]
    drawn = draw_projection(display, points, labels, "label", "semantic", (), (), 0, [place_among_layers(curve, 0)])
    add_layer_bars(drawn, curve, DEPTH)
    assert drawn.layout.scene.domain.y[0] > drawn.layout.yaxis2.domain[1]
