"""Full disks, interrupts and faults of our own: what was there stays as it was, and nothing unfinished is kept."""

import os
from pathlib import Path

import pytest

from semfreeze_core.workflow import analysis as steps
from tests.core.cli.refusals import FULL, fail, fail_after
from tests.core.cli.terminal import ask

pytestmark = pytest.mark.usefixtures("nothing_kept")


INTERRUPTED = "semfreeze: interrupted; unfinished results are not saved.\n"


@pytest.mark.parametrize("written", range(3))
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.usefixtures("read_already")
def test_analyze_keeps_nothing_when_the_disk_fills_up(analyze, monkeypatch, home, stored, begun, written, overwrite):
    before = kept_before(stored, home) if overwrite else []
    monkeypatch.setattr(Path, "write_bytes", fail_after(written, FULL, Path.write_bytes))
    message = analyze("--out", "tied", *(["--overwrite"] if overwrite else [])).refusal
    assert message.startswith(f"The disk is full: {home / 'runs' / 'tied'} could not be written (")
    assert "Nothing was saved. Free some space, or choose another location with --out or SEMFREEZE_HOME." in message
    monkeypatch.undo()
    assert contents(home) == before


def kept_before(stored, home):
    stored("tied")
    return contents(home)


def contents(home):
    """Every file in the store with its bytes, hidden ones too."""
    return sorted((str(p), p.read_bytes()) for p in (home / "runs").rglob("*") if p.is_file())


STEPS = [
    "analysis.load_causal_lm",
    "task.read_examples",
    "task.encode_all",
    "analysis.prepare_labels",
    "analysis.read_traces",
    "analysis.read_task_null",
]


# With and without a run to replace in turn.
@pytest.mark.parametrize(("step", "overwrite"), [(step, i % 2 == 0) for i, step in enumerate(STEPS)])
def test_analyze_keeps_nothing_when_interrupted(analyze, monkeypatch, home, stored, begun, step, overwrite):
    before = kept_before(stored, home) if overwrite else []
    monkeypatch.setattr(f"semfreeze_core.workflow.{step}", fail(KeyboardInterrupt()))
    answer = analyze("--out", "tied", *(["--overwrite"] if overwrite else []))
    assert (answer.code, answer.out, answer.err) == (2, "", INTERRUPTED)
    assert contents(home) == before
    assert list((home / "runs").glob(".*")) == []


@pytest.mark.parametrize("written", range(3))
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.usefixtures("read_already")
def test_analyze_keeps_nothing_when_interrupted_while_writing(
    analyze, monkeypatch, home, stored, begun, written, overwrite
):
    before = kept_before(stored, home) if overwrite else []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail_after(written, KeyboardInterrupt(), Path.write_bytes))
        answer = analyze("--out", "tied", *(["--overwrite"] if overwrite else []))
    assert (answer.code, answer.out, answer.err) == (2, "", INTERRUPTED)
    assert contents(home) == before
    assert list((home / "runs").glob(".*")) == []


@pytest.mark.parametrize("renamed", [0, 1])
@pytest.mark.usefixtures("read_already")
def test_analyze_keeps_the_old_run_when_the_exchange_is_interrupted(analyze, monkeypatch, home, stored, begun, renamed):
    before = kept_before(stored, home)
    real, calls = os.replace, []

    def replace(*args):
        calls.append(args)
        if len(calls) == renamed + 1:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        answer = analyze("--out", "tied", "--overwrite")
    assert (answer.code, answer.err) == (2, INTERRUPTED)
    assert contents(home) == before
    assert list((home / "runs").glob(".*")) == []


def test_analyze_lets_a_fault_of_ours_be_seen(analyze, monkeypatch, home):
    monkeypatch.setattr(steps, "read_traces", fail(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError):
        analyze("--out", "tied")
    assert not (home / "runs" / "tied").exists()


def test_plan_says_when_the_disk_is_full(stored, begun, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "fsync", fail(FULL))
    assert ask("plan", stored("tied"), "--out", tmp_path / "plan.json").refusal.startswith("The disk is full")
    assert not (tmp_path / "plan.json").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
