"""A checkpoint: what kind of place a model is loaded from, and what loading it may do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from semfreeze_core.sources.models.adapters import Adapter

CheckpointKind = Literal["folder", "hub", "gguf"]


@dataclass(frozen=True)
class Checkpoint:
    """A place a model can be loaded from.

    Attributes:
        source: what the user wrote.
        kind: local folder, hub id, or GGUF file.
        location: folder, hub id, or path of the GGUF file; an adapter's base.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run Python code that comes with the checkpoint.
        allow_pickle: load weights stored as pickle, which can run code while loading.
        adapter: to be merged into the weights found there, if any.
        config_only: its weights are not to be loaded, so they may be packed in any way.
    """

    source: str
    kind: CheckpointKind
    location: str
    revision: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    adapter: Adapter | None = None
    config_only: bool = False

    @property
    def model_name(self) -> str:
        """What holds the model itself, for messages: the source, or the base of the adapter that the source is."""
        return self.source if self.adapter is None else f"{self.location} (the base of {self.source})"

    @property
    def folder_or_id(self) -> str:
        """The folder or hub id that transformers loads from; a GGUF file's own folder."""
        return str(Path(self.location).parent) if self.kind == "gguf" else self.location

    @property
    def arguments(self) -> dict[str, Any]:
        """What every loader of transformers takes besides the folder or id."""
        by_kind = {"gguf_file": Path(self.location).name} if self.kind == "gguf" else {"revision": self.revision}
        return {"trust_remote_code": self.trust_remote_code, **by_kind}
