"""Taking the frozen prefix's weights off the device while nothing computes with them, and bringing them back."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from semfreeze_core.errors import RunError
from semfreeze_core.finetune.prefix_pass import movable_parameters
from semfreeze_core.sources.decoder import Decoder
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
    """The parameters that only a prefix uses; tied and otherwise shared ones are not among them."""

    def __init__(self, decoder: Decoder, k: int) -> None:
        self._parameters = movable_parameters(decoder, k)
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
        size = sum(p.nbytes for p in self._parameters)
        if self._device.type != "cpu":
            for parameter in self._parameters:
                parameter.data = parameter.data.to("cpu")
            self._gone = OffloadedTo("cpu", size)
        elif folder is not None:
            self._map(folder)
            self._gone = OffloadedTo("file", size)
        return self._gone

    def onload(self) -> None:
        """Bring them back to where they were."""
        if self._gone.where == "stayed":
            return
        for parameter in self._parameters:
            # off a mapped file as well: a clone lies in memory of its own
            parameter.data = parameter.data.to(self._device, copy=True)
        self._gone = OffloadedTo("stayed", 0)

    def _map(self, folder: Path) -> None:
        """Let the parameters lie in a file that loses its name once mapped: nobody can change it or has to clear it."""
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".prefix-weights-") as file:
                try:
                    save_file({str(i): p.data.contiguous() for i, p in enumerate(self._parameters)}, file.name)
                except SafetensorError as error:
                    if "(os error 28)" in str(error):
                        raise  # said by disk_errors
                    raise RunError(f"The prefix's weights cannot be written to {folder}: {error}") from error
                with safe_open(file.name, framework="pt") as mapped:
                    for i, parameter in enumerate(self._parameters):
                        parameter.data = mapped.get_tensor(str(i))
