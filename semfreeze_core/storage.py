"""Where semfreeze keeps files, and how it writes them: completely or not at all."""

import errno
import hashlib
import json
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from semfreeze_core.errors import ResourceError, RunError, SemfreezeError
from semfreeze_core.temporary import (
    is_temporary,
    moved_aside,
    remove_leftovers,
    temporary_file,
    temporary_folder,
)
from semfreeze_core.unlocked_leftovers import remove_abandoned

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TORCH_UNWRITTEN = ("iostream error", "pytorchstreamwriter failed", "file write failed", "unexpected pos")


def home() -> Path:
    """Folder of everything semfreeze keeps: `SEMFREEZE_HOME`, else the platform's data folder."""
    override = os.environ.get("SEMFREEZE_HOME")
    return user_path(override) if override else Path(platformdirs.user_data_dir("semfreeze", appauthor=False))


def cache_folder() -> Path:
    """Folder of what can be made again (converted models, boundary states, spectra, UMAP layouts).

    Below `SEMFREEZE_HOME`, else the platform's cache.
    """
    if os.environ.get("SEMFREEZE_HOME"):
        return home() / "cache"
    return Path(platformdirs.user_cache_dir("semfreeze", appauthor=False))


def prefix_cache_folder() -> Path:
    """Folder of the boundary states of all prefix caches; in the cache, where listing and clearing look."""
    return cache_folder() / "prefix"


def runs_folder() -> Path:
    """Folder of the named runs."""
    return home() / "runs"


def user_path(text: str) -> Path:
    """A path as typed; `~` and `~name` stand for a home where there is such a user, else for themselves."""
    return Path(os.path.expanduser(text))


def kept_source(source: str, folder: Path) -> str:
    """How a document in `folder` names a model or data, so that both may be moved or copied together.

    A path is written relative to the folder, with a first part "." or "..", unless all that the two have in common is
    the root or a home: then it is absolute, because it stays when the folder is moved. What
    is no path stays: names of the hub, of samples, "embedded", and what is not there.

    Args:
        source: as a command takes it; a path is relative to where this process stands.
        folder: of the document.
    """
    kind, path, rest = _source_parts(source)
    if path == "embedded" or not _is_there(path):
        return source
    absolute = os.path.abspath(user_path(path))
    return f"{kind}{_relative(absolute, os.path.abspath(folder)) or absolute}{rest}"


def found_source(source: str, folder: Path) -> str:
    """The model or data that a document in `folder` names, as a command takes it: the reverse of `kept_source`.

    Documents of 0.1.0 hold sources as they were typed; those are returned as they are.

    Args:
        source: as the document names it.
        folder: of the document, wherever it is now.
    """
    kind, path, rest = _source_parts(source)
    if not path.startswith((f".{os.sep}", f"..{os.sep}")):
        return source
    resolved = os.path.normpath(folder / path)
    return source if _is_there(path) and not _is_there(resolved) else f"{kind}{resolved}{rest}"


def source_from(source: str, folder: Path) -> str | None:
    """The path from a document's folder to a model or data that may be moved or copied along with it, else None.

    Args:
        source: as a command takes it; a path is relative to where this process stands.
        folder: of the document.
    """
    if not _is_there(_source_parts(source)[1]):
        return None
    stored = kept_source(source, folder)
    return stored if _source_parts(stored)[1].startswith((f".{os.sep}", f"..{os.sep}")) else None


def source_beside(source: str, path_from: str | None, folder: Path) -> str:
    """The model or data that a document in `folder` names: the one that was moved along with it, else as it was named.

    Args:
        source: as a command takes it, when the document was written.
        path_from: as `source_from` returned it then.
        folder: of the document, wherever it is now.
    """
    if path_from is None:
        return source
    kind, path, rest = _source_parts(path_from)
    resolved, named = os.path.abspath(folder / path), user_path(_source_parts(source)[1])
    if os.path.exists(named):
        if not os.path.exists(resolved) or os.path.samefile(named, resolved):
            return source
    elif named.is_absolute() and not _is_there(resolved):  # the message about it names where it was
        return source
    return f"{kind}{resolved}{rest}"


def moved_source(source: str, before: str, now: str) -> str:
    """A source by its absolute path, after a folder was moved or copied: where it is now if it went along, else itself.

    Args:
        source: a path inside or beside the folder, as it was; anything else is returned as it is.
        before, now: the folder's absolute path, then and now.
    """
    kind, path = ("hf:", source.removeprefix("hf:")) if source.startswith("hf:") else ("", source)
    relative = _relative(path, before) if os.path.isabs(path) else None
    if relative is None:
        return source
    moved = os.path.normpath(os.path.join(now, relative))
    went_along = relative.startswith(os.curdir + os.sep) or any(map(_is_there, (moved, moved.partition("#")[0])))
    return f"{kind}{moved}" if went_along else source


