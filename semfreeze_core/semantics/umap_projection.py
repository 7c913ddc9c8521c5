"""UMAP of a display sample: needs no model, as it starts from the coordinates that the sample already holds."""

import io
import math
import time
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from semfreeze_core.errors import InputError
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import LARGEST_SEED
from semfreeze_core.records.display import DisplaySample, spread
from semfreeze_core.records.umap_projection import UmapProjection

DEFAULT_NEIGHBORS = 15
LEAST_NEIGHBORS, MOST_NEIGHBORS = 2, 200
MOST_POINTS = 10_000
COMPONENTS = 50
# UMAP's own defaults, which its class would fill in.
_EPOCHS, _RATE, _REPULSION, _NEGATIVES, _SPREAD = 500, 1.0, 1.0, 5, 1.0
# Its default of 0.1 piles a token's many states up in one spot; on the example run this one also kept more of each
# point's 15 nearest (80 % against 78 %).
_MIN_DISTANCE = 0.5


def umap_positions(display: DisplaySample) -> npt.NDArray[np.int64]:
    """The positions of a display sample that are laid out: as many as make 10,000 points, spread evenly over it.

    Every position is a point at each of the S spaces, so at most 10,000 // S positions go in.
    """
    spaces, n, _ = display.coordinates.shape
    return spread(n, max(1, MOST_POINTS // spaces))


def umap_points(display: DisplaySample) -> int:
    """How many points a UMAP of a display sample lays out: its positions at every space, and every basis."""
    return len(umap_positions(display)) * len(display.coordinates) + len(display.basis_ids)


def expected_seconds(n_points: int, n_neighbors: int) -> float:
    """Wall seconds that so many points take, importing and compiling included.

    6 + n / 1,000 (k / 15)^0.3, drawn through what 10,088 points took with 15 to 200 neighbors on two cores of a server
    (14 to 26 s; one core is used). Other machines differ, and the first time after an installation takes 15 s longer.
    """
    return 6 + n_points / 1000 * math.pow(n_neighbors / 15, 0.3)


def require_umap(display: DisplaySample, *, seed: int, n_neighbors: int) -> None:
    """Refuse what a UMAP of a display sample cannot be asked.

    Raises:
        InputError: one message for all that is wrong with seed and neighbors.
    """
    problems, points = [], umap_points(display)
    if not LEAST_NEIGHBORS <= n_neighbors <= MOST_NEIGHBORS:
        problems.append(f"--neighbors must be in {LEAST_NEIGHBORS}..{MOST_NEIGHBORS}, found {n_neighbors}")
    elif n_neighbors >= points:
        problems.append(f"--neighbors must be less than the {points} points there are, found {n_neighbors}")
    if not 0 <= seed <= LARGEST_SEED:
        problems.append(f"--seed must be in 0..{LARGEST_SEED}, found {seed}")
    if problems:
        raise InputError("; ".join(problems) + ".")


def project_umap(
    display: DisplaySample, *, seed: int = 0, n_neighbors: int = DEFAULT_NEIGHBORS, progress: Progress = silent
) -> UmapProjection:
    """One flat layout of a display sample's spaces and bases together, by UMAP.

    Distances are Euclidean in the first 50 principal components of unit-length states. Nearest neighbors are exact,
    which at this size is faster than UMAP's own search and leaves nothing to chance. The layout begins at the first two
    components, so that far-apart groups start where the principal components have them. On one machine equal arguments
    give equal coordinates, whatever the number of threads; another processor may round otherwise and end elsewhere.

    Args:
        display: the sample.
        seed: of the layout, 0..2^32 - 1.
        n_neighbors: nearest points that each is held together with, itself counted; 2..200. More show larger patterns
            at the cost of small ones, and take longer.
        progress: receives what is being done.

    Raises:
        InputError: seed or neighbors out of range.

    Source: McInnes, Healy & Melville 2018, https://arxiv.org/abs/1802.03426; starting at principal components is from
    Kobak & Linderman 2021, https://doi.org/10.1038/s41587-020-00809-z.
    """
    require_umap(display, seed=seed, n_neighbors=n_neighbors)
    began = time.perf_counter()
    positions = umap_positions(display)
    spaces, _, components = display.coordinates.shape
    used = min(COMPONENTS, components)
    moving = display.coordinates[:, positions, :used].reshape(-1, used)
    points = np.concatenate([moving, display.basis_coordinates[:, :used]]).astype(np.float32)
    layout = _layout(points, seed, n_neighbors, progress)
    return UmapProjection(
        coordinates=layout[: len(moving)].reshape(spaces, len(positions), 2),
        positions=positions,
        basis_coordinates=layout[len(moving) :],
        seed=seed,
        n_neighbors=n_neighbors,
        n_components=used,
        seconds=time.perf_counter() - began,
    )


def _layout(
    points: npt.NDArray[np.float32], seed: int, n_neighbors: int, progress: Progress
) -> npt.NDArray[np.float32]:
    """UMAP of points (N, c) on a plane, float32 (N, 2)."""
    progress(ProgressEvent("Loading UMAP"))
    umap = _umap()
    from sklearn.neighbors import NearestNeighbors

    progress(ProgressEvent(f"Finding the {n_neighbors} nearest of {len(points):,} points"))
    search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(points)
    distances, nearest = search.kneighbors(points)
    rng = np.random.RandomState(seed)
    graph, _, _ = umap.fuzzy_simplicial_set(
        points, n_neighbors, rng, "euclidean", knn_indices=nearest, knn_dists=distances
    )
    seconds = expected_seconds(len(points), n_neighbors)
    stage = f"Laying out {len(points):,} points, usually about {seconds:.0f} s in all"
    progress(ProgressEvent(stage, 0, _EPOCHS, "epochs"))
    a, b = umap.find_ab_params(_SPREAD, _MIN_DISTANCE)
    layout, _ = umap.simplicial_set_embedding(
        points,
        graph,
        n_components=2,
        initial_alpha=_RATE,
        a=a,
        b=b,
        gamma=_REPULSION,
        negative_sample_rate=_NEGATIVES,
        n_epochs=_EPOCHS,
        init="pca",
        random_state=rng,
        metric="euclidean",
        metric_kwds={},
        densmap=False,
        densmap_kwds={},
        output_dens=False,
        tqdm_kwds={"disable": False, "bar_format": "{n}", "mininterval": 0.2, "file": _Epochs(stage, progress)},
    )
    progress(ProgressEvent(stage, _EPOCHS, _EPOCHS, "epochs"))
    return np.asarray(layout, dtype=np.float32)


class _Epochs(io.TextIOBase):
    """What UMAP draws its progress bar on, the one place where it says how far it is; here the bar is its number."""

    def __init__(self, stage: str, progress: Progress) -> None:
        self.stage, self.progress = stage, progress

    def write(self, text: str) -> int:
        if (number := text.strip()).isdigit():
            self.progress(ProgressEvent(self.stage, int(number), _EPOCHS, "epochs"))
        return len(text)


def _umap() -> Any:
    """The library's functions. Seconds to import, and it warns of a part of its own that needs another library."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        try:
            from umap import umap_
        except ModuleNotFoundError as error:
            raise InputError("This needs umap-learn: pip install 'semfreeze[dashboard]'.") from error
    return umap_
