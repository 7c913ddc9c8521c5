"""The embedded pretrained model, for real: converted, read, judged, planned."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from semfreeze_core.plan import curve_of, make_plan
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.store import example_run
from semfreeze_core.sources.data.samples import resolve_data
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.sources.models.embedded import convert_embedded, embedded_folder
from semfreeze_core.workflow.analysis import analyze_loaded
from semfreeze_core.workflow.request import AnalysisRequest
from tests.core.cli_app import app

TASK = "sample:sentence_to_json_train"


pytestmark = pytest.mark.slow  # minutes on one thread


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("SEMFREEZE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def embedded(home):
    return load_causal_lm("embedded", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def run(embedded):
    return analyze_loaded(embedded, AnalysisRequest("embedded", TASK, examples=64, display_positions=200))


def test_convert_embedded_is_done_once(embedded):
    before = (embedded_folder() / "model.safetensors").stat().st_mtime_ns
    assert convert_embedded() == embedded_folder()
    assert (embedded_folder() / "model.safetensors").stat().st_mtime_ns == before


def test_load_causal_lm_finds_the_model_that_it_is(embedded):
    assert embedded.shape.total_parameters == 134_515_008
    assert embedded.shape.n_layers == 30
    assert embedded.decoder.tied
    assert embedded.decoder.logits_error < 1e-4
    assert embedded.tokenizer.pad_token_id == embedded.tokenizer.eos_token_id


def test_analyze_finds_evidence_and_the_depth_of_the_shipped_run(run):
    curve, shipped = curve_of(run, "semantic"), curve_of(read_run(example_run()), "semantic")
    assert curve.evidence.verdict == "evidence"
    assert run.manifest.model.identity == read_run(example_run()).manifest.model.identity
    assert np.abs(curve.deviation.mean - shipped.deviation.mean).max() < 0.02
    assert abs(make_plan(run).freeze_depth - make_plan(read_run(example_run())).freeze_depth) <= 1


def test_analyze_reads_more_right_answers_where_the_deviation_is_smaller(run):
    display = run.display
    final = display.deviation[0, :, -1].astype(float)
    assert final[display.right].mean() < final[~display.right].mean()


def test_analyze_on_shuffled_completions_gives_no_evidence(embedded, tmp_path):
    rows = [json.loads(line) for line in Path(resolve_data(TASK)).read_text().splitlines()[:200]]
    moved = np.random.default_rng(0).permutation(len(rows))
    shuffled = tmp_path / "shuffled.jsonl"
    with shuffled.open("w") as file:
        for row, j in zip(rows, moved, strict=True):
            file.write(json.dumps({"prompt": row["prompt"], "completion": rows[j]["completion"]}) + "\n")
    request = AnalysisRequest("embedded", str(shuffled), examples=64, display_positions=50)
    plan = make_plan(analyze_loaded(embedded, request))
    assert plan.recommendation == "abstain"
    assert plan.freeze_depth is None
    assert any("Swapping completions" in reason for reason in plan.reasons)


def test_demo_skips_what_is_done(embedded, home):
    first = CliRunner().invoke(app(), ["demo", "--examples", "40", "--quiet"])
    assert first.exit_code == 0, first.output
    manifest = home / "runs" / "demo" / "manifest.json"
    written = manifest.stat().st_mtime_ns
    second = CliRunner().invoke(app(), ["demo", "--examples", "40", "--quiet"])
    assert second.exit_code == 0
    assert manifest.stat().st_mtime_ns == written
    assert second.stdout == first.stdout
    assert json.loads((home / "runs" / "demo" / "plan.json").read_text())["kind"] == "semfreeze plan"
