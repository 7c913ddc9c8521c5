"""A job's progress on disk: one JSON object a line, appended by the job and read by whoever follows it."""

import json
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.job import JobProgress

EVENTS, MESSAGES = "events.jsonl", "messages.jsonl"
_SECONDS_BETWEEN = 0.5  # about as often as a page draws, and the file stays small
_TAIL_BYTES = 64 * 1024


class _Event(BaseModel):
    """What a reader needs of a line."""

    stage: str
    done: int
    total: int | None
    unit: str
    done_before: int
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    stages: list[str]


class _Message(BaseModel):
    """A line of the messages."""

    stage: str
    message: str


@dataclass
class _Lane:
    """A stage of one of several trainings at once, or of the only one."""

    stage: str
    begun: float  # by a clock that nobody sets
    done_before: int


class EventWriter:
    """A progress listener that appends to a job's events; steps of one stage at most twice a second.

    Each line holds all that its reader needs, so that of a long file only the end is read. Messages, which are few, are
    kept in a file of their own as well.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self.messages = folder / EVENTS, folder / MESSAGES
        self.stages: list[str] = []
        self.lanes: dict[str, _Lane] = {}
        self.written = 0.0

    def __call__(self, event: ProgressEvent) -> None:
        now = time.monotonic()
        lane = self.lanes.get(event.lane)
        if lane is None or event.stage != lane.stage:
            lane = self.lanes[event.lane] = _Lane(event.stage, now, event.done)
            self.stages += [] if event.stage in self.stages else [event.stage]
        else:
            last = event.total is not None and event.done >= event.total
            if not event.message and not last and now - self.written < _SECONDS_BETWEEN:
                return
        self.written = now
        line = {
            "time": time.time(),
            **asdict(event),
            "done_before": lane.done_before,
            "seconds": now - lane.begun,
            "stages": self.stages,
        }
        _append(self.path, line)
        if event.message:
            _append(self.messages, {"stage": event.stage, "message": event.message})


def read_messages(folder: Path, stages: Collection[str]) -> list[str]:
    """What the job in a folder has reported in some stages so far, in order; of a very long file the end."""
    messages = []
    for line in _last_lines(folder / MESSAGES):
        with suppress(ValidationError):
            message = _Message.model_validate_json(line)
            messages += [message.message] if message.stage in stages else []
    return messages


def read_progress(folder: Path) -> JobProgress | None:
    """How far the job in a folder is; None before its first event.

    The time left is the stage's own: total less done, at the mean rate since the stage began.
    """
    last = _last_event(folder / EVENTS)
    if last is None:
        return None
    advanced, total = last.done - last.done_before, last.total
    left = (total - last.done) * last.seconds / advanced if total and advanced > 0 else None
    return JobProgress(
        last.stage, last.done, total, last.unit, None if left is None else max(0.0, left), tuple(last.stages)
    )


def _append(path: Path, line: Any) -> None:
    """Append a line in one write, so that a reader sees it whole or not at all; a full disk does not end the job."""
    with suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _last_event(path: Path) -> _Event | None:
    """The newest whole event; a line that is not whole yet is left for the next reader."""
    for line in reversed(_last_lines(path)):
        with suppress(ValidationError):
            return _Event.model_validate_json(line)
    return None


def _last_lines(path: Path) -> list[bytes]:
    """The lines at the end of a file; none where it cannot be read, as a pipe, which would wait for ever."""
    if not path.is_file():
        return []
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().split(b"\n")
    except OSError:
        return []
