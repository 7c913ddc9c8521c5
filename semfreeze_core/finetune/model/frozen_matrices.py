"""Frozen matrices in bfloat16 beneath trained float32 weights: what autocast would make of them in every pass.

Only matrices whose every value bfloat16 holds are kept so, as those of a checkpoint stored in it do: then nothing is
rounded, and `release` gives back each bit.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from semfreeze_core.device import autocast
from semfreeze_core.finetune.prefix.forward import evaluating
from semfreeze_core.progress import Progress, ProgressEvent
from semfreeze_core.records.model import ModelShape
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.sources.models.probe import probe_ids
from semfreeze_core.wording.numbers import byte_size

STAGE = "Freezing"


class FrozenMatrices:
    """The frozen matrices of a model's layers, which autocast multiplies in bfloat16.

    Attributes:
        in_bfloat16: those that are held so.
    """

    def __init__(self, decoder: Decoder, shape: ModelShape) -> None:
        """Find those on the device; nothing changes yet.

        Args:
            decoder: the model, frozen, with its adapters.
            shape: of the model without adapters.
        """
        self._decoder = decoder
        self._frozen = [
            weight
            for layer, sizes in zip(decoder.layers, shape.layers, strict=True)
            for matrix in sizes.matrices
            if matrix.copies == 1
            for weight in _weights(layer.get_submodule(matrix.name))
            if weight.dtype == torch.float32 and not weight.requires_grad and not weight.is_meta
        ]
        self.in_bfloat16: list[nn.Parameter] = []

    def hold(self, progress: Progress) -> None:
        """Hold them in bfloat16 where that changes no value, and no bit of what the model computes under autocast."""
        fitting = [weight for weight in self._frozen if _fits(weight)]
        if not self._frozen:
            return
        if not fitting:
            message = "Frozen layers stay in float32: bfloat16 does not hold their values."
            progress(ProgressEvent(STAGE, message=message))
            return
        before = self._outputs()
        for weight in fitting:
            weight.data = weight.data.bfloat16()
        self.in_bfloat16 = fitting
        after = self._outputs()
        if before is None or after is None or not torch.equal(before, after):
            self.release()
            message = "Frozen layers stay in float32: this model computes with them outside of autocast."
        else:
            size = sum(weight.nbytes for weight in fitting)
            message = (
                f"The matrices of frozen layers are held in bfloat16, which holds all their values: "
                f"{byte_size(size)} instead of {byte_size(2 * size)}."
            )
        progress(ProgressEvent(STAGE, message=message))

    def release(self) -> None:
        """Make them float32 again, bit for bit; without effect when they are."""
        for weight in self.in_bfloat16:
            weight.data = weight.data.float()
        self.in_bfloat16 = []

    @torch.no_grad()
    def _outputs(self) -> Tensor | None:
        """What the last norm returns for a few tokens under autocast; None where the model fails."""
        decoder = self._decoder
        with evaluating(decoder.model), autocast("bf16-autocast", decoder.device):
            try:
                out: Any = decoder.base(input_ids=probe_ids(decoder.model).to(decoder.device), use_cache=False)
            except RuntimeError:  # of two dtypes that meet
                return None
        states: Tensor = out[0]
        return states


def _weights(module: Any) -> Iterator[nn.Parameter]:
    """A matrix, also where an adapter wraps its module."""
    module = getattr(module, "base_layer", module)
    yield from (p for p in module.parameters(recurse=False) if p.ndim == 2)


def _fits(weight: Tensor) -> bool:
    return torch.equal(weight.data.bfloat16().float(), weight.data)