def _source_parts(source: str) -> tuple[str, str, str]:
    """The kind before a path ("hf:" or nothing), the path, and what follows it ("#split" or nothing)."""
    kind = "hf:" if source.startswith("hf:") else ""
    path, mark, split = source.removeprefix(kind).partition("#")
    if mark and not kind and _is_there(source):  # a file's name may have the mark
        return "", source, ""
    return kind, path, mark + split


def _is_there(path: str) -> bool:
    try:
        return bool(path) and os.path.lexists(user_path(path))
    except (OSError, ValueError):  # no path at all
        return False


def _relative(path: str, folder: str) -> str | None:
    """An absolute path from a folder; None where they have nothing in common that would be moved as one."""
    common = os.path.commonpath([path, folder])
    home_folder = os.path.abspath(Path.home())
    if common == os.path.commonpath([common, home_folder]):
        return None
    relative = os.path.relpath(path, folder)
    return relative if relative.startswith(os.pardir) else os.path.join(os.curdir, relative)


_OF_THE_NETWORK = frozenset(
    (errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN)
)


def _is_of_the_disk(error: Exception) -> bool:
    """Whether an error is the operating system's about a file.

    Networks and memory also end in an OSError: what HTTP libraries and huggingface_hub raise has no number of its own.
    """
    if not isinstance(error, OSError) or error.errno is None:
        return False
    of_the_network = isinstance(error, ConnectionError | TimeoutError | socket.gaierror | socket.herror)
    return not (of_the_network or error.errno in _OF_THE_NETWORK or error.errno == errno.ENOMEM)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, says that the disk, a quota or a file takes no more bytes.

    Libraries that write in other languages report it in text alone.
    """
    if getattr(error, "errno", None) in _FULL:
        return True
    text = str(error).lower()
    if any(f"(os error {number})" in text for number in _FULL):
        return True
    if isinstance(error, RuntimeError) and any(sign in text for sign in _TORCH_UNWRITTEN):
        return True
    return error.__cause__ is not None and is_disk_full(error.__cause__)


def full_disk_cause(error: BaseException) -> str:
    """What an error for which `is_disk_full` holds is about: room, or perhaps the size of one file."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    while error.__cause__ is not None and getattr(error, "errno", None) not in numbers:
        error = error.__cause__
    full = getattr(error, "errno", None) in numbers or any(f"(os error {number})" in str(error) for number in numbers)
    return "The disk is full" if full else "The disk is full or limits the size of a file"


class FullDisk(ResourceError):  # noqa: N818 - what happened, not whose mistake
    """Something could not be written for lack of room; the message says what is kept and what to do.

    Args:
        target: what was being written.
        error: for which `is_disk_full` holds.
        saved_text: what is kept, a sentence; "" when only the caller knows, and then nothing is said to be.
        advice: what to do, a sentence; "" to free space or choose another location.
    """

    def __init__(self, target: Path, error: BaseException, saved_text: str = "", advice: str = "") -> None:
        self.target, self.error, self.saved_text = target, error, saved_text
        what = full_disk_cause(error)
        free = shutil.disk_usage(_existing_parent(target)).free / 2**20
        advice = advice or "Free some space, or choose another location with --out or SEMFREEZE_HOME."
        saved_text = saved_text or "Nothing was saved."
        super().__init__(f"{what}: {target} could not be written ({free:.0f} MiB free). {saved_text} {advice}")


@contextmanager
def disk_errors(target: Path, *, saved_text: Callable[[], str] | None = None, advice: str = "") -> Iterator[None]:
    """Turn the operating system's write errors on `target` into one clear message.

    Args:
        target: what is written inside the block.
        saved_text: returns what is kept when the disk is full, a sentence, and is asked only then; None when the block
            knows of nothing, and then a block around it may.
        advice: what to do when the disk is full, a sentence.
    """
    try:
        yield
    except FullDisk as error:
        if saved_text is None or error.saved_text:
            raise
        raise FullDisk(error.target, error.error, saved_text(), advice) from error.error
    except SemfreezeError:  # clear already
        raise
    except Exception as error:
        if is_disk_full(error):
            raise FullDisk(target, error, "" if saved_text is None else saved_text(), advice) from error
        if isinstance(error, NotADirectoryError | IsADirectoryError | FileExistsError) and error.errno is not None:
            raise RunError(f"{target} cannot be written: {error.strerror}. Something else is at this path.") from error
        if isinstance(error, OSError) and _is_of_the_disk(error):
            what = error.strerror or str(error)
            raise RunError(f"{target} cannot be written: {what}. Choose another location with --out.") from error
        raise


