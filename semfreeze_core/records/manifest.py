"""The manifest of a run folder: what was read, on what, how, and which files hold it."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from semfreeze_core.records.model import ModelIdentity, ModelShape, ParameterNames
from semfreeze_core.records.provenance import Document, Provenance
from semfreeze_core.records.scores import LayerScore, ScoreName
from semfreeze_core.records.task_checks import TaskChecks

SCHEMA_VERSION = 2

# The name of a file in the run's own folder: no path leads out of it.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]


class ModelEntry(Document):
    """The model read."""

    identity: ModelIdentity
    shape: ModelShape
    names: ParameterNames
    dtype: str
    device: str
    logits_error: float
    real_vocab_rows: int
    padded_vocab_rows: int
    new_tokens_used: int


class DataEntry(Document):
    """The examples read.

    `mapping` holds the field names actually used; `tokens_digest` is the sha256 of ids and masks.
    `checks` are the free checks of the examples, the first of them taken as training examples and the others as eval
    examples; null in runs from before they were made.
    """

    source: str
    file_digest: str | None
    split: str | None
    mapping: dict[str, str | None]
    n_rows: int
    n_usable: int
    n_examples: int
    n_labels: int | None
    n_tokens: int
    n_supervised_tokens: int
    n_positions_read: int
    n_truncated: int
    n_too_long: int
    max_length: int
    tokens_digest: str
    checks: TaskChecks | None = None


class AnalysisSettings(Document):
    """What the user chose."""

    examples: int
    positions: int
    add_eos: bool
    metrics: list[str]
    seed: int
    max_length: int | None
    display_positions: int


class ExtractionEntry(Document):
    """What the reading took.

    Seconds are wall time of the forward passes with all deviations and the label null on; the task null's extra passes
    are `task_null_seconds`. `peak_bytes` is the CUDA allocator's peak on a GPU, else the process's resident peak.
    """

    seconds: float
    tokens: int
    tokens_per_second: float
    task_null_seconds: float
    task_null_tokens: int
    peak_bytes: int
    peak_kind: Literal["cuda allocator", "process resident"]
    batch_halvings: int


class ScoreEntry(Document):
    """The words of one layer score; its numbers are in the arrays. `replicates` counts its bootstrap replicates."""

    name: ScoreName
    sample: str
    reason: str
    replicates: int

    @classmethod
    def of(cls, score: LayerScore) -> "ScoreEntry":
        replicates = 0 if score.replicates is None else len(score.replicates)
        return cls(name=score.name, sample=score.sample, reason=score.reason, replicates=replicates)


class RunManifest(Document):
    """Everything about a run except its arrays; `files` holds the sha256 of each.

    `model_path` and `data_path` are the paths from the run's folder to them, where all may be moved together; null in
    runs from before they were written, and once the run is read, as its model and data are then those that are there.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["semfreeze run"] = "semfreeze run"
    model: ModelEntry
    data: DataEntry
    settings: AnalysisSettings
    extraction: ExtractionEntry
    task_null_reason: str
    scores: list[ScoreEntry]
    notes: list[str]
    warnings: list[str]
    display_note: str
    provenance: Provenance
    files: dict[FileName, str]
    model_path: str | None = None
    data_path: str | None = None
