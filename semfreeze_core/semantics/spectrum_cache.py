"""Spectra in the cache, by the fingerprint of the weights they are of: no model's is computed twice.

Each has a folder of its own below `spectrum` in the cache. What is damaged counts as absent and is computed again.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from semfreeze_core.errors import SemfreezeError
from semfreeze_core.records.model import ModelIdentity
from semfreeze_core.records.scores import LayerScore
from semfreeze_core.storage import cache_folder, digest, write_atomically

_MOST = 100  # models; the spectra used last stay
_FILE = "score.json"
# Of how the score is computed: raised when the same weights give other values, so that old ones are not reused.
_ALGORITHM_VERSION = 1


class _CachedSpectrum(BaseModel):
    """A spectrum as it is kept, with what it is of, so that a file in the wrong place is noticed."""

    model_config = ConfigDict(extra="forbid")

    weights_digest: str
    dtype: str
    sample: str
    values: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]]


def read_spectrum(model: ModelIdentity, dtype: str, n_layers: int) -> LayerScore | None:
    """The spectrum of a model's weights from the cache; None where it is absent or damaged.

    Args:
        model: whose weights.
        dtype: they are held in; rounding changes the spectrum a little.
        n_layers: of the model.
    """
    file = _file(model, dtype)
    try:
        if not file.is_file():  # reading a pipe would wait for ever
            return None
        cached = _CachedSpectrum.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        return None
    if (cached.weights_digest, cached.dtype, len(cached.values)) != (model.weights_digest, dtype, n_layers):
        return None
    with suppress(OSError):  # a cache that may only be read forgets nothing
        os.utime(file)
    return LayerScore("spectrum", np.array(cached.values), None, cached.sample)


def write_spectrum(score: LayerScore, model: ModelIdentity, dtype: str) -> None:
    """Put the measured spectrum of a model's weights into the cache; where there is no room, nothing is kept."""
    document = _CachedSpectrum(
        weights_digest=model.weights_digest, dtype=dtype, sample=score.sample, values=score.values.tolist()
    )
    with suppress(SemfreezeError):
        write_atomically(_file(model, dtype), document.model_dump_json() + "\n")
        _forget_old()


def _file(model: ModelIdentity, dtype: str) -> Path:
    made_of = {"weights": model.weights_digest, "dtype": dtype, "version": _ALGORITHM_VERSION}
    return cache_folder() / "spectrum" / digest(made_of)[:32] / _FILE


def _forget_old() -> None:
    """Remove the spectra that were not used for longest, beyond _MOST."""
    used = dict[Path, float]()
    for file in (cache_folder() / "spectrum").glob(f"*/{_FILE}"):
        with suppress(OSError):  # removed by another process
            used[file.parent] = file.stat().st_mtime
    for folder in sorted(used, key=used.__getitem__)[:-_MOST]:
        shutil.rmtree(folder, ignore_errors=True)