def _existing_parent(path: Path) -> Path:
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` to `path` so that a reader sees the old file or the whole new one, never a part.

    A link is followed. Devices and pipes are refused, because renaming a file over them would take them away.
    """
    data = content.encode() if isinstance(content, str) else content
    with disk_errors(path):
        if path.exists() and not path.is_file():
            raise FileExistsError(errno.EEXIST, "It exists and is not a file")
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        with temporary_file(path.parent) as temporary:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)


@contextmanager
def new_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block ends well, and vanishes when it does not.

    An interrupted writer therefore never leaves something that looks whole. With `overwrite` the old folder is
    replaced only after the new one is complete; what it holds and the new one does not, is kept.

    Raises:
        RunError: `target` exists and `overwrite` is False, or it cannot be written.
        ResourceError: the disk is full.
    """
    require_free(target, overwrite=overwrite)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        if target.parent == runs_folder() or cache_folder() in target.parents:
            remove_abandoned(target.parent, "runs")
        with temporary_folder(target.parent) as partial:
            mode = _mode_of_a_folder(partial)
            yield partial
            partial.chmod(mode)
            if target.exists():
                require_free(target, overwrite=overwrite)  # another process may have been faster
                _add_missing(target, partial)
                with moved_aside(target):
                    os.replace(partial, target)
            else:
                os.replace(partial, target)


def _add_missing(source: Path, folder: Path) -> None:
    """Give a folder everything of another that it does not have, by hard links where the file system has them."""
    for path in source.iterdir():
        if is_temporary(path.name) or os.path.lexists(folder / path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, folder / path.name, symlinks=True, copy_function=_link_or_copy)
        else:
            _link_or_copy(path, folder / path.name)


def _link_or_copy(source: str | Path, target: str | Path) -> str:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return str(target)


def require_free(target: Path, *, overwrite: bool) -> None:
    """Refuse to go on when `target` is there or cannot be made; only a run may be overwritten.

    Checked before the work begins, so that none is done in vain.

    Raises:
        RunError: naming what exists there and what to do.
    """
    with disk_errors(target):
        parent = _existing_parent(target.parent)
        remove_leftovers(parent)  # a run may be among them, moved aside when its replacement was killed
        if not parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{parent} is not a folder")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"{parent} is read-only")
        if not target.exists() and not target.is_symlink():
            return
        if not target.is_dir():
            raise RunError(f"{target} is not a folder, but a run is one. Choose another --out.")
        if not overwrite:
            raise RunError(f"{target} already exists. Choose another --out, or replace it with --overwrite.")
        if any(target.iterdir()) and not _was_a_run(target):
            raise RunError(f"{target} is not a run folder, so --overwrite will not replace it. Choose another --out.")


def _was_a_run(folder: Path) -> bool:
    """Whether a folder is a run, perhaps a damaged one; others too call a file manifest.json."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return False
    return b'"semfreeze run"' in manifest.read_bytes() or (folder / "arrays.safetensors").exists()


def _mode_of_a_folder(inside: Path) -> int:
    """The mode that the umask leaves a folder, read off one that is made for it.

    The module tempfile lets nobody else read what it makes. A process that asks for its umask has to change it, which
    in a server shows in what other threads write meanwhile.
    """
    probe = inside / ".mode"
    probe.mkdir()
    try:
        return stat.S_IMODE(probe.stat().st_mode)
    finally:
        probe.rmdir()


def digest(value: Any) -> str:
    """Sha256 of a JSON-able value, keys sorted."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def folder_bytes(folder: Path) -> int:
    """Disk use of a folder, in bytes; links are not followed, so one has none."""
    if folder.is_symlink() or not folder.exists():
        return 0
    return sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir())


def cache_entries() -> list[Path]:
    """The folders in the cache that can be cleared, in order: one below each kind."""
    kinds = [kind for kind in cache_folder().glob("*") if kind.is_dir()]
    for kind in kinds:
        remove_leftovers(kind)
    return sorted(p for kind in kinds for p in kind.iterdir() if p.is_dir())


def clear_cache() -> int:
    """Delete the cache's entries; returns the bytes freed."""
    entries = cache_entries()
    size = sum(folder_bytes(e) for e in entries)
    for entry in entries:
        remove_folder(entry)
    return size


def remove_folder(folder: Path) -> None:
    """Delete a folder; of a link to one, only the link."""
    with disk_errors(folder):
        if not os.access(folder.parent, os.W_OK | os.X_OK):  # else its files would go and the folder stay
            raise PermissionError(errno.EACCES, f"{folder.parent} is read-only")
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
