"""UMAPs of runs, kept in the cache: a run folder is never added to by looking at it.

Each has a folder of its own below `umap` in the cache, named by what it was made from and how.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from semfreeze_core.errors import RunError
from semfreeze_core.records.manifest import RunManifest
from semfreeze_core.records.umap_projection import UmapProjection
from semfreeze_core.storage import cache_folder, digest, write_atomically

# Of how layouts are made: raised when the same seed gives another, so that old ones are not taken for it.
_ALGORITHM_VERSION = 1
_ARRAYS = ("coordinates", "positions", "basis_coordinates")


def umap_file(manifest: RunManifest, *, seed: int, n_neighbors: int) -> Path:
    """Where the UMAP of a run's display sample is kept, whether or not it is there.

    Args:
        manifest: of the run; one analysed anew with other numbers has another place.
        seed: of the layout.
        n_neighbors: of the layout.
    """
    made_of = {
        "display": manifest.files["display.safetensors"],
        "seed": seed,
        "n_neighbors": n_neighbors,
        "version": _ALGORITHM_VERSION,
    }
    return cache_folder() / "umap" / digest(made_of)[:32] / "projection.safetensors"


def write_umap(projection: UmapProjection, file: Path) -> None:
    """Keep a UMAP, whole or not at all.

    Raises:
        RunError: the cache cannot be written.
        ResourceError: the disk is full.
    """
    arrays = {name: np.ascontiguousarray(getattr(projection, name)) for name in _ARRAYS}
    words = {
        "seed": str(projection.seed),
        "n_neighbors": str(projection.n_neighbors),
        "n_components": str(projection.n_components),
        "seconds": repr(projection.seconds),
        "sha256": _sha256(arrays),
    }
    write_atomically(file, save(arrays, metadata=words))


def read_umap(file: Path) -> UmapProjection | None:
    """A kept UMAP; None when there is none.

    Raises:
        RunError: it is damaged, or cannot be read.
    """
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="np") as opened:
            words: dict[str, str] = opened.metadata() or {}
            arrays = {name: opened.get_tensor(name) for name in _ARRAYS}
        if _sha256(arrays) != words["sha256"]:
            raise ValueError("its numbers are not what was written")
        return UmapProjection(
            **arrays,
            seed=int(words["seed"]),
            n_neighbors=int(words["n_neighbors"]),
            n_components=int(words["n_components"]),
            seconds=float(words["seconds"]),
        )
    except (KeyError, ValueError, OSError, SafetensorError) as error:
        raise RunError(f"The UMAP kept in {file} is damaged ({error}). Compute it again.") from error


def _sha256(arrays: dict[str, npt.NDArray[Any]]) -> str:
    return hashlib.sha256(save(arrays)).hexdigest()
