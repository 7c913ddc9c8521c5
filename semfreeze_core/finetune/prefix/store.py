"""Boundary states on disk: whole, checked shards in one folder per cache; old caches make room for new ones.

A cache's folder is named by its key and holds shards, safetensors files of many samples' states. A shard is renamed
into place when it is whole, so no reader opens a half-written one; its digest covers key, samples and states, so a
damaged or foreign one is recognized and computed again.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from semfreeze_core.errors import ResourceError, RunError, SemfreezeError
from semfreeze_core.progress import Progress, ProgressEvent
from semfreeze_core.storage import folder_bytes, full_disk_cause, is_disk_full, remove_folder, write_atomically
from semfreeze_core.temporary import require_locks
from semfreeze_core.wording.numbers import byte_size

STAGE = "Filling the prefix cache"

_KEY = re.compile(r"[0-9a-f]{64}")


class CacheUnavailable(SemfreezeError):  # noqa: N818 - not a fault: training runs uncached
    """No prefix cache is possible, for the reason in the message; the run can go on without one."""


class _Damaged(Exception):  # noqa: N818 - never leaves this file
    """A shard is not what was written."""


class ShardFolder:
    """One cache's states on disk, used inside `open_cache`.

    Attributes:
        states: of each finished sample, by digest: (T, d), memory-mapped.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder, self.progress = folder, progress
        self.states: dict[str, Tensor] = {}
        self._written: list[Path] = []

    def read(self, wanted: Collection[str]) -> list[Path]:
        """Map every shard that holds a wanted sample, drop damaged ones; returns the others, in order of age."""
        unused = []
        for path in sorted(self.folder.glob("*.safetensors"), key=lambda p: p.stat().st_mtime):
            try:
                states = _read_shard(path, self.folder.name)
            except _Damaged as error:
                message = f"A part of the prefix cache is damaged and is computed again ({path.name}: {error})."
                self.progress(ProgressEvent(STAGE, message=message))
                path.unlink()
                continue
            if states.keys().isdisjoint(wanted):
                unused.append(path)
            else:
                self.states |= states
        return unused

    def write(self, states: Mapping[str, Tensor]) -> None:
        """Write these samples' states (T, d) as one shard.

        Raises:
            CacheUnavailable: the disk is full or cannot be written; what this fill wrote before is deleted.
        """
        samples = json.dumps([[digest, len(rows)] for digest, rows in states.items()])
        rows = torch.cat(list(states.values()))
        metadata = {"samples": samples, "digest": _shard_digest(self.folder.name, samples, rows)}
        path = self.folder / f"{hashlib.sha256(samples.encode()).hexdigest()[:32]}.safetensors"
        try:
            write_atomically(path, save({"states": rows}, metadata))
        except (ResourceError, RunError) as error:
            for earlier in self._written:
                earlier.unlink(missing_ok=True)
            raise CacheUnavailable(_why_unwritten(path, error)) from error
        self._written.append(path)
        self.states |= _read_shard(path, self.folder.name)


@contextmanager
def open_cache(root: Path, key: str, progress: Progress) -> Iterator[ShardFolder]:
    """The shards of the cache `key`, locked for this process; half-written leftovers are deleted.

    Raises:
        CacheUnavailable: the folder cannot be made or written, or an old cache cannot be deleted.
    """
    folder = root / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        require_locks(root)
        lock = FileLock(_lock_path(folder))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(ProgressEvent(STAGE, message="Waiting for another process that is filling the same prefix cache."))
            lock.acquire()
        try:
            folder.mkdir(exist_ok=True)  # evicted while this process waited
            os.utime(folder)  # caches not used for long make room first
            for leftover in folder.glob(".*"):
                leftover.unlink()
            yield ShardFolder(folder, progress)
        finally:
            lock.release()
    except (OSError, ResourceError, RunError) as error:
        raise CacheUnavailable(_why_unwritten(folder, error)) from error


def make_room(folder: Path, unused: Collection[Path], needed: int, limit: int | None, progress: Progress) -> None:
    """Delete old caches next to `folder` until `needed` more bytes fit, least recently used first.

    Args:
        folder: of the cache to be filled; its parent holds the others. Folders that are not caches are not touched.
        unused: the cache's shards that are not needed now; they go first.
        needed: bytes of states to be written; files' headers, some 100 bytes per sample, come on top.
        limit: of all caches together, in bytes; None for what the disk has.

    Raises:
        CacheUnavailable: they cannot fit, with the numbers; nothing is deleted unless others hold what has to go.
    """
    others = [f for f in folder.parent.iterdir() if f.is_dir() and _KEY.fullmatch(f.name) and f != folder]
    victims = [*unused, *sorted(others, key=lambda f: f.stat().st_mtime)]
    sizes = [_bytes(victim) for victim in victims]
    in_use = folder_bytes(folder) - sum(sizes[: len(unused)])
    free = shutil.disk_usage(folder).free
    if limit is not None and in_use + needed > limit:
        raise CacheUnavailable(
            f"The prefix cache needs {byte_size(in_use + needed)}, and caches may take {byte_size(limit)}."
        )
    if needed > free + sum(sizes):
        raise CacheUnavailable(f"The prefix cache needs {byte_size(needed)} on disk, and {byte_size(free)} are free.")
    short = max(needed - free, 0 if limit is None else in_use + needed + sum(sizes) - limit)
    for victim, size in zip(victims, sizes, strict=True):
        if short <= 0:
            return
        if _delete(victim):
            progress(
                ProgressEvent(STAGE, message=f"An older prefix cache was deleted to make room ({byte_size(size)}).")
            )
            short -= size
    if short > 0:
        raise CacheUnavailable(f"The prefix cache lacks {byte_size(short)}, held by caches that others are filling.")


def _delete(victim: Path) -> bool:
    """Delete a shard or a whole cache unless another process fills it; readers keep their mapped files."""
    if victim.is_file():
        victim.unlink()
        return True
    try:
        with FileLock(_lock_path(victim), timeout=0):
            remove_folder(victim)
    except Timeout:
        return False
    return True


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _read_shard(path: Path, key: str) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata, rows = file.metadata() or {}, file.get_tensor("states")
    except SafetensorError as error:
        raise _Damaged(str(error)) from error
    if metadata.get("digest") != _shard_digest(key, metadata.get("samples", ""), rows):
        raise _Damaged("its digest does not fit")
    samples = json.loads(metadata["samples"])
    parts = rows.split([length for _, length in samples])
    return {digest: part for (digest, _), part in zip(samples, parts, strict=True)}


def _shard_digest(key: str, samples: str, rows: Tensor) -> str:
    sha = hashlib.sha256(f"{key} {samples} {rows.dtype} {tuple(rows.shape)}\n".encode())
    sha.update(rows.view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _why_unwritten(path: Path, error: Exception) -> str:
    cause = error if isinstance(error, OSError) else error.__cause__
    if is_disk_full(error):
        return f"{full_disk_cause(error)}: the prefix cache cannot be stored in {path.parent}."
    return f"The prefix cache cannot be stored in {path.parent}: {getattr(cause, 'strerror', None) or cause}."


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else folder_bytes(path)
