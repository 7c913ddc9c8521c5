"""Files and folders on their way to their place, and the removal of those whose writer was killed.

A writer holds the operating system's lock on each (flock), which ends with it however it ends. So who comes later can
tell a dead writer's leftovers from a living one's files. Where there are no such locks, nothing is removed, and what
needs a folder for itself (finetunes, jobs, caches) refuses it.
"""

import errno
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from semfreeze_core.errors import ResourceError, RunError

if sys.platform != "win32":
    import fcntl

Use = Literal["part", "old"]
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # by another; any other number: there are no locks
_with_locks: set[int] = set()  # devices
_NAME = re.compile(r"\.semfreeze-(?P<use>part|old)-[a-z0-9_]{8}")  # the eight are tempfile's


@contextmanager
def temporary_file(parent: Path) -> Iterator[Path]:
    """Yield a new file in `parent`, removed when the block ends unless the block has renamed it."""
    with _new(lambda: _empty_file(parent)) as path:
        yield path


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in `parent`, removed when the block ends unless the block has renamed it."""
    with _new(lambda: Path(tempfile.mkdtemp(dir=parent, prefix=_prefix("part")))) as path:
        yield path


@contextmanager
def moved_aside(folder: Path) -> Iterator[None]:
    """Move a folder away while the block puts another in its place; it returns if the block did not, also after a kill.

    Until then it is in a hidden folder next to its place, under its name; `remove_leftovers` of its parent moves it
    back when its process was killed between the two renames.
    """
    with _new(lambda: Path(tempfile.mkdtemp(dir=folder.parent, prefix=_prefix("old")))) as aside:
        os.replace(folder, aside / folder.name)
        yield


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were writing in `folder`, and move back what they were replacing.

    Only what this module made is touched, and nothing of a living process. What cannot be removed stays.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if is_temporary(entry.name)]
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            _remove_unless_held(folder / name)


def require_locks(folder: Path) -> None:
    """Refuse a folder on a file system without locks, where nothing would keep two processes out of each other's way.

    Some network folders have none. Each file system is asked once per process, by locking a file that vanishes again.

    Raises:
        RunError: naming the folder and what to do.
        OSError: the folder cannot be written.
    """
    device = folder.stat().st_dev
    if sys.platform == "win32" or device in _with_locks:
        return
    with temporary_file(folder) as path, path.open("rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD:  # which it is: temporary_file has locked it
                raise RunError(
                    f"{folder} is on a file system without file locks ({error.strerror}), so two processes could "
                    "write the same files. Choose a folder on a local disk, with --out or SEMFREEZE_HOME."
                ) from error
    _with_locks.add(device)


def is_temporary(name: str) -> bool:
    """Whether a file's name is one of those that this module gives."""
    return _NAME.fullmatch(name) is not None


def scratch_parent() -> Path:
    """The system's folder for temporary files.

    Raises:
        ResourceError: there is none that can be written.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise ResourceError(
            f"No folder for temporary files can be written: {error.strerror}. Free some space there, or set TMPDIR to "
            "a folder with some."
        ) from error


def _prefix(use: Use) -> str:
    return f".semfreeze-{use}-"


def _empty_file(parent: Path) -> Path:
    path = parent / f"{_prefix('part')}{secrets.token_hex(4)}"
    path.touch(exist_ok=False)  # with the mode that the umask leaves it; tempfile's nobody else could read
    return path


@contextmanager
def _new(make: Callable[[], Path]) -> Iterator[Path]:
    """Make a file or folder, lock it, and clear it away at the end."""
    while True:
        path = make()
        with _opened(path) as descriptor:
            if descriptor is not None:
                _lock(descriptor, wait=True)
            if not os.path.lexists(path) or (descriptor is not None and not _is_at(path, descriptor)):
                continue  # removed as a leftover before the lock was held
            try:
                yield path
            finally:
                with suppress(OSError):
                    _clear_away(path)
            return


def _remove_unless_held(path: Path) -> None:
    with _opened(path) as descriptor:
        if descriptor is not None and _lock(descriptor, wait=False) and _is_at(path, descriptor):
            _clear_away(path)


def _clear_away(path: Path) -> None:
    """Delete a temporary; before, what was moved aside returns unless something is in its place."""
    match = _NAME.fullmatch(path.name)
    if match is not None and match["use"] == "old":
        for folder in path.iterdir():
            if not os.path.lexists(path.parent / folder.name):
                os.rename(folder, path.parent / folder.name)
        # one cut short in its deletion must never return
        path = path.rename(path.with_name(path.name.replace(_prefix("old"), _prefix("part"))))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """A descriptor to lock a path by; None where it cannot be opened, and a link never is."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Whether the lock is held now; False where another holds it or the file system has none."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one at this path."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
