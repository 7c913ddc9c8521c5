"""What the commands print with: progress on stderr, one JSON document on stdout."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from semfreeze_core.cli.printing.tables import SafeConsole
from semfreeze_core.progress import Progress as ProgressListener
from semfreeze_core.progress import ProgressEvent, silent
from semfreeze_core.wording.escaping import json_text

_listener: ContextVar[ProgressListener] = ContextVar("listener", default=silent)


class _Bars:
    """Draws each stage as a bar with an ETA, of each lane one; without a terminal, one line when a stage begins."""

    def __init__(self, console: Console, bars: Progress) -> None:
        self.console, self.bars = console, bars
        self.stages: dict[str, str] = {}  # by lane
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, event: ProgressEvent) -> None:
        if event.stage != self.stages.get(event.lane, ""):
            self._finish(event.lane)
            self.stages[event.lane] = event.stage
            if self.console.is_terminal:
                self.tasks[event.lane] = self.bars.add_task(event.stage, total=event.total, unit=event.unit)
            else:
                self.console.print(event.stage, highlight=False)
        if (task := self.tasks.get(event.lane)) is not None:
            self.bars.update(task, completed=event.done, total=event.total, unit=event.unit)
        if event.message:
            self.console.print(f"  {event.message}", highlight=False, markup=False)

    def finish(self) -> None:
        for lane in list(self.tasks):
            self._finish(lane)

    def _finish(self, lane: str) -> None:
        if (task := self.tasks.pop(lane, None)) is not None:
            done = self.bars.tasks[self.bars.task_ids.index(task)]
            self.bars.update(task, total=done.total or 1, completed=done.total or 1)


@contextmanager
def listening(listener: ProgressListener) -> Iterator[None]:
    """While the block runs, commands report progress to `listener` too."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


@contextmanager
def progress_on_stderr(quiet: bool) -> Iterator[ProgressListener]:
    """A progress listener that draws on stderr while the block runs; draws nothing when `quiet`."""
    listener = _listener.get()
    if quiet:
        yield listener
        return
    console = SafeConsole(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} {task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        drawn = _Bars(console, bars)

        def report(event: ProgressEvent) -> None:
            drawn(event)
            listener(event)

        yield report
        drawn.finish()


def print_json(document: Any) -> None:
    """Print one JSON document; NaN and infinity become null."""
    typer.echo(json_text(json.dumps(_without_nan(document), indent=1, ensure_ascii=False, allow_nan=False)))


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return value
