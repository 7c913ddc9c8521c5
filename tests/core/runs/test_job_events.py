"""A job's progress on disk: thinned out, read from the end, and never thrown off by a clock."""

import io
import json
from pathlib import Path

import pytest

from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.job import JobProgress
from semfreeze_core.runs.job_events import EVENTS, MESSAGES, EventWriter, read_messages, read_progress


class Clock:
    """Time that passes only when told to; the wall clock can be set apart from it."""

    def __init__(self):
        self.seconds, self.wall = 100.0, 5000.0

    def wait(self, seconds):
        self.seconds += seconds
        self.wall += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("semfreeze_core.runs.job_events.time.monotonic", lambda: clock.seconds)
    monkeypatch.setattr("semfreeze_core.runs.job_events.time.time", lambda: clock.wall)
    return clock


def lines(folder):
    return [json.loads(line) for line in (folder / EVENTS).read_text(encoding="utf-8").splitlines()]


def reading(done, total=100, message=""):
    return ProgressEvent("Reading", done, total, "examples", message)


def test_no_events_are_no_progress(tmp_path):
    assert read_progress(tmp_path) is None
    (tmp_path / EVENTS).write_text("")
    assert read_progress(tmp_path) is None


def test_time_left_is_the_rest_at_the_stages_mean_rate(tmp_path, clock):
    tell = EventWriter(tmp_path)
    tell(ProgressEvent("Loading"))
    assert read_progress(tmp_path) == JobProgress("Loading", 0, None, "", None, ("Loading",))
    clock.wait(60)  # of another stage
    tell(reading(10))
    assert read_progress(tmp_path).seconds_left is None  # nothing to judge by
    clock.wait(30)
    tell(reading(25))
    # 15 examples in 30 s; 75 are left
    assert read_progress(tmp_path) == JobProgress("Reading", 25, 100, "examples", 150.0, ("Loading", "Reading"))
    assert read_progress(tmp_path).fraction == 0.25
    clock.wait(50)
    tell(reading(100))
    assert (read_progress(tmp_path).seconds_left, read_progress(tmp_path).fraction) == (0.0, 1.0)


def test_a_stage_that_comes_again_begins_anew(tmp_path, clock):
    tell = EventWriter(tmp_path)
    for stage, done in (("Train", 0), ("Measure", 0), ("Train", 0)):
        tell(ProgressEvent(stage, done, 8, "steps"))
        clock.wait(10)
    tell(ProgressEvent("Train", 4, 8, "steps"))
    assert read_progress(tmp_path) == JobProgress("Train", 4, 8, "steps", 10.0, ("Train", "Measure"))


@pytest.mark.parametrize(("done", "total", "left", "fraction"), [(5, None, None, None), (5, 0, None, None),
                                                                  (12, 10, 0.0, 1.0), (0, 10, None, 0.0)])  # fmt: skip
def test_no_time_left_is_made_up(tmp_path, clock, done, total, left, fraction):
    tell = EventWriter(tmp_path)
    tell(ProgressEvent("Reading", 0, total))
    clock.wait(1)
    tell(ProgressEvent("Reading", done, total, message="so far"))
    progress = read_progress(tmp_path)
    assert (progress.seconds_left, progress.fraction) == (left, fraction)


def test_steps_are_written_twice_a_second_and_what_matters_always(tmp_path, clock):
    tell = EventWriter(tmp_path)
    for done in range(1, 51):  # five seconds
        tell(reading(done))
        clock.wait(0.1)
    written = [line["done"] for line in lines(tmp_path)]
    assert 9 <= len(written) <= 11
    assert written[0] == 1
    tell(reading(51, message="halved the batch"))
    tell(reading(52))
    tell(reading(100))
    tell(ProgressEvent("Projecting"))
    assert [(line["stage"], line["done"], line["message"]) for line in lines(tmp_path)[len(written) :]] == [
        ("Reading", 51, "halved the batch"),
        ("Reading", 100, ""),
        ("Projecting", 0, ""),
    ]


