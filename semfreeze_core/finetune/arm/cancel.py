"""Ending arms from another thread than the one that waits for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from semfreeze_core.errors import SemfreezeError


class Canceled(SemfreezeError):  # noqa: N818 - what happened, not whose mistake
    """An arm was ended because its comparison ends."""


class Cancel:
    """Ends everything that has registered how it is ended, and whatever registers later."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ends: list[Callable[[], None]] = []
        self.requested = False

    def __call__(self) -> None:
        """End all that runs now."""
        with self._lock:
            self.requested, ends = True, self._ends[:]
        for end in ends:
            end()

    def require_none(self) -> None:
        """Refuse to go on once everything is to end.

        Raises:
            Canceled: it is.
        """
        if self.requested:
            raise Canceled("It was canceled.")

    @contextmanager
    def ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        """While the block runs, its work is ended by this function, which may be called more than once."""
        with self._lock:
            self._ends.append(end)
            requested = self.requested
        if requested:
            end()
        try:
            yield
        finally:
            with self._lock:
                self._ends.remove(end)
