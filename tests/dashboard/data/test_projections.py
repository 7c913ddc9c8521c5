"""Projected points are the projection's own, found by the sample's indices."""

import numpy as np
import pytest

from semfreeze_dashboard.data.projections import pca_points, umap_points


@pytest.mark.parametrize("dimensions", [2, 3])
def test_pca_points_is_the_samples_first_components(example, dimensions):
    display = example.run.display
    points = pca_points(display, dimensions)
    assert points.dimensions == dimensions
    np.testing.assert_array_equal(points.positions, np.arange(1000))
    np.testing.assert_allclose(points.coordinates, display.coordinates[:, :, :dimensions].astype(np.float32))
    np.testing.assert_allclose(points.target_directions, display.basis_coordinates[:, :dimensions].astype(np.float32))
    share = 100 * display.variance_fraction[1]
    assert points.axes[1] == f"component 2, {share:.0f}% of variance"


def test_umap_points_finds_a_position_by_its_index_in_the_sample(laid_out):
    points = umap_points(laid_out)
    rows = [0, 5, 321]
    np.testing.assert_array_equal(points.trajectories(laid_out.positions[rows]), laid_out.coordinates[:, rows])


def test_space_of_finds_where_a_position_is_drawn(example, laid_out):
    for points in (pca_points(example.run.display, 2), umap_points(laid_out)):
        for position in points.positions[[0, 12, -1]]:
            for space in (0, 7, 30):
                x, y = points.trajectories(np.array([position]))[space, 0].astype(float)
                assert points.space_of(int(position), x, y) == space


def test_subset_is_spread_over_the_points_and_in_them(laid_out):
    points = umap_points(laid_out)
    few = points.subset(10)
    assert (few[0], few[-1], len(few)) == (0, 999, 10)
    assert set(few) <= set(laid_out.positions.tolist())
    assert min(np.diff(few)) > 100
    assert points.subset(0) == ()


def test_points_of_other_projections_have_other_keys(example, laid_out):
    display = example.run.display
    assert len({pca_points(display, 2).key, pca_points(display, 3).key, umap_points(laid_out).key}) == 3
