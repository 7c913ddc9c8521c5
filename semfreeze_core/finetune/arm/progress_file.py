"""An arm's file while it trains, next to its later result: what a page draws before there is a result."""

import math
import time
from contextlib import suppress
from pathlib import Path

from semfreeze_core.errors import ResourceError, RunError
from semfreeze_core.records.validation import LIVE, LiveArm
from semfreeze_core.storage import write_atomically

_SECONDS_BETWEEN = 1.0  # about as often as a page draws


def live_path(result: Path) -> Path:
    """The file that follows the arm whose result will be `result`."""
    return result.with_suffix(LIVE)


class LiveFile:
    """Writes the arm's state to a file at most once per second, and at each evaluation and the first step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written, self.n_points = -math.inf, 0

    def __call__(self, arm: LiveArm) -> None:
        now = time.monotonic()
        if now - self.written < _SECONDS_BETWEEN and len(arm.points) == self.n_points:
            return
        self.written, self.n_points = now, len(arm.points)
        with suppress(ResourceError, RunError):  # only drawn: a full disk must not end the arm here
            write_atomically(self.path, arm.model_dump_json() + "\n")
