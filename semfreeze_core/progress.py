"""How the core reports progress: it emits events, and never draws."""

from dataclasses import dataclass
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
    """

    stage: str
    done: int = 0
    total: int | None = None
    unit: str = ""
    message: str = ""


class Progress(Protocol):
    """Anything that can be called with a ProgressEvent."""

    def __call__(self, event: ProgressEvent) -> None: ...


def silent(event: ProgressEvent) -> None:
    """Do nothing; the default listener."""
