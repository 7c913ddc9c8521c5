"""The values of a model's weights, looked at before an analysis loads them."""

from collections.abc import Container
from pathlib import Path

import torch
from safetensors import safe_open

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models.files import weight_files

_LARGEST_READ = 2 * 2**30  # bytes of weights read in full before an analysis: a second or two from a disk


def check_values(folder: Path, unused: Container[str]) -> None:
    """Refuse weights that hold NaN or infinity; those of more than 2 GiB are not read, as it takes too long.

    Args:
        folder: with whole safetensors.
        unused: tensors that the model does without, or most of whose rows it does without.

    Raises:
        ModelError: a tensor that the model computes with holds NaN or infinity.
    """
    files = weight_files(folder)
    if sum(path.stat().st_size for path in files) > _LARGEST_READ:
        return
    for path in files:
        with safe_open(path, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                if name not in unused and not torch.isfinite(weights.get_tensor(name)).all():
                    raise ModelError(f"{path}: {name} holds NaN or infinity. The weights are damaged: get them again.")
