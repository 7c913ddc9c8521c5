"""Killing what writes before any one of its file operations, in the test's own process.

Python reports each operation to its audit hooks before it does it, so a hook that raises stands for SIGKILL there. As
after one, nothing is written any more: whoever would clean up is stopped, too.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_PATHS = {  # of each event, where its paths are, each with where the folder's descriptor is that it is relative to
    "open": ((0, None),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.chmod": ((0, 2),),
    "os.truncate": ((0, None),),
}


class Killed(BaseException):
    """Raised in the place of a file operation, and of every later one."""


class Kill:
    """Counts the file operations below a folder, and ends them at one.

    Attributes:
        operations: so far, each by its name and path.
        happened: whether the one was reached.
    """

    def __init__(self, folder: Path, at: int | None) -> None:
        self.folder, self.at = str(folder.resolve()), at
        self.thread = threading.get_ident()
        self.operations: list[str] = []
        self.happened = False

    def meet(self, event: str, args: tuple[Any, ...]) -> None:
        if threading.get_ident() != self.thread or (event == "open" and not int(args[2] or 0) & _WRITES):
            return
        paths = [_absolute(args[path], None if at is None else args[at]) for path, at in _PATHS[event]]
        if not any(path.startswith(self.folder) for path in paths):
            return
        self.happened |= len(self.operations) == self.at
        if self.happened:
            raise Killed
        self.operations.append(f"{event} {paths}")


_armed: list[Kill] = []


def _absolute(path: Any, descriptor: int | None) -> str:
    if isinstance(path, int):
        return ""
    text = os.fsdecode(path)
    if descriptor is not None and descriptor >= 0 and not os.path.isabs(text):
        return os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), text)
    return os.path.realpath(os.path.dirname(os.path.abspath(text))) + os.sep + os.path.basename(text)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _armed and event in _PATHS:
        kill = _armed.pop()  # what the hook does is not met itself
        try:
            kill.meet(event, args)
        finally:
            _armed.append(kill)


sys.addaudithook(_hook)


@contextmanager
def killed(folder: Path, at: int | None) -> Iterator[Kill]:
    """Kill what the block writes below `folder` before its operation number `at`; None counts them alone."""
    kill = Kill(folder, at)
    _armed.append(kill)
    try:
        with suppress(Killed):
            yield kill
    finally:
        _armed.remove(kill)


def kill_everywhere(prepare: Callable[[int], Path], act: Callable[[Path], object]) -> Iterator[tuple[Path, Kill]]:
    """For every n: act on a place just prepared, killed at its n-th operation; ends with the first that lives.

    Args:
        prepare: makes a place of its own for each n.
        act: writes below it.
    """
    n = 0
    while True:
        folder = prepare(n)
        with killed(folder, n) as kill:
            act(folder)
        yield folder, kill
        if not kill.happened:
            return
        n += 1
