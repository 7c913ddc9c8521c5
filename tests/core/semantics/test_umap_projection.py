"""UMAP of a sample made by hand: the same for the same seed, near to what is near, and never more than it may be."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from semfreeze_core.errors import InputError
from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.display import spread
from semfreeze_core.records.umap_projection import UmapProjection
from semfreeze_core.semantics import umap_projection
from semfreeze_core.semantics.umap_projection import (
    expected_seconds,
    project_umap,
    require_umap,
    umap_points,
    umap_positions,
)
from tests.core.semantics.two_clusters import two_clusters


@pytest.fixture(scope="module")
def display():
    return two_clusters()


@pytest.fixture(scope="module")
def projection(display):
    return project_umap(display)


@pytest.fixture
def uncompiled(monkeypatch):
    """In place of UMAP's functions, which take 15 s to compile, one that draws places; the real ones are `further`."""

    def embed(points, graph, *, random_state, tqdm_kwds, **_):
        assert graph == "graph"
        for epoch in range(1, 501):
            tqdm_kwds["file"].write(f"\r{epoch}")
        return random_state.normal(size=(len(points), 2)), {}

    functions = SimpleNamespace(
        fuzzy_simplicial_set=lambda *_, **__: ("graph", None, None),
        find_ab_params=lambda *_: (1.0, 1.0),
        simplicial_set_embedding=embed,
    )
    monkeypatch.setattr(umap_projection, "_umap", lambda: functions)


def points(projection):
    return np.concatenate([projection.coordinates.reshape(-1, 2), projection.basis_coordinates])


def neighbors(places, k=10):
    search = NearestNeighbors(n_neighbors=k + 1).fit(places)
    return search.kneighbors(places, return_distance=False)[:, 1:]


def test_spread_takes_all_or_the_ends_and_what_lies_evenly_between():
    np.testing.assert_array_equal(spread(5, 9), np.arange(5))
    np.testing.assert_array_equal(spread(5, 5), np.arange(5))
    np.testing.assert_array_equal(spread(9, 3), [0, 4, 8])
    few = spread(1000, 322)
    assert (few[0], few[-1], len(few)) == (0, 999, 322)
    assert set(np.diff(few)) == {3, 4}


@pytest.mark.quick_cases(0)
def test_project_umap_has_a_place_for_every_position_at_every_space_and_every_basis(display, projection):
    assert projection.coordinates.shape == (4, 60, 2)
    assert projection.basis_coordinates.shape == (2, 2)
    assert projection.coordinates.dtype == projection.basis_coordinates.dtype == np.float32
    np.testing.assert_array_equal(projection.positions, np.arange(60))
    assert projection.n_points == umap_points(display) == 4 * 60 + 2
    assert (projection.seed, projection.n_neighbors, projection.n_components) == (0, 15, 6)
    assert projection.seconds > 0


@pytest.mark.quick_cases(0)
def test_project_umap_is_the_same_for_the_same_seed_and_another_for_another(display, projection):
    np.testing.assert_array_equal(points(project_umap(display)), points(projection))
    assert not np.allclose(points(project_umap(display, seed=1)), points(projection), atol=0.1)


@pytest.mark.quick_cases(0)
def test_project_umap_keeps_near_what_is_near(display, projection):
    near = neighbors(np.concatenate([display.coordinates.reshape(-1, 6), display.basis_coordinates]).astype(float))
    laid_out = neighbors(points(projection))
    shared = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(near, laid_out, strict=True)])
    chance = 10 / (projection.n_points - 1)
    assert shared > 8 * chance


@pytest.mark.quick_cases(0)
def test_project_umap_keeps_two_clusters_apart(display, projection):
    side = np.append(np.tile(np.arange(60) % 2, 4), [0, 1])  # the bases are the first two positions' last states
    assert (side[neighbors(points(projection))] == side[:, None]).mean() > 0.99


@pytest.mark.quick_cases(0)
def test_project_umap_puts_a_basis_where_the_state_it_equals_is(projection):
    away = np.linalg.norm(projection.coordinates[-1, :2] - projection.basis_coordinates, axis=1)
    width = np.ptp(points(projection), axis=0).min()
    assert (away < 0.2 * width).all()


@pytest.mark.quick_cases(0)
def test_project_umap_stands_states_that_are_all_alike(display):
    """As space 0 is, where every prompt ends in the same token."""
    coordinates = display.coordinates.copy()
    coordinates[0] = coordinates[0, 0]
    assert np.isfinite(points(project_umap(replace(display, coordinates=coordinates)))).all()


