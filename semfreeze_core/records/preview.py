"""What a look at data and model shows before anything is read."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from semfreeze_core.records.examples import SkippedRow


@dataclass(frozen=True)
class RenderedPiece:
    """A stretch of an example's text as the model gets it, special tokens written out.

    Attributes:
        text: decoded from the tokens.
        supervised: whether its tokens are to be predicted.
        n_tokens: how many.
    """

    text: str
    supervised: bool
    n_tokens: int


@dataclass(frozen=True)
class RenderedExample:
    """One example, tokenized and written out again.

    Attributes:
        row: 0-based row of the source.
        label: its class, where there are any.
        pieces: in reading order, context and supervised text by turns.
        truncated: context tokens cut from the left.
    """

    row: int
    label: str | None
    pieces: tuple[RenderedPiece, ...]
    truncated: int


@dataclass(frozen=True)
class DataPreview:
    """How data would be read.

    Attributes:
        mapping: every field by what it is read as, guesses included.
        n_rows: rows of the source.
        n_usable: rows with something supervised.
        notes: guessed fields, rows left out, what the tokenizer does.
        examples: a few, drawn as an analysis draws them.
        n_skipped: rows that cannot be read.
        skipped: the first of them, each with its reason.
    """

    mapping: Mapping[str, str | None]
    n_rows: int
    n_usable: int
    notes: tuple[str, ...]
    examples: tuple[RenderedExample, ...]
    n_skipped: int = 0
    skipped: tuple[SkippedRow, ...] = ()

    def skipped_lines(self) -> str:
        """The skipped rows as JSON lines: row, file, line and reason."""
        return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in self.skipped)


@dataclass(frozen=True)
class LayerPlacement:
    """Where an analysis keeps the layers of a model for which its device has no room.

    Attributes:
        on_device: number of layers on the device, the last ones.
        in_memory: number of layers in the machine's memory, before those.
        on_disk: number of layers on disk, the first ones.
        disk_bytes: of those.
    """

    on_device: int
    in_memory: int
    on_disk: int
    disk_bytes: int


@dataclass(frozen=True)
class PrefixPlacement:
    """Where a training keeps the frozen layers for which a prefix cache stands in, on a device without room for all.

    Attributes:
        depth: number of these layers, the first ones.
        n_layers: of the model.
        embedding: whether the token embedding is kept with them.
        memory_bytes: of what is kept in the machine's memory.
        disk_bytes: of what is on disk.
        device_bytes: that the device needs while the boundary states are computed.
    """

    depth: int
    n_layers: int
    embedding: bool
    memory_bytes: int
    disk_bytes: int
    device_bytes: int


@dataclass(frozen=True)
class TrainingForecast:
    """Memory that training a plan takes of a device, before it is begun; an estimate.

    Attributes:
        depth: layers that the plan freezes.
        precision: that it trains in.
        device: where.
        whole_bytes: while the model is loaded and boundary states are computed, with all of it on the device.
        steps_bytes: of the steps, as the plan was estimated; None where that is not known.
        free_bytes: free on the device.
        prefix: of the frozen layers, where the whole model has no room; None also where none would help.
        whole_reason: why the whole model has to be there, or "".
    """

    depth: int
    precision: str
    device: str
    whole_bytes: int
    steps_bytes: int | None
    free_bytes: int
    prefix: PrefixPlacement | None
    whole_reason: str

    @property
    def loading_bytes(self) -> int:
        """What the device needs before the steps."""
        return self.whole_bytes if self.prefix is None else self.prefix.device_bytes

    @property
    def peak_bytes(self) -> int | None:
        """The most it needs at any time; None where that is not known."""
        return None if self.steps_bytes is None else max(self.loading_bytes, self.steps_bytes)


@dataclass(frozen=True)
class ReadingForecast:
    """How an analysis passes its examples through layers that are kept off the device; an estimate.

    Attributes:
        n_batches: of all examples, each as long as the mean of those shown.
        states_in: where the hidden states between two layers are kept while all batches pass through one layer and then
            through the next; None where every batch brings all layers in.
        states_bytes: of those states.
    """

    n_batches: int
    states_in: Literal["memory", "file"] | None
    states_bytes: int


@dataclass(frozen=True)
class MemoryForecast:
    """Memory that a reading needs, before it is begun.

    Attributes:
        parameters: of the model.
        dtype: that it would be loaded in first.
        device: where.
        model_bytes: the weights and a tenth on top for one forward pass.
        states_bytes: the display sample's states and their projection, an upper bound.
        process_bytes: what the process takes before it loads a model; 0 on a GPU, whose memory is counted apart.
        free_bytes: free on the device.
        placement: of the layers, where the device has no room for all of them; None also where none would help.
        reading: of the examples through those layers; None without a placement, and where the examples are unknown.
    """

    parameters: int
    dtype: str
    device: str
    model_bytes: int
    states_bytes: int
    process_bytes: int
    free_bytes: int
    placement: LayerPlacement | None = None
    reading: ReadingForecast | None = None

    @property
    def needed_bytes(self) -> int:
        return self.model_bytes + self.states_bytes + self.process_bytes

    @property
    def fits(self) -> bool:
        """Whether the analysis can run, with all layers on the device or with some kept elsewhere."""
        return self.needed_bytes <= self.free_bytes or self.placement is not None
