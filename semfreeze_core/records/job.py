"""What is written down of a background job, and what a reader of its folder sees."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

JOB_SCHEMA_VERSION = 2
JobState = Literal["queued", "running", "done", "failed", "cancelled", "dead"]
Moment = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]  # seconds since 1970, to the year 5138
Word = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]  # as a command line has it
FINISHED: tuple[JobState, ...] = ("done", "failed", "cancelled", "dead")


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JobSpec(_Document):
    """What a job does: one semfreeze command.

    Attributes:
        schema_version: of this document.
        command: the command's words, without the place its result goes to; equal words are the same job.
        title: what it does, in words.
        out: folder of the run it makes; None when it makes none.
        created: when it was asked for, seconds since 1970.
        runs: how paths into the folder of runs began when it was asked for, so that they are found again where the
            folder has been moved; 0.1.0 did not write it.
    """

    schema_version: int = JOB_SCHEMA_VERSION
    command: tuple[Word, ...]
    title: str
    out: Word | None = None
    created: Moment
    runs: tuple[Word, ...] = ()


class JobProcess(_Document):
    """The process that holds a job.

    Attributes:
        pid: also of its process group.
        born: when the process was started, seconds after its machine, so that another of the same number is not taken
            for it, whatever becomes of the clock.
        host: name of its machine.
        turn: when its turn came, seconds since 1970; None while it waits.
    """

    pid: Annotated[int, Field(ge=1, le=2**31 - 1)]
    born: Annotated[float, Field(allow_inf_nan=False)]
    host: str
    turn: Moment | None = None


class JobEnd(_Document):
    """How a job ended.

    Attributes:
        state: done, failed or cancelled.
        ended: when, seconds since 1970.
    """

    state: Literal["done", "failed", "cancelled"]
    ended: Moment


@dataclass(frozen=True)
class JobProgress:
    """How far a job is.

    Attributes:
        stage: what is being done, in words.
        done: units of the stage finished.
        total: units of the stage in all; None while unknown.
        unit: what is counted.
        seconds_left: of this stage at its mean rate so far; None while unknown.
        stages: every stage begun, in order.
    """

    stage: str
    done: int
    total: int | None
    unit: str
    seconds_left: float | None
    stages: tuple[str, ...]

    @property
    def fraction(self) -> float | None:
        """Share of the stage that is done, 0..1."""
        return min(1.0, self.done / self.total) if self.total else None


@dataclass(frozen=True)
class Job:
    """A job as its folder says it stands.

    Attributes:
        name: of its folder; names sort by when the jobs were asked for.
        spec: what it does.
        state: derived from what the folder holds and which processes live.
        jobs_ahead: how many come before it while it is queued, else 0.
        started: when its turn came; None before.
        ended: when it ended; None before, and for a dead one.
    """

    name: str
    spec: JobSpec
    state: JobState
    jobs_ahead: int
    started: float | None
    ended: float | None

    @property
    def finished(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in FINISHED