def test_a_clock_set_back_stops_no_progress(tmp_path, clock):
    tell = EventWriter(tmp_path)
    tell(reading(0))
    clock.wall -= 3600
    clock.wait(10)
    tell(reading(50))
    assert read_progress(tmp_path).seconds_left == 10.0


def test_a_line_that_is_not_whole_is_left_for_later(tmp_path):
    tell = EventWriter(tmp_path)
    tell(ProgressEvent("Reading é\u2028", 1, 2, "Beispiele"))
    for half in ('{"time": 1, "stage": "Rea', "\n[]\n{}\n7\n\x00\n", '{"stage": "é'.encode()[:-1]):
        with (tmp_path / EVENTS).open("ab") as file:
            file.write(half if isinstance(half, bytes) else half.encode())
        assert read_progress(tmp_path) == JobProgress("Reading é\u2028", 1, 2, "Beispiele", None, ("Reading é\u2028",))


def test_only_the_end_of_a_long_job_is_read(tmp_path, clock, monkeypatch):
    tell = EventWriter(tmp_path)
    tell(ProgressEvent("Loading"))
    tell(reading(0, 10**6))
    clock.wait(1)
    tell(reading(1, 10**6))
    with (tmp_path / EVENTS).open("a", encoding="utf-8") as file:
        file.write((tmp_path / EVENTS).read_text().splitlines()[-1].join(["", "\n"]) * 40_000)  # hours
    sizes = []

    class Counted(io.BufferedReader):
        def read(self, *most):
            sizes.append(len(content := super().read(*most)))
            return content

    monkeypatch.setattr(Path, "open", lambda path, mode: Counted(io.FileIO(path)))
    assert read_progress(tmp_path).stages == ("Loading", "Reading")
    assert 0 < sum(sizes) < 100_000 < (tmp_path / EVENTS).stat().st_size


@pytest.mark.parametrize(
    "changes", [{"done": "x"}, {"total": []}, {"seconds": float("nan")}, {"stages": 3}, {"stage": None}, {"unit": {}}]
)
def test_an_event_with_odd_values_is_none(tmp_path, changes):
    tell = EventWriter(tmp_path)
    tell(ProgressEvent("Reading", 1, 2, "rows"))
    line = json.loads((tmp_path / EVENTS).read_text())
    with (tmp_path / EVENTS).open("a") as file:
        file.write(json.dumps(line | changes) + "\n")
    assert read_progress(tmp_path) == JobProgress("Reading", 1, 2, "rows", None, ("Reading",))


def test_a_full_disk_does_not_end_a_job_for_its_progress(tmp_path):
    (tmp_path / EVENTS).mkdir()  # stands for a file that cannot be written
    EventWriter(tmp_path)(ProgressEvent("Reading", 1, 2, "rows"))
    assert read_progress(tmp_path) is None


def test_messages_of_the_stages_asked_for_are_read_in_order(tmp_path):
    tell = EventWriter(tmp_path)
    assert read_messages(tmp_path, ("Race",)) == []
    for stage, message in (("Race", "é\u2028 first"), ("full (seed 0)", "a trial"), ("Race", ""), ("Race", "second")):
        tell(ProgressEvent(stage, message=message))
    with (tmp_path / MESSAGES).open("a") as file:
        file.write('[]\n7\n{"stage": "Race", "mess')
    assert read_messages(tmp_path, ("Race",)) == ["é\u2028 first", "second"]
    assert read_messages(tmp_path, ("Race", "full (seed 0)"))[1] == "a trial"


def test_of_several_trainings_at_once_each_has_its_own_stage_and_time_left(tmp_path, clock):
    tell = EventWriter(tmp_path)
    for done in (0, 10):
        for lane, total in (("one", 40), ("two", 20)):
            tell(ProgressEvent(f"Training {lane}", done, total, "steps", lane=lane))
            clock.wait(1)
    last = read_progress(tmp_path)
    assert last == JobProgress("Training two", 10, 20, "steps", 2.0, ("Training one", "Training two"))
