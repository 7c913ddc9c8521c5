"""Progress on the terminal: a line when a stage begins, a bar for each of several trainings at once."""

import io
import threading

import pytest
from rich.progress import Progress

from semfreeze_core.cli.printing.console import _Bars
from semfreeze_core.cli.printing.tables import SafeConsole
from semfreeze_core.progress import Lanes, ProgressEvent


@pytest.fixture
def drawn():
    def draw(*, terminal):
        console = SafeConsole(file=io.StringIO(), force_terminal=terminal, width=80)
        bars = Progress(console=console, disable=True)
        return _Bars(console, bars), bars

    return draw


def test_without_a_terminal_each_stage_of_each_lane_is_one_line(drawn):
    draw, bars = drawn(terminal=False)
    for done in (1, 2):
        draw(ProgressEvent("full", done, 2, "steps", lane="full"))
        draw(ProgressEvent("half", done, 2, "steps", "halved" if done == 2 else "", lane="half"))
    draw(ProgressEvent("later", lane="full"))
    assert bars.console.file.getvalue().splitlines() == ["full", "half", "  halved", "later"]


def test_each_lane_has_its_own_bar_until_its_next_stage(drawn):
    draw, bars = drawn(terminal=True)
    draw(ProgressEvent("full", 1, 4, "steps", lane="full"))
    draw(ProgressEvent("half", 2, 4, "steps", lane="half"))
    draw(ProgressEvent("full", 3, 4, "steps", lane="full"))
    assert [(task.description, task.completed) for task in bars.tasks] == [("full", 3), ("half", 2)]
    draw(ProgressEvent("then", 0, 9, "steps", lane="full"))
    assert [(task.description, task.finished) for task in bars.tasks] == [
        ("full", True),
        ("half", False),
        ("then", False),
    ]
    draw.finish()
    assert all(task.finished for task in bars.tasks)


def test_lanes_are_reported_one_event_at_a_time():
    events, inside = [], threading.Lock()

    def listen(event):
        assert inside.acquire(blocking=False), "two at once"
        events.append(event)
        inside.release()

    lanes = Lanes(listen)

    def report(lane):
        progress = lanes.of(lane)
        for done in range(300):
            progress(ProgressEvent("x", done))

    threads = [threading.Thread(target=report, args=(lane,)) for lane in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [event.done for event in events if event.lane == "b"] == list(range(300))
    assert len(events) == 600
