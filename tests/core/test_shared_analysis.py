"""Several processes that read one model's examples: the run is that of one process."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import numpy as np
import psutil
import pytest

from semfreeze_core import processes, saved_analysis
from semfreeze_core.errors import ModelError, SemfreezeError
from semfreeze_core.processes import by_first, joined
from semfreeze_core.runs.folder import MANIFEST, read_run, write_run
from semfreeze_core.saved_analysis import add_missing_parts, missing_parts, save_analysis
from semfreeze_core.semantics import analysis as analysis_module
from semfreeze_core.semantics import extraction
from semfreeze_core.sources.models import causal_lm
from semfreeze_core.workflow import analysis as steps
from semfreeze_core.workflow import slow_scores
from semfreeze_core.workflow.analysis import analyze, begin_analysis, begin_shared_analysis
from semfreeze_core.workflow.request import AnalysisRequest
from semfreeze_core.workflow.task import read_task
from tests.core.runs.tiny_run import task_rows, write_jsonl
from tests.core.together import in_group, together

TOLERANCE = 1e-6
EXAMPLES = 41  # an odd number: one process reads one more


pytestmark = pytest.mark.usefixtures("home_of_one_test")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_jsonl(tmp_path_factory.mktemp("tasks") / "task.jsonl", task_rows(EXAMPLES))


@pytest.fixture(scope="module")
def request_(untied_model, task):
    return AnalysisRequest(
        str(untied_model), str(task), dtype="float32", device="cpu", scores=("gradient_norm",), lens_loss=True,
        batch_tokens=200,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(request_):
    """What one process gives, up to the slow scores."""
    return begin_analysis(request_)


def assert_same_run(run, other):
    for ours, theirs in zip((run.traces, run.pairs), (other.traces, other.pairs), strict=True):
        assert ours.keys() == theirs.keys()
        for name, record in ours.items():
            for field, values in vars(record).items():
                expected = getattr(theirs[name], field)
                if isinstance(values, np.ndarray):
                    np.testing.assert_allclose(values, expected, rtol=0, atol=TOLERANCE, err_msg=f"{name}.{field}")
                else:
                    assert values == expected
    for field in ("example", "order", "label_ids", "basis_ids"):
        np.testing.assert_array_equal(getattr(run.display, field), getattr(other.display, field))
    # The display sample is kept in float16.
    np.testing.assert_allclose(run.display.deviation, other.display.deviation, rtol=0, atol=1e-3)
    for name, score in other.scores.items():
        np.testing.assert_allclose(run.scores[name].values, score.values, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
    assert run.manifest.data == other.manifest.data
    assert run.manifest.extraction.tokens == other.manifest.extraction.tokens


def joined_to_read():
    return joined("cpu", "analysis", "it reads again")


def shared(request, folder):
    """In a process of several: reads its share, and the first one saves the run; how many examples it read."""
    n_read = []
    read_batch = extraction.read_batch

    def counting(decoder, batch, read):
        n_read.append(len(batch.examples))
        read_batch(decoder, batch, read)

    with pytest.MonkeyPatch.context() as patch, joined_to_read():
        patch.setattr(extraction, "read_batch", counting)
        analysis = begin_shared_analysis(request)
        run = by_first(lambda: write_run(analysis.run, folder) and save_analysis(analysis, folder, overwrite=True))
    return [sum(n_read), run is not None]


def error_of(work):
    """How a shared analysis ends: the error's kind, its text, the process that met it alone, and after how long."""
    begun = time.monotonic()
    try:
        with joined_to_read():
            work()
    except SemfreezeError as error:
        return [type(error).__name__, str(error), error.process, time.monotonic() - begun]
    return None


def damaged(values, dtype):
    if processes.own_share().index == 1:
        raise ModelError("A state of the second process's examples holds NaN.")


def read_in_pair(request, folder):
    """In a process of two: what both read, what one of them alone meets, and what the first one's disk refuses."""
    outcomes = {"read": shared(request, folder)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis_module, "_check_finite", damaged)
        outcomes["damaged"] = error_of(lambda: begin_shared_analysis(request))
    with joined_to_read():
        outcomes["alone"] = by_first(lambda: processes.own_share().of)
    outcomes["taken"] = error_of(lambda: by_first(lambda: write_run(read_run(folder), folder)))
    return outcomes


