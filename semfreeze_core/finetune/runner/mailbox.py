"""What an arm on another machine and its command leave for each other: progress, and the files it goes on from.

It lives in an actor on the command's own machine. Nothing here needs Ray.
"""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Manifest = dict[str, str]  # names of kept files, by the paths that they have in an arm's folder

CHUNK_BYTES = 8 * 2**20  # of a file, at once


@dataclass
class _Arm:
    attempt: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    manifest: Manifest = field(default_factory=dict)


class Mailbox:
    """Takes progress and files of arms, and hands them out again.

    An arm that is begun again has a new attempt; what an earlier one still leaves, on a machine that was believed lost,
    is refused.

    Args:
        folder: of the files that are kept.
        sources: paths that may be read here, by the names that arms know them by.
    """

    def __init__(self, folder: str, sources: dict[str, str]) -> None:
        self._folder, self._sources = Path(folder), sources
        self._arms: dict[str, _Arm] = {}

    def begin(self, arm: str) -> int:
        """Begin an arm; the number of this attempt, the first is 1."""
        self._arm(arm).attempt += 1
        return self._arm(arm).attempt

    def post(self, arm: str, attempt: int, messages: list[dict[str, Any]]) -> bool:
        """Leave messages for the command; False where another attempt has begun."""
        if attempt != self._arm(arm).attempt:
            return False
        self._arm(arm).messages += messages
        return True

    def take(self, arm: str) -> list[dict[str, Any]]:
        """The messages since the last call."""
        messages, self._arm(arm).messages = self._arm(arm).messages, []
        return messages

    def write(self, arm: str, attempt: int, name: str, offset: int, content: bytes) -> bool:
        """Keep a part of a file; False where another attempt has begun."""
        if attempt != self._arm(arm).attempt:
            return False
        path = self._path_of(arm, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(content)
            file.truncate()
        return True

    def commit(self, arm: str, attempt: int, manifest: Manifest) -> bool:
        """Make these files, which are all there, those that another attempt goes on from; others are deleted."""
        if attempt != self._arm(arm).attempt:
            return False
        self._arm(arm).manifest = manifest
        folder = self._folder / arm
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in manifest.values():
                path.unlink()
        return True

    def manifest(self, arm: str) -> Manifest:
        """The files that an arm goes on from."""
        return self._arm(arm).manifest

    def read(self, arm: str, name: str, offset: int) -> bytes:
        """The part of a kept file at an offset; empty at its end."""
        return _part(self._path_of(arm, name), offset)

    def read_source(self, name: str, offset: int) -> bytes:
        """The part of a source file at an offset; empty at its end."""
        return _part(Path(self._sources[name]), offset)

    def forget(self, arm: str) -> None:
        """Delete what was kept of an arm that has ended."""
        self._arms.pop(arm, None)
        shutil.rmtree(self._folder / arm, ignore_errors=True)

    def _arm(self, name: str) -> _Arm:
        return self._arms.setdefault(name, _Arm())

    def _path_of(self, arm: str, name: str) -> Path:
        return self._folder / arm / os.path.basename(name)


def _part(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(CHUNK_BYTES)
