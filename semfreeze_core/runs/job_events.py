"""A job's progress on disk: one JSON object a line, appended by the job and read by whoever follows it."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.job import JobProgress

EVENTS = "events.jsonl"
_SECONDS_BETWEEN = 0.2  # more often than a page draws, and the file stays small


class EventWriter:
    """A progress listener that appends to a job's events; steps of one stage at most five times a second."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / EVENTS
        self.stage, self.written = "", 0.0

    def __call__(self, event: ProgressEvent) -> None:
        now = time.time()
        last = event.total is not None and event.done >= event.total
        if event.stage == self.stage and not event.message and not last and now - self.written < _SECONDS_BETWEEN:
            return
        self.stage, self.written = event.stage, now
        with self.path.open("a", encoding="utf-8") as file:  # one write a line, so a reader sees whole lines or none
            file.write(json.dumps({"time": now, **asdict(event)}, ensure_ascii=False) + "\n")


def read_progress(folder: Path) -> JobProgress | None:
    """How far the job in a folder is; None before its first event.

    The time left is the stage's own: total less done, at the mean rate since the stage's first event.
    """
    events = list(_events(folder))
    if not events:
        return None
    last = events[-1]
    stages = tuple(dict.fromkeys(str(event["stage"]) for event in events))
    first = next(event for event in events if event["stage"] == last["stage"])
    advanced, took = last["done"] - first["done"], last["time"] - first["time"]
    left = (last["total"] - last["done"]) * took / advanced if last["total"] and advanced > 0 else None
    return JobProgress(last["stage"], last["done"], last["total"], last["unit"], left, stages)


def _events(folder: Path) -> Iterator[dict[str, Any]]:
    """The events, oldest first; a line that is not whole yet is left for the next reader."""
    path = folder / EVENTS
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and {"time", "stage", "done", "total", "unit"} <= event.keys():
                yield event
