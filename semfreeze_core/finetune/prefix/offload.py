"""Taking the frozen prefix's weights off the device while nothing computes with them, and bringing them back."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from semfreeze_core.errors import RunError
from semfreeze_core.finetune.prefix.forward import movable_parameters
from semfreeze_core.finetune.quantize.weights import Place, point_to_codes, quantized_modules, scale_place
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.storage import disk_errors


@dataclass(frozen=True)
class OffloadedTo:
    """Where weights went.

    Attributes:
        where: "cpu" (the machine's memory), "file" (a memory-mapped file) or "stayed".
        bytes: how much went there, 0 when they stayed.
    """

    where: Literal["cpu", "file", "stayed"]
    bytes: int


class PrefixWeights:
    """The parameters that only a prefix uses, and quantized ones' scales; tied and shared ones are not among them."""

    def __init__(self, decoder: Decoder, k: int) -> None:
        self._quantized = [m for layer in decoder.layers[:k] for _, m in quantized_modules(layer)]
        self._places = [Place(parameter, "data") for parameter in movable_parameters(decoder, k)]
        self._places += [scale_place(module) for module in self._quantized]
        self._device = decoder.device
        self._gone = OffloadedTo("stayed", 0)

    @property
    def away(self) -> bool:
        """Whether they lie where the device cannot compute with them."""
        return self._gone.where == "cpu"

    def offload(self, folder: Path | None) -> OffloadedTo:
        """Move them, once; see Suffix.offload."""
        if self._gone.where != "stayed":
            return self._gone
        size = sum(place.tensor.nbytes for place in self._places)
        if self._device.type != "cpu":
            for place in self._places:
                place.put(place.tensor.to("cpu"))
            point_to_codes(self._quantized)
            self._gone = OffloadedTo("cpu", size)
        elif folder is not None:
            self._map(folder)
            self._gone = OffloadedTo("file", size)
        return self._gone

    def onload(self) -> None:
        """Bring them back to where they were."""
        if self._gone.where == "stayed":
            return
        for place in self._places:
            # off a mapped file as well: a clone lies in memory of its own
            place.put(place.tensor.to(self._device, copy=True))
        point_to_codes(self._quantized)
        self._gone = OffloadedTo("stayed", 0)

    def _map(self, folder: Path) -> None:
        """Let the parameters lie in a file that loses its name once mapped: nobody can change it or has to clear it."""
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".prefix-weights-") as file:
                try:
                    save_file({str(i): p.tensor.contiguous() for i, p in enumerate(self._places)}, file.name)
                except SafetensorError as error:
                    if "(os error 28)" in str(error):
                        raise  # said by disk_errors
                    raise RunError(f"The prefix's weights cannot be written to {folder}: {error}") from error
                with safe_open(file.name, framework="pt") as mapped:
                    for i, place in enumerate(self._places):
                        place.put(mapped.get_tensor(str(i)))
        point_to_codes(self._quantized)
