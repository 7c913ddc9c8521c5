"""An analysis in its folder: the plan first, slow scores after it, and nothing but what is missing when asked again."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from semfreeze_core import saved_analysis
from semfreeze_core.errors import RunError
from semfreeze_core.plan.make import make_plan
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.runs.folder import MANIFEST, read_run
from semfreeze_core.saved_analysis import add_missing_parts, missing_parts, save_analysis
from semfreeze_core.semantics import scores, spectrum
from semfreeze_core.wording.runs import PLAN_READY
from semfreeze_core.workflow import analysis as steps
from semfreeze_core.workflow import projection
from semfreeze_core.workflow.analysis import analyze, begin_analysis, load_model
from semfreeze_core.workflow.request import AnalysisRequest
from tests.core.killed_writes import kill_everywhere
from tests.core.runs.tiny_run import task_rows, write_jsonl
from tests.core.saved_models import save_tiny

PROJECTION, SPECTRUM, GRADIENTS = (
    "Projecting the display sample",
    "Computing the weights' spectrum",
    "Computing gradients",
)


pytestmark = pytest.mark.usefixtures("home_of_one_test")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_jsonl(tmp_path_factory.mktemp("tasks") / "task.jsonl", task_rows(40))


@pytest.fixture(scope="module")
def request_(untied_model, task):
    return AnalysisRequest(str(untied_model), str(task), dtype="float32", device="cpu", scores=("gradient_norm",))


@pytest.fixture(scope="module")
def analysis(request_):
    return begin_analysis(request_)


def stop_at(stage):
    """Ends what reports its progress here when a stage begins."""

    def listen(event):
        if event.stage == stage:
            raise KeyboardInterrupt

    return listen


@pytest.fixture
def stopped(analysis, tmp_path):
    """Saves the analysis and ends it when a stage begins; returns its folder."""

    def stop(stage):
        with pytest.raises(KeyboardInterrupt):
            save_analysis(analysis, tmp_path / "one", progress=stop_at(stage))
        return tmp_path / "one"

    return stop


@pytest.fixture
def never(monkeypatch):
    """Lets nothing be done twice: named functions of a module fail."""

    def forbid(module, *names):
        def work(*_, **__):
            raise AssertionError("work was done again")

        for name in names:
            monkeypatch.setattr(module, name, work)

    return forbid


def document(folder):
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def test_the_plan_is_ready_before_the_projection_and_slow_scores_begin(analysis, tmp_path):
    folder, by_stage = tmp_path / "one", {}

    def listen(event):
        if event.stage not in by_stage:
            run = read_run(folder)
            by_stage[event.stage] = (run.manifest.parts_to_come, make_plan(run).candidate_depth, event.message)

    finished = save_analysis(analysis, folder, progress=listen)
    both = ("spectrum", "gradient_norm")
    depth = make_plan(finished).candidate_depth
    assert {stage: to_come for stage, (to_come, *_) in by_stage.items()} == {
        PLAN_READY: ("projection", *both),
        PROJECTION: ("projection", *both),
        SPECTRUM: both,
        GRADIENTS: ("gradient_norm",),
    }
    assert {candidate for _, candidate, _ in by_stage.values()} == {depth}
    assert by_stage[PLAN_READY][2] == f"No recommendation from the auto rule. Its formula alone selects depth {depth}."
    assert finished.manifest.parts_to_come == ()
    for name, score in read_run(folder).scores.items():
        np.testing.assert_array_equal(score.values, finished.scores[name].values)


def test_analyze_gives_the_parts_that_are_added_to_a_folder(analysis, request_, tmp_path):
    run, saved = analyze(request_), save_analysis(analysis, tmp_path / "one")
    assert list(run.scores) == list(saved.scores)
    assert run.manifest.scores == saved.manifest.scores
    assert run.manifest.parts_to_come == ()
    np.testing.assert_array_equal(run.display.coordinates, read_run(tmp_path / "one").display.coordinates)


@pytest.mark.parametrize(
    ("stage", "left"),
    [
        (PROJECTION, ["projection", "spectrum", "gradient_norm"]),
        (SPECTRUM, ["spectrum", "gradient_norm"]),
        (GRADIENTS, ["gradient_norm"]),
    ],
)
def test_what_was_stopped_resumes_with_what_is_missing(analysis, stopped, never, request_, tmp_path, stage, left):
    folder = stopped(stage)
    whole = save_analysis(analysis, tmp_path / "whole")
    assert missing_parts(request_, folder) == left
    never(steps, "read_traces", "read_task_null")
    if "projection" not in left:
        never(projection, "project_display", "read_display_states")
    if left == ["gradient_norm"]:
        never(scores, "spectrum_score")
    run = add_missing_parts(request_, folder, left)
    assert document(folder) == document(tmp_path / "whole")
    assert read_run(folder).display is not None
    assert list(run.scores) == list(whole.scores)
    assert missing_parts(request_, folder) == []


@pytest.mark.quick_cases(0)
def test_killed_anywhere_it_leaves_a_whole_run_or_none_and_ends_the_same(
    analysis, request_, untied_model, monkeypatch, tmp_path
):
    save_analysis(analysis, tmp_path / "reference" / "whole")
    loaded = load_model(request_)
    monkeypatch.setattr(saved_analysis, "load_model", lambda *_: loaded)

    def prepare(n):
        (tmp_path / str(n)).mkdir()
        return tmp_path / str(n)

    left = []
    for root, kill in kill_everywhere(prepare, lambda root: save_analysis(analysis, root / "one")):
        folder = root / "one"
        if not folder.exists():
            left.append("nothing")
            continue
        read_run(folder)
        missing = missing_parts(request_, folder)
        left.append(" ".join(missing) or "whole")
        add_missing_parts(request_, folder, missing)
        assert document(folder) == document(tmp_path / "reference" / "whole"), kill.operations
        assert [path.name for path in root.iterdir()] == ["one"] or kill.happened
    assert list(dict.fromkeys(left)) == [
        "nothing",
        "projection spectrum gradient_norm",
        "spectrum gradient_norm",
        "gradient_norm",
        "whole",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"examples": 33},
        {"positions": 3},
        {"max_length": 50},
        {"add_eos": False},
        {"lens_loss": True},
        {"dtype": "bfloat16"},
        {"model": "embedded"},
        {"data": "sample:support_intents_train"},
        {"mapping": FieldMapping(prompt_field="label", completion_field="completion")},
    ],
    ids=lambda change: "-".join(change),
)
def test_another_request_is_not_taken_for_what_was_stopped(stopped, request_, change):
    folder = stopped(SPECTRUM)
    assert missing_parts(request_, folder)
    assert missing_parts(dataclasses.replace(request_, **change), folder) == []


def test_the_same_request_is_known_by_other_words(stopped, request_, untied_model, task, monkeypatch):
    folder = stopped(SPECTRUM)
    monkeypatch.chdir(untied_model.parent)
    fields = FieldMapping(prompt_field="prompt", completion_field="completion")
    same = dataclasses.replace(request_, model="./untied", dtype="auto", mapping=fields)
    assert missing_parts(same, folder) == ["spectrum", "gradient_norm"]


def test_states_of_a_few_positions_are_read_from_their_own_examples(request_, never, tmp_path):
    few = dataclasses.replace(request_, display_positions=5, scores=())
    analysis = begin_analysis(few)
    whole = analysis.complete()
    folder = tmp_path / "one"
    with pytest.raises(KeyboardInterrupt):
        save_analysis(analysis, folder, progress=stop_at(PROJECTION))
    passes = []
    never(steps, "read_traces")
    add_missing_parts(few, folder, missing_parts(few, folder), lambda event: passes.append(event))
    (n_tokens,) = {event.total for event in passes if event.stage == "Extracting hidden states"}
    assert n_tokens < whole.manifest.extraction.tokens
    shown = read_run(folder).display
    for name in ("example", "order", "label_ids", "predicted_ids"):
        np.testing.assert_array_equal(getattr(shown, name), getattr(whole.display, name))
    np.testing.assert_allclose(shown.deviation, whole.display.deviation, rtol=0, atol=2e-3)


def test_a_finished_run_gets_a_score_that_is_asked_for_later(analysis, never, request_, tmp_path):
    plain = dataclasses.replace(request_, scores=())
    folder = tmp_path / "one"
    save_analysis(begin_analysis(plain), folder)
    assert missing_parts(plain, folder) == []
    never(steps, "read_traces")
    assert add_missing_parts(request_, folder, missing_parts(request_, folder)).scores["gradient_norm"].reason == ""
    assert list(read_run(folder).scores) == list(save_analysis(analysis, tmp_path / "whole").scores)


def test_a_score_that_was_left_out_is_measured_where_it_is_named(monkeypatch, request_, tmp_path):
    monkeypatch.setattr(spectrum, "_MOST_WORK", 0)
    plain = dataclasses.replace(request_, scores=())
    save_analysis(begin_analysis(plain), tmp_path / "one")
    assert read_run(tmp_path / "one").scores["spectrum"].reason.startswith("left out, as it takes long")
    assert missing_parts(plain, tmp_path / "one") == []
    named = dataclasses.replace(request_, scores=("spectrum",))
    add_missing_parts(named, tmp_path / "one", missing_parts(named, tmp_path / "one"))
    assert read_run(tmp_path / "one").scores["spectrum"].reason == ""


def test_scores_of_other_weights_are_refused(stopped, request_, tmp_path):
    folder = stopped(SPECTRUM)
    save_tiny(tmp_path / "other", "llama", tied=True)
    with pytest.raises(RunError, match=r"The weights of .*untied have changed since .*one was analyzed, so spectrum"):
        add_missing_parts(dataclasses.replace(request_, model=str(tmp_path / "other")), folder, ["spectrum"])
    assert read_run(folder).manifest.scores_to_come == ("spectrum", "gradient_norm")


def test_scores_of_other_examples_are_refused(stopped, request_, tmp_path):
    folder = stopped(GRADIENTS)
    other = write_jsonl(tmp_path / "other.jsonl", task_rows(40, seed=5))
    with pytest.raises(RunError, match=r"The examples of .* have changed since .*one was analyzed, so gradient_norm"):
        add_missing_parts(dataclasses.replace(request_, data=str(other)), folder, ["gradient_norm"])
    assert read_run(folder).manifest.scores_to_come == ("gradient_norm",)


def test_a_spectrum_in_the_cache_is_added_without_the_model(monkeypatch, analysis, never, request_, stopped, tmp_path):
    monkeypatch.setattr(spectrum, "_LEAST_WORK", 0)
    whole = save_analysis(analysis, tmp_path / "whole")
    folder = stopped(GRADIENTS)
    shutil.copyfile(tmp_path / "whole" / MANIFEST, folder / MANIFEST)
    edited = document(folder)
    edited["scores"] = [entry for entry in edited["scores"] if entry["name"] != "spectrum"]
    (folder / MANIFEST).write_text(json.dumps(edited | {"scores_to_come": ["spectrum"]}), encoding="utf-8")
    never(saved_analysis, "load_model")
    assert missing_parts(request_, folder) == ["spectrum"]
    run = add_missing_parts(request_, folder, ["spectrum"])
    np.testing.assert_array_equal(run.scores["spectrum"].values, whole.scores["spectrum"].values)