def test_two_processes_read_as_one(request_, alone, tmp_path):
    folder = tmp_path / "run"
    results = together(in_group(lambda rank: read_in_pair(request_, folder)), tmp_path / "pair")
    expected = save_analysis(alone, tmp_path / "alone")
    run = read_run(folder)
    assert_same_run(run, expected)
    n_null = sum(len(pairs.own) for pairs in [expected.pairs["semantic"]])
    counts = [results[rank]["read"][0] for rank in range(2)]
    assert sum(counts) == EXAMPLES + n_null, "each example is read once, and each swapped one"
    assert abs(counts[0] - counts[1]) <= 2
    assert [results[rank]["read"][1] for rank in range(2)] == [True, False], "the first process alone has a run"
    assert run.manifest.notes[-1].startswith("2 processes read the examples, each its share")
    assert [result["alone"] for result in results] == [1, None], "while the others wait"
    for result in results:
        kind, text, process, seconds = result["damaged"]
        assert (kind, text, process) == ("ModelError", "A state of the second process's examples holds NaN.", None)
        assert seconds < 20
        kind, text, process, _ = result["taken"]
        assert (kind, process) == ("RunError", None)


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("count", [3, 4])
def test_more_processes_than_examples_read_them_too(request_, tmp_path, count):
    few = dataclasses.replace(request_, examples=2, allow_few=True)
    results = together(in_group(lambda rank: shared(few, tmp_path / "run")), tmp_path / "several", count=count)
    assert [result[0] for result in results] == [1, 1, *[0] * (count - 2)]
    assert_same_run(read_run(tmp_path / "run"), analyze(few))


@pytest.mark.quick_cases(0)
def test_two_processes_read_a_model_whose_layers_are_on_disk(request_, alone, tmp_path, monkeypatch):
    shape = alone.run.manifest.model.shape
    n_bytes = int(1.1 * 4 * shape.total_parameters)
    monkeypatch.setattr(causal_lm, "free_bytes", lambda _: 2 * n_bytes - 2)  # for both: each has a little too little
    request = dataclasses.replace(request_, scores=())
    together(in_group(lambda rank: shared(request, tmp_path / "run")), tmp_path / "pair")
    run = read_run(tmp_path / "run")
    assert any(note.startswith("Computed in float32. Slow: ") for note in run.manifest.notes)
    assert_same_run(run, saved_without_gradients(alone, tmp_path))


def saved_without_gradients(analysis, folder):
    run = save_analysis(analysis, folder / "alone")
    return dataclasses.replace(run, scores={name: s for name, s in run.scores.items() if name != "gradient_norm"})


def dies(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in_scores(request, folder):
    """The first process is killed while it measures the gradients, and the second one waits for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slow_scores, "gradient_score", dies)
        patch.setattr(processes, "_FAILURE_WAIT", timedelta(seconds=1))
        return error_of(lambda: save_together(request, folder))


def save_together(request, folder):
    analysis = begin_shared_analysis(request)
    by_first(lambda: save_analysis(analysis, folder))


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("count", [1, 2])
def test_what_a_kill_left_out_is_added_without_reading_again(request_, alone, tmp_path, monkeypatch, count):
    folder = tmp_path / "run"
    work = in_group(lambda rank: killed_in_scores(request_, folder))
    _, (kind, text, process, seconds) = together(work, tmp_path / "pair", killed=(0,))
    assert (kind, process) == ("RunError", 1)
    assert text == "Another process of this analysis has ended. Run the same command again: it reads again."
    assert seconds < 20
    assert read_run(folder).manifest.scores_to_come == ("gradient_norm",)
    monkeypatch.setattr(saved_analysis, "read_task", read_task)
    monkeypatch.setattr(steps, "read_traces", dies)

    def add():
        return by_first(lambda: add_missing_parts(request_, folder, missing_parts(request_, folder)))

    if count == 1:
        add()
    else:
        together(in_group(lambda rank: error_of(add)), tmp_path / "again", seconds=60)
    assert_same_run(read_run(folder), save_analysis(alone, tmp_path / "alone"))


def launcher(request, out):
    """The command as a person gives it."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "semfreeze_core"]
    asks = ["analyze", "--model", request.model, "--data", request.data, "--dtype", "float32", "--out", out]
    asks += ["--metrics", "semantic,logit_z,lens_loss", "--scores", "gradient_norm", "--batch-tokens", 200]
    return subprocess.Popen(
        [*launch, *map(str, asks)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_torchrun_prints_once_and_reads_after_a_kill(request_, alone, tmp_path):
    out = tmp_path / "runs" / "one"
    killed_run = launcher(request_, out)
    try:
        ranks = {}
        while len(ranks) < 2:
            assert killed_run.poll() is None, killed_run.communicate()
            time.sleep(0.05)
            ranks = {child.environ()["RANK"]: child for child in psutil.Process(killed_run.pid).children()}
        time.sleep(5)  # while they import, load or read
        ranks["1"].kill()
        begun = time.monotonic()
        killed_run.communicate(timeout=60)
        assert time.monotonic() - begun < 20
        assert killed_run.returncode != 0
        assert not any(child.is_running() for child in ranks.values())
        assert not out.exists()
    finally:
        killed_run.kill()
        killed_run.wait()
    again = launcher(request_, out)
    printed, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert printed.count("Next: semfreeze plan") == 1
    assert errors.count("Extracting hidden states") == 1, "the second process draws no progress"
    assert_same_run(read_run(out), save_analysis(alone, tmp_path / "alone"))
    refused = launcher(request_, out)
    _, errors = refused.communicate(timeout=300)
    assert refused.returncode != 0
    assert errors.count(f"{out} already exists") == 1, errors
    assert (out / MANIFEST).exists()
