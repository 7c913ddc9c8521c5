"""How the core reports progress: it emits events, and never draws."""

from dataclasses import dataclass, replace
from threading import Lock
from typing import Protocol


@dataclass(frozen=True)
class ProgressEvent:
    """One step forward in a named stage.

    Attributes:
        stage: what is being done, as shown to the user.
        done: units finished so far.
        total: units in all, or None while unknown.
        unit: what is counted ("tokens", "examples", "bytes").
        message: something worth a line of its own in a log (a halved batch, a dropped row), or "".
        lane: which of several trainings at once this is of, or "".
    """

    stage: str
    done: int = 0
    total: int | None = None
    unit: str = ""
    message: str = ""
    lane: str = ""


class Progress(Protocol):
    """Anything that can be called with a ProgressEvent."""

    def __call__(self, event: ProgressEvent) -> None: ...


def silent(event: ProgressEvent) -> None:
    """Do nothing; the default listener."""


class Lanes:
    """Reports the progress of several trainings at once to a listener that knows of one thread."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._lock = progress, Lock()

    def of(self, lane: str) -> Progress:
        """A listener for one of the trainings, which names it in each event."""

        def report(event: ProgressEvent) -> None:
            with self._lock:
                self._progress(replace(event, lane=lane))

        return report
