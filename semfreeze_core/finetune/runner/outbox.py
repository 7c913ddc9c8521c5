"""What an arm sends to its command while it trains: progress, the state that pages draw, and what it goes on from."""

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from semfreeze_core.finetune.arm.files import to_go_on_from
from semfreeze_core.finetune.arm.progress_file import live_path
from semfreeze_core.finetune.runner.mailbox import CHUNK_BYTES, Manifest
from semfreeze_core.progress import ProgressEvent

Call = Callable[..., Any]  # a method of the mailbox by its name, with its arguments

EVENT, LIVE_TEXT = "event", "live"  # kinds of messages
_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_MESSAGES, _SECONDS_BETWEEN_LOOKS = 0.3, 1.0


class Outbox:
    """Collects an arm's progress and sends it, with its files, to the command's mailbox.

    Args:
        arm, attempt: as the mailbox knows them.
        result: where the arm's result will be.
        call: calls the mailbox.
        stop: ends the arm; called when nothing can be sent, or another attempt has begun.

    Attributes:
        failure: why nothing could be sent, or "".
    """

    def __init__(self, arm: str, attempt: int, result: Path, call: Call, stop: Callable[[], None]) -> None:
        self.arm, self.attempt, self.result = arm, attempt, result
        self._call, self._stop = call, stop
        self._lock, self._events = threading.Lock(), list[ProgressEvent]()
        self._live: int | None = None
        self._sent: Manifest = {}
        self.failure = ""

    def __call__(self, event: ProgressEvent) -> None:
        """Take an event; of the steps of one stage the last one is enough."""
        with self._lock:
            last = self._events[-1] if self._events else None
            if last is not None and last.stage == event.stage and not last.message:
                self._events.pop()
            self._events.append(event)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send what there is to send while the block runs, and the rest of the progress at its end."""
        ended = threading.Event()

        def repeat(send: Callable[[], None], seconds: float) -> None:
            try:
                while not ended.wait(seconds):
                    send()
            except Exception as error:  # the command may be gone, or the disk full: each shows in many ways
                self.failure = f"{type(error).__name__}: {error}"
                _log.exception("%s ends: its progress and files could not be sent", self.result.stem)
                self._stop()

        threads = [
            threading.Thread(target=repeat, args=how, daemon=True)
            for how in (
                (self.send_messages, _SECONDS_BETWEEN_MESSAGES),
                (self.send_files, _SECONDS_BETWEEN_LOOKS),
            )
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        self.send_messages()

    def send_messages(self) -> None:
        """Send the progress, and the state that pages draw where it has changed."""
        with self._lock:
            events, self._events = self._events, []
        messages: list[dict[str, Any]] = [{EVENT: asdict(event)} for event in events]
        with suppress(OSError):
            path = live_path(self.result)
            if (changed := path.stat().st_mtime_ns) != self._live:
                self._live = changed
                messages.append({LIVE_TEXT: path.read_text()})
        if messages:
            self._require(self._call("post", self.arm, self.attempt, messages))

    def send_files(self) -> None:
        """Send what another process would go on from, where that has changed."""
        links = self.result.parent / "links"
        shutil.rmtree(links, ignore_errors=True)
        links.mkdir()
        manifest: Manifest = {}
        try:
            for path in to_go_on_from(self.result):
                relative = str(path.relative_to(self.result.parent))
                about = path.stat()
                name = hashlib.sha256(f"{relative} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()
                os.link(path, links / name)  # the arm may delete it meanwhile
                manifest[relative] = name
        except FileNotFoundError:  # deleted just now: others are there the next time
            return
        if manifest == self._sent:
            return
        for name in set(manifest.values()) - set(self._sent.values()):
            self._send(links / name)
        self._require(self._call("commit", self.arm, self.attempt, manifest))
        self._sent = manifest

    def _send(self, path: Path) -> None:
        with path.open("rb") as file:
            while True:
                offset, part = file.tell(), file.read(CHUNK_BYTES)
                self._require(self._call("write", self.arm, self.attempt, path.name, offset, part))
                if len(part) < CHUNK_BYTES:
                    return

    def _require(self, current: bool) -> None:
        """End the arm where another attempt has begun: its machine was believed lost."""
        if not current:
            self._stop()