@pytest.mark.usefixtures("uncompiled")
def test_project_umap_takes_no_more_than_the_cap_spread_over_the_sample(display, monkeypatch):
    monkeypatch.setattr(umap_projection, "MOST_POINTS", 103)
    projection = project_umap(display, n_neighbors=5)
    assert projection.coordinates.shape == (4, 103 // 4, 2)
    assert (projection.positions[0], projection.positions[-1]) == (0, 59)
    assert set(np.diff(projection.positions)) == {2, 3}
    assert umap_points(display) == projection.n_points == 4 * 25 + 2


def test_umap_positions_are_one_even_where_spaces_alone_exceed_the_cap(display, monkeypatch):
    monkeypatch.setattr(umap_projection, "MOST_POINTS", 3)
    assert len(umap_positions(display)) == 1


@pytest.mark.usefixtures("uncompiled")
def test_project_umap_draws_from_its_seed_alone(display):
    np.testing.assert_array_equal(points(project_umap(display)), points(project_umap(display)))
    assert not np.allclose(points(project_umap(display, seed=1)), points(project_umap(display)), atol=0.1)


@pytest.mark.usefixtures("uncompiled")
def test_project_umap_tells_what_it_is_doing(display):
    heard: list[ProgressEvent] = []
    project_umap(display, progress=heard.append)
    assert list(dict.fromkeys(event.stage for event in heard)) == [
        "Loading UMAP",
        "Finding the 15 nearest of 242 points",
        "Laying out 242 points, usually about 6 s in all",
    ]


@pytest.mark.quick_cases(0)
def test_project_umap_counts_its_epochs(display, capfd):
    heard: list[ProgressEvent] = []
    project_umap(display, progress=heard.append)
    epochs = [event.done for event in heard if event.unit == "epochs"]
    assert epochs[0] == 0
    assert epochs[-1] == 500
    assert epochs == sorted(epochs)
    assert len(epochs) > 3, "the bar moves between its ends"
    assert {event.total for event in heard if event.unit == "epochs"} == {500}
    assert "".join(capfd.readouterr()) == "", "UMAP's own bar is not drawn"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"n_neighbors": 1}, ["neighbors must be in 2..200, found 1"]),
        ({"n_neighbors": 201}, ["neighbors must be in 2..200, found 201"]),
        ({"seed": -1}, ["seed must be in 0..4294967295, found -1"]),
        ({"seed": 2**32, "n_neighbors": 0}, ["neighbors must be in", "seed must be in"]),
    ],
)
def test_project_umap_refuses_bad_values_in_one_message(display, asked, message):
    with pytest.raises(InputError) as refused:
        project_umap(display, **asked)
    assert all(word in str(refused.value) for word in message)


def test_require_umap_refuses_more_neighbors_than_there_are_points():
    small = two_clusters(n=2, spaces=2)  # with two bases, six points
    with pytest.raises(InputError, match="less than the 6 points there are, found 6"):
        require_umap(small, seed=0, n_neighbors=6)
    require_umap(small, seed=0, n_neighbors=5)
    require_umap(small, seed=2**32 - 1, n_neighbors=2)


def test_expected_seconds_are_those_of_the_example_run():
    assert expected_seconds(10_088, 15) == pytest.approx(16.1, abs=0.1)
    assert expected_seconds(10_088, 200) == pytest.approx(28, abs=1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"positions": np.arange(59)}, r"coordinates are \(4, 60, 2\), expected \(S, 59, 2\)"),
        ({"positions": np.arange(60)[::-1]}, "no rising indices"),
        ({"positions": np.arange(60) - 1}, "no rising indices"),
        ({"basis_coordinates": np.zeros((2, 3), dtype=np.float32)}, r"basis_coordinates are \(2, 3\)"),
        ({"basis_coordinates": np.full((2, 2), np.nan, dtype=np.float32)}, "not all finite"),
        ({"coordinates": np.full((4, 60, 2), np.inf, dtype=np.float32)}, "not all finite"),
    ],
)
def test_umap_projection_refuses_what_does_not_fit(changed, message):
    fits = UmapProjection(np.zeros((4, 60, 2), np.float32), np.arange(60), np.zeros((2, 2), np.float32), 0, 15, 50, 1.0)
    with pytest.raises(ValueError, match=message):
        replace(fits, **changed)


def test_umap_projection_is_imported_without_torch_or_umap():
    script = (
        "import sys\n"
        "import semfreeze_core.semantics.umap_projection, semfreeze_core.runs.umaps\n"
        "print(*sorted({'torch', 'transformers', 'umap', 'numba', 'sklearn'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == [], done.stderr
