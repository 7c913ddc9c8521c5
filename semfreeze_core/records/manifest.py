"""The manifest of a run folder: what was read, on what, how, and which files hold it."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import StringConstraints

from semfreeze_core.records.model import ModelIdentity, ModelShape, ParameterNames
from semfreeze_core.records.provenance import Document, Measured, Provenance
from semfreeze_core.records.scores import SCORE_NAMES, SLOW_SCORES, LayerScore, ScoreName
from semfreeze_core.records.task_checks import TaskChecks

SCHEMA_VERSION = 2

# What is added to a run after a plan can be made of it.
PartName = Literal["projection"] | ScoreName
PROJECTION: Final = "projection"

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
    """One layer score: what it was measured on, or why it was not.

    `replicates` counts its bootstrap replicates. `values` are those of a slow score, which is added when the run is
    written already: here, so that no other file changes. Those of every other score, and of the slow ones in runs from
    before they were added later, are in the arrays; here they are null.
    """

    name: ScoreName
    sample: str
    reason: str
    replicates: int
    values: list[Measured] | None = None

    @classmethod
    def of(cls, score: LayerScore) -> "ScoreEntry":
        replicates = 0 if score.replicates is None else len(score.replicates)
        values = score.values.tolist() if score.name in SLOW_SCORES else None
        return cls(name=score.name, sample=score.sample, reason=score.reason, replicates=replicates, values=values)


class RunManifest(Document):
    """Everything about a run except its arrays; `files` holds the sha256 of each.

    `model_path` and `data_path` are the paths from the run's folder to them, where all may be moved together; null in
    runs from before they were written, and once the run is read, as its model and data are then those that are there.
    `scores_to_come` are the slow scores that the analysis has yet to measure; `projection_to_come` says whether it has
    yet to project the display sample.
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
    scores_to_come: tuple[ScoreName, ...] = ()
    projection_to_come: bool = False

    @property
    def parts_to_come(self) -> tuple[PartName, ...]:
        """What the analysis has yet to add, in the order in which it does."""
        return (*((PROJECTION,) if self.projection_to_come else ()), *self.scores_to_come)

    def with_projection(self, files: Mapping[str, str]) -> "RunManifest":
        """The manifest of the same run with its display sample, and the digests of the files that hold it."""
        return self.model_copy(update={"projection_to_come": False, "files": {**self.files, **files}})

    def with_score(self, entry: ScoreEntry) -> "RunManifest":
        """The manifest of the same run with one score more, or with another result of that score."""
        entries = {score.name: score for score in (*self.scores, entry)}
        scores = [entries[name] for name in SCORE_NAMES if name in entries]
        to_come = tuple(name for name in self.scores_to_come if name != entry.name)
        return self.model_copy(update={"scores": scores, "scores_to_come": to_come})
