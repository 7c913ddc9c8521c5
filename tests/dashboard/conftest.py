import functools
from dataclasses import replace

import numpy as np
import pytest
from streamlit.components.v2 import manifest_scanner

from semfreeze_core.records.scores import SLOW_SCORES
from semfreeze_core.records.umap_projection import UmapProjection
from semfreeze_core.runs.folder import read_run, write_run
from semfreeze_core.runs.store import example_run
from semfreeze_core.semantics.umap_projection import umap_positions
from semfreeze_dashboard.data.run_folder import DEMO_VARIABLE, RUNS_VARIABLE, OpenRun


@pytest.fixture(scope="session", autouse=True)
def components_sought_once():
    """Each AppTest reads the metadata of all installed packages, in search of components: half of the time."""
    with pytest.MonkeyPatch.context() as patch:
        scan = functools.cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", scan)
        yield


@pytest.fixture(scope="session")
def example():
    """The shipped run, as a page opens it."""
    return OpenRun("example", example_run(), 0, read_run(example_run()))


@pytest.fixture(scope="session")
def laid_out(example):
    """What stands for a UMAP of the shipped run: 322 positions spread over its sample, at random places."""
    display = example.run.display
    rng = np.random.default_rng(0)
    positions = umap_positions(display)
    return UmapProjection(
        coordinates=rng.normal(size=(len(display.coordinates), len(positions), 2)).astype(np.float32),
        positions=positions,
        basis_coordinates=rng.normal(size=(len(display.basis_ids), 2)).astype(np.float32),
        seed=0,
        n_neighbors=15,
        n_components=50,
        seconds=1.0,
    )


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    """An empty folder of runs, which the dashboard shows; its home is the test's own."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(RUNS_VARIABLE, str(folder))
    monkeypatch.delenv(DEMO_VARIABLE, raising=False)
    return folder


@pytest.fixture(autouse=True)
def no_jobs(monkeypatch):
    """A click that starts a job by mistake fails the test, and leaves no finetune that outlives it."""

    def refuse(folder):
        raise AssertionError(f"a test started the job in {folder}")

    monkeypatch.setattr("semfreeze_core.runs.jobs._start", refuse)


@pytest.fixture
def doubtful(example, runs):
    """A run named `doubtful` without task null, so without evidence and without labels."""
    run = example.run
    pairs = {
        metric: replace(pairs, own=pairs.own[:0], swapped=pairs.swapped[:0], reason="too few prompts")
        for metric, pairs in run.pairs.items()
    }
    examples = run.examples.assign(label=None)
    manifest = run.manifest.model_copy(update={"task_null_reason": "too few prompts"})
    write_run(replace(run, manifest=manifest, pairs=pairs, examples=examples), runs / "doubtful")
    return runs / "doubtful"


@pytest.fixture
def unprojected(example, runs):
    """A run named `unprojected` as an analysis leaves it once a plan can be made of it."""
    write_run(replace(example.run, display=None), runs / "unprojected")
    return runs / "unprojected"


@pytest.fixture
def begun(example, runs):
    """A run named `begun` as an analysis leaves it before its slow scores are measured."""
    run = example.run
    scores = {name: score for name, score in run.scores.items() if name not in SLOW_SCORES}
    manifest = run.manifest.model_copy(update={"scores_to_come": ("spectrum",)})
    write_run(replace(run, manifest=manifest, scores=scores), runs / "begun")
    return runs / "begun"
