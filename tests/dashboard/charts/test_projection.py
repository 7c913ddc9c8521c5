"""The projection's frames are the sample's own coordinates, and everything selected or drawn is told apart."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from semfreeze_dashboard.charts.projection import MOST_LABELS, draw_projection
from semfreeze_dashboard.charts.token_strip import visible_token
from semfreeze_dashboard.data.projections import pca_points, umap_points
from semfreeze_dashboard.text.page_text import pca_caption

EVERY_THIRD = np.arange(0, 600, 3)


def points_of(example, dimensions):
    """200 positions, so that the row of one in the points is not its index in the sample."""
    whole = pca_points(example.run.display, dimensions)
    return replace(whole, positions=EVERY_THIRD, coordinates=whole.coordinates[:, EVERY_THIRD])


def draw(example, coloring="label", dimensions=2, paths=(), selected=(), space=5, labels=None, points=None):
    run = example.run
    labels = run.examples["label"] if labels is None else labels
    points = points_of(example, dimensions) if points is None else points
    return draw_projection(run.display, points, labels, coloring, "semantic", paths, selected, space)


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("coloring", ["label", "outcome", "deviation"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_draw_projection_has_a_frame_for_every_space_with_its_coordinates(example, coloring, dimensions):
    figure = draw(example, coloring, dimensions, paths=[3], selected=[6, 12])
    coordinates = example.run.display.coordinates
    assert [frame.name for frame in figure.frames] == [str(s) for s in range(len(coordinates))]
    shown = [trace for trace in figure.data if trace.customdata is not None]
    assert sorted(p for trace in shown for (p,) in trace.customdata) == EVERY_THIRD.tolist()
    for s in (0, 30):
        frame = figure.frames[s]
        assert list(frame.traces) == list(range(len(shown)))
        for trace, moved in zip(shown, frame.data, strict=True):
            positions = [p for (p,) in trace.customdata]
            np.testing.assert_allclose(moved.x, coordinates[s, positions, 0].astype(np.float32))
            np.testing.assert_allclose(moved.y, coordinates[s, positions, 1].astype(np.float32))


def test_draw_projection_opens_at_the_space_asked_for(example):
    figure = draw(example, space=17)
    first = figure.data[0]
    positions = [p for (p,) in first.customdata]
    np.testing.assert_allclose(first.x, example.run.display.coordinates[17, positions, 0].astype(np.float32))
    assert figure.layout.sliders[0].active == 17


def test_draw_projection_colors_by_what_the_model_says(example):
    right, wrong = draw(example, "outcome").data[:2]
    for trace, expected in ((right, True), (wrong, False)):
        assert set(example.run.display.right[[p for (p,) in trace.customdata]]) == {expected}


@pytest.mark.parametrize(
    ("dimensions", "symbol", "symbol_name"), [(2, "star", "Stars"), (3, "diamond-open", "Open diamonds")]
)
def test_draw_projection_draws_bases_as_its_caption_calls_them(example, dimensions, symbol, symbol_name):
    figure = draw(example, dimensions=dimensions)
    (bases,) = [trace for trace in figure.data if trace.name == "direction of a target token"]
    assert bases.marker.symbol == symbol
    assert f" {symbol_name}: directions of " in pca_caption(example.run.display, 200, 5, flat=dimensions == 2)


def test_draw_projection_makes_what_is_not_selected_faint(example):
    selected = [6, 9, 300]
    traces = [trace for trace in draw(example, selected=selected).data if trace.customdata is not None]
    bright = [p for trace in traces if trace.marker.opacity > 0.5 for (p,) in trace.customdata]
    assert sorted(bright) == selected
    assert not any(trace.showlegend for trace in traces if trace.marker.opacity < 0.5)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_draw_projection_gives_no_two_labels_the_same_look(example, dimensions):
    labels = pd.Series([f"label {i % 10}" for i in range(len(example.run.examples))])
    traces = [t for t in draw(example, labels=labels, dimensions=dimensions).data if t.customdata is not None]
    looks = {(trace.marker.color, trace.marker.symbol) for trace in traces}
    assert len(looks) == len(traces) == 10


def test_draw_projection_puts_rare_labels_together(example):
    labels = example.run.examples["row"].astype(str)
    names = [trace.name for trace in draw(example, labels=labels).data if trace.customdata is not None]
    assert len(names) == MOST_LABELS + 1
    assert names[-1].endswith("other labels")


@pytest.mark.parametrize("dimensions", [2, 3])
def test_draw_projection_draws_the_way_of_a_position(example, dimensions):
    way = next(trace for trace in draw(example, dimensions=dimensions, paths=[33]).data if trace.mode == "lines")
    coordinates = example.run.display.coordinates[:, 33].astype(np.float32)
    np.testing.assert_allclose(np.stack([way.x, way.y], axis=1), coordinates[:, :2])


def test_draw_projection_of_a_umap_is_flat_and_says_that_axes_have_no_unit(example, laid_out):
    figure = draw(example, points=umap_points(laid_out), paths=[0])
    assert [axis.title.text for axis in (figure.layout.xaxis, figure.layout.yaxis)] == [
        "UMAP 1, no unit",
        "UMAP 2, no unit",
    ]
    (stars,) = [trace for trace in figure.data if trace.name == "direction of a target token"]
    np.testing.assert_array_equal(stars.x, laid_out.basis_coordinates[:, 0])
    for trace in (trace for trace in figure.frames[30].data if len(trace.x)):
        assert np.isin(trace.x, laid_out.coordinates[30, :, 0]).all()


def test_draw_projection_colors_a_label_alike_in_every_cloud(example, laid_out):
    def colors(figure):
        return {trace.name: (trace.marker.color, trace.marker.symbol) for trace in figure.data if trace.customdata}

    assert colors(draw(example, points=umap_points(laid_out))) == colors(draw(example))


def test_token_words_show_white_space_and_hide_markup():
    assert visible_token(" a\n") == "␣a⏎"
    assert visible_token("<b>\u202e") == r"<b>\u202e"
    assert visible_token("") == "(empty)"
