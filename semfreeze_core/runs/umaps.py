"""UMAPs of runs, in the cache: opening a run adds nothing to its folder.

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

# Of how layouts are made: raised when the same seed gives another layout, so that old ones are not reused.
_ALGORITHM_VERSION = 1
_ARRAYS = ("coordinates", "positions", "basis_coordinates")


def umap_file(manifest: RunManifest, *, seed: int, n_neighbors: int) -> Path:
    """Path of the UMAP of a run's display sample, whether or not it exists.

    Args:
        manifest: of the run; one analyzed again with other numbers has another path.
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
    """Save a UMAP, completely or not at all.

    Raises:
        RunError: the cache cannot be written.
        ResourceError: the disk is full.
    """
    arrays = {name: np.ascontiguousarray(getattr(projection, name)) for name in _ARRAYS}
    metadata = {
        "seed": str(projection.seed),
        "n_neighbors": str(projection.n_neighbors),
        "n_components": str(projection.n_components),
        "seconds": repr(projection.seconds),
        "sha256": _sha256(arrays),
    }
    write_atomically(file, save(arrays, metadata=metadata))


def read_umap(file: Path) -> UmapProjection | None:
    """A cached UMAP; None when there is none.

    Raises:
        RunError: it is damaged, or cannot be read.
    """
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="np") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
            arrays = {name: opened.get_tensor(name) for name in _ARRAYS}
        if _sha256(arrays) != metadata["sha256"]:
            raise ValueError("its numbers have changed since it was written")
        return UmapProjection(
            **arrays,
            seed=int(metadata["seed"]),
            n_neighbors=int(metadata["n_neighbors"]),
            n_components=int(metadata["n_components"]),
            seconds=float(metadata["seconds"]),
        )
    except (KeyError, ValueError, OSError, SafetensorError) as error:
        raise RunError(f"The cached UMAP {file} is damaged ({error}). Compute it again.") from error


def _sha256(arrays: dict[str, npt.NDArray[Any]]) -> str:
    return hashlib.sha256(save(arrays)).hexdigest()
