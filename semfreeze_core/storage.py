"""Where semfreeze keeps files, and how it writes them: completely or not at all."""

import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from semfreeze_core.errors import ResourceError, RunError


def home() -> Path:
    """Folder of everything semfreeze keeps: `SEMFREEZE_HOME`, else the platform's data folder."""
    override = os.environ.get("SEMFREEZE_HOME")
    return user_path(override) if override else Path(platformdirs.user_data_dir("semfreeze", appauthor=False))


def cache_folder() -> Path:
    """Folder of what can be made again (converted models, boundary states, UMAP layouts).

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


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Turn the operating system's write errors on `target` into one clear message; other errors pass through."""
    try:
        yield
    except Exception as error:
        # safetensors reports it as text only
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "(os error 28)" in str(error):
            free = shutil.disk_usage(_existing_parent(target)).free
            raise ResourceError(
                f"The disk is full: {target} could not be written ({free / 2**20:.0f} MiB free). "
                "Nothing was saved. Free some space, or choose another location with --out or SEMFREEZE_HOME."
            ) from error
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
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o666 & ~_umask())  # mkstemp lets nobody else read
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def new_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block ends well, and vanishes when it does not.

    An interrupted writer therefore never leaves something that looks whole. With `overwrite` the old folder is
    replaced only after the new one is complete.

    Raises:
        RunError: `target` exists and `overwrite` is False, or it cannot be written.
        ResourceError: the disk is full.
    """
    require_free(target, overwrite=overwrite)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.partial-"))
        try:
            yield partial
            partial.chmod(0o777 & ~_umask())
            if target.exists():
                require_free(target, overwrite=overwrite)  # another process may have been faster
                old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old-"))
                try:
                    os.replace(target, old / target.name)
                    os.replace(partial, target)
                finally:  # wherever it stopped, one of the two remains
                    if not target.exists():
                        os.replace(old / target.name, target)
                    shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def require_free(target: Path, *, overwrite: bool) -> None:
    """Refuse to go on when `target` is there or cannot be made; only a run may be overwritten.

    Checked before the work begins, so that none is done in vain.

    Raises:
        RunError: naming what exists there and what to do.
    """
    with disk_errors(target):
        parent = _existing_parent(target.parent)
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
    folder = cache_folder()
    return sorted(p for kind in folder.glob("*") if kind.is_dir() for p in kind.iterdir() if p.is_dir())


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
