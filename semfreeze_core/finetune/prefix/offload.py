"""Moving the frozen prefix's weights off the device while nothing computes with them, and back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from semfreeze_core.errors import RunError
from semfreeze_core.finetune.prefix.forward import movable_parameters
from semfreeze_core.finetune.quantize.weights import TensorAttribute, point_to_codes, quantized_modules, scale_location
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.storage import disk_errors, is_disk_full
from semfreeze_core.temporary import remove_leftovers, temporary_folder
from semfreeze_core.unlocked_leftovers import remove_abandoned


@dataclass(frozen=True)
class OffloadedTo:
    """Where weights went.

    Attributes:
        where: "cpu" (the machine's memory), "file" (a memory-mapped file) or "stayed" (on the device).
        bytes: moved there; 0 when they stayed.
    """

    where: Literal["cpu", "file", "stayed"]
    bytes: int


class PrefixWeights:
    """The parameters that only a prefix uses, and quantized ones' scales; tied and shared ones are not among them."""

    def __init__(self, decoder: Decoder, k: int) -> None:
        self._quantized = [m for layer in decoder.layers[:k] for _, m in quantized_modules(layer)]
        self._tensors = [TensorAttribute(parameter, "data") for parameter in movable_parameters(decoder, k)]
        self._tensors += [scale_location(module) for module in self._quantized]
        self._device = decoder.device
        self._offloaded = OffloadedTo("stayed", 0)

    @property
    def away(self) -> bool:
        """Whether they are where the device cannot compute with them."""
        return self._offloaded.where == "cpu"

    def offload(self, folder: Path | None) -> OffloadedTo:
        """Move them, once; see Suffix.offload."""
        if self._offloaded.where != "stayed":
            return self._offloaded
        size = sum(stored.tensor.nbytes for stored in self._tensors)
        if self._device.type != "cpu":
            for stored in self._tensors:
                stored.put(stored.tensor.to("cpu"))
            point_to_codes(self._quantized)
            self._offloaded = OffloadedTo("cpu", size)
        elif folder is not None:
            self._map(folder)
            self._offloaded = OffloadedTo("file", size)
        return self._offloaded

    def onload(self) -> None:
        """Bring them back to where they were."""
        if self._offloaded.where == "stayed":
            return
        for stored in self._tensors:
            # also from a mapped file: the clone is in memory
            stored.put(stored.tensor.to(self._device, copy=True))
        point_to_codes(self._quantized)
        self._offloaded = OffloadedTo("stayed", 0)

    def _map(self, folder: Path) -> None:
        """Map the parameters to a file that is unlinked once mapped: nobody can change it or has to delete it."""
        advice = "Free some space, or set TMPDIR to a folder with more."
        with disk_errors(folder, saved_text=lambda: "The weights are where they were.", advice=advice):
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
            remove_abandoned(folder, "scratch")
            # In a folder that stays locked: safetensors replaces a file, and the new one would not be.
            with temporary_folder(folder) as partial:
                path = partial / "prefix.safetensors"
                try:
                    save_file({str(i): p.tensor.contiguous() for i, p in enumerate(self._tensors)}, path)
                except SafetensorError as error:
                    if is_disk_full(error):
                        raise  # disk_errors reports it
                    raise RunError(f"The prefix's weights cannot be written to {folder}: {error}") from error
                with safe_open(path, framework="pt") as mapped:
                    for i, stored in enumerate(self._tensors):
                        stored.put(mapped.get_tensor(str(i)))
        point_to_codes(self._quantized)
