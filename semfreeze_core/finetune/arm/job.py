"""What a process that trains one arm reads: the job and the examples."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field
from safetensors.numpy import load_file, save

from semfreeze_core.errors import PlanError
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.model import ModelIdentity
from semfreeze_core.records.provenance import Document
from semfreeze_core.records.rates import RateSearch
from semfreeze_core.records.validation import ArmRun, Baseline
from semfreeze_core.sources.models.checkpoint import Checkpoint
from semfreeze_core.sources.models.opening import open_checkpoint
from semfreeze_core.storage import found_source, kept_source, user_path, write_atomically

Split = tuple[TokenizedExample, ...]


class ModelSource(Document):
    """Where a model comes from and how it is loaded, as load_causal_lm takes it."""

    source: str
    revision: str | None = None
    device: str = "auto"
    trust_remote_code: bool = False
    allow_pickle: bool = False

    @classmethod
    def of(cls, analyzed: ModelIdentity) -> "ModelSource":
        """The model that was analyzed, at its revision.

        Raises:
            PlanError: it was in a folder or file that is not there any more.
        """
        source = analyzed.source
        if source != "embedded" and os.path.isabs(user_path(source)) and not user_path(source).exists():
            raise PlanError(
                f"The plan's model is not at {source} any more. Set --model to the folder or GGUF file where it is now."
            )
        return cls(source=source, revision=analyzed.revision)

    def open(self, progress: Progress = silent) -> Checkpoint:
        """The checkpoint, without its weights in memory.

        Raises:
            ModelError: there is none, or it may not be opened like this.
        """
        return open_checkpoint(
            self.source,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            allow_pickle=self.allow_pickle,
            progress=progress,
        )


class ArmJob(Document):
    """One arm with one seed, or with `arm` null the model as it is, for its own process.

    `result` is written when it is done; `data` holds the examples; `cache_shared_from` is as in CacheSettings;
    `keep_checkpoint` leaves a checkpoint of the last step beside the result. `save_seconds` is the time between
    checkpoints from which the arm goes on when its process was killed; null makes none. `notes` on what came before,
    and the `rate_search` that chose the arm's rate, go into its result, so that a kill after that is written loses
    neither.
    """

    model: ModelSource
    identity: ModelIdentity
    arm: Arm | None
    settings: ArmSettings
    cache_shared_from: int | None
    data: Path
    result: Path
    keep_checkpoint: bool = False
    save_seconds: float | None = None
    notes: list[str] = Field(default_factory=list)
    rate_search: RateSearch | None = None


def write_job(path: Path, job: ArmJob) -> None:
    """Write a job for the process that trains it; it names what may be moved with its folder by paths from there."""
    model = job.model.model_copy(update={"source": kept_source(job.model.source, path.parent)})
    files = {name: Path(os.path.relpath(getattr(job, name), path.parent)) for name in ("data", "result")}
    write_atomically(path, job.model_copy(update={"model": model, **files}).model_dump_json(indent=1) + "\n")


def read_job(path: Path) -> ArmJob:
    """The job that `write_job` wrote, its paths as this process takes them.

    Raises:
        ValidationError: the file holds none.
    """
    job = ArmJob.model_validate_json(path.read_text())
    model = job.model.model_copy(update={"source": found_source(job.model.source, path.parent)})
    files = {name: Path(os.path.normpath(path.parent / getattr(job, name))) for name in ("data", "result")}
    return job.model_copy(update={"model": model, **files})


def read_result(path: Path) -> ArmRun | Baseline:
    """What the process of the job in the file `path` wrote when it was done.

    Raises:
        OSError: it is not done.
        ValidationError: the file holds no result.
    """
    job = read_job(path)
    text = job.result.read_text()
    return Baseline.model_validate_json(text) if job.arm is None else ArmRun.model_validate_json(text)


def write_examples(path: Path, train: Sequence[TokenizedExample], evaluation: Sequence[TokenizedExample]) -> None:
    """Write both sets as one file, atomically."""
    arrays = {}
    for name, examples in (("train", train), ("eval", evaluation)):
        arrays[f"{name}.ids"] = np.concatenate([e.input_ids for e in examples])
        arrays[f"{name}.supervised"] = np.concatenate([e.supervised for e in examples])
        arrays[f"{name}.lengths"] = np.array([len(e.input_ids) for e in examples], dtype=np.int64)
        arrays[f"{name}.rows"] = np.array([e.row for e in examples], dtype=np.int64)
    write_atomically(path, save(arrays))


def read_split(path: Path, name: str) -> Split:
    """The training ("train") or eval ("eval") examples that write_examples wrote, without their labels."""
    arrays = load_file(path)
    ends = np.cumsum(arrays[f"{name}.lengths"])[:-1]
    ids, supervised = np.split(arrays[f"{name}.ids"], ends), np.split(arrays[f"{name}.supervised"], ends)
    rows = arrays[f"{name}.rows"].tolist()
    return tuple(TokenizedExample(i, s, None, row) for i, s, row in zip(ids, supervised, rows, strict=True))
