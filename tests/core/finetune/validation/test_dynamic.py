"""Validations with a variant whose batches freeze depths of their own."""

from dataclasses import replace

import pytest

from semfreeze_core import example_depths as depths_module
from semfreeze_core.cost import batch_depths, dynamic_flop
from semfreeze_core.errors import InputError, PlanError
from semfreeze_core.example_depths import with_example_depths
from semfreeze_core.finetune.validation.request import ValidationRequest, prepare
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.validation import ArmRun
from semfreeze_core.runs.reports import read_validation
from semfreeze_core.semantics.analysis import prepare_labels, read_traces
from semfreeze_core.semantics.positions import choose_positions
from semfreeze_core.wording.validation import quality_caption, quality_table
from tests.core.finetune.arms_here import arms_in_this_process
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task

SETUP = TrainingSetup(batch_size=4, sequence_length=2048, train_examples=16, steps=5)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A request for the variant, and its model."""
    workspace = tmp_path_factory.mktemp("dynamic")
    plan, loaded = make_tiny_plan(workspace / "model", n_layers=8)
    train, evaluation = write_task(workspace / "train.jsonl", 40), write_task(workspace / "eval.jsonl", 16, seed=9)
    request = ValidationRequest(
        plan, str(train), str(evaluation), SETUP, arms=("dynamic",), n_between=0, n_accuracy=0, n_eval=16,
        rates={"dynamic": 1e-3},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMFREEZE_HOME", str(workspace / "home"))
        yield request, loaded


@pytest.fixture(scope="module")
def chosen(made):
    return with_example_depths(made[0])


def test_depths_are_the_paper_rules_for_each_training_example(made, chosen):
    request, loaded = made
    train = prepare(replace(request, arms=("full",), rates={"full": 1e-3})).data.train.tokenized
    positions = choose_positions(train, 64, 0)
    labels = prepare_labels(loaded.decoder, train, positions, real_rows=loaded.vocabulary.real_rows)
    traces, _ = read_traces(loaded.decoder, train, positions, labels)
    cap, start = 6, int(loaded.shape.tied)
    expected = []
    for row in traces["semantic"].deviation.astype(float):
        falls = [row[i] - row[i + 1] for i in range(start, cap)]
        expected.append(1 + start + falls.index(max(falls)))
    assert chosen.example_depths.depths == tuple(expected)
    assert chosen.example_depths.train_digest == prepare(chosen).data.train.digest


def test_depths_are_chosen_once_for_the_same_examples(made, chosen, monkeypatch):
    monkeypatch.setattr(depths_module, "load_causal_lm", lambda *_, **__: pytest.fail("it loaded the model again"))
    assert with_example_depths(made[0]) == chosen
    assert with_example_depths(chosen) is chosen
    other = replace(made[0], arms=("full",))
    assert with_example_depths(other) is other


@pytest.mark.quick_cases(0)
def test_a_dynamic_variant_is_reported_with_its_depths(chosen, tmp_path):
    with arms_in_this_process():
        report = validate(chosen, tmp_path / "validation")
    assert report.finished
    arm, prepared = report.arms["dynamic"], prepare(chosen)
    depths_of_batches = batch_depths(chosen.example_depths.depths, 4)
    assert (arm.freeze_depth, arm.deepest_batch) == (depths_of_batches[0], depths_of_batches[-1])
    assert [row["frozen"] for row in quality_table(report).dicts()[1:]] == [
        f"{depths_of_batches[0]} to {depths_of_batches[-1]}"
    ]
    assert "Only semfreeze trains it, and only in a validation" in quality_caption(report)
    (dynamic,) = prepared.arms
    setup = prepared.setups["dynamic"]
    whole = dynamic_flop(prepared.shape, setup, chosen.example_depths.depths)
    assert prepared.relative_flop(dynamic) == whole / prepared.full_flop() == arm.relative_flop < 1
    assert read_validation(tmp_path / "validation") == report
    (run,) = report.runs
    assert run.example_depths == chosen.example_depths.depths
    document = run.model_dump(mode="json", exclude={"example_depths"})
    assert ArmRun.model_validate(document).example_depths is None, "runs from before there were depths"


def test_depths_of_other_examples_are_refused(made, chosen):
    with pytest.raises(InputError, match="freeze depths are of other training examples or of another model"):
        prepare(replace(chosen, setup=replace(SETUP, train_examples=12)))
    with pytest.raises(PlanError, match="variant dynamic: needs the freeze depth of each training example"):
        prepare(made[0])


def test_other_mistakes_are_refused_before_the_model_is_loaded(made, monkeypatch):
    monkeypatch.setattr(depths_module, "load_causal_lm", lambda *_, **__: pytest.fail("it loaded the model"))
    with pytest.raises(PlanError, match=r"variant dynamc: expected full, .*, dynamic, depth:K"):
        with_example_depths(replace(made[0], arms=("dynamc", "dynamic")))
    with pytest.raises(PlanError, match="--lr half: no such variant"):
        with_example_depths(replace(made[0], rates={"half": 1e-3}))


def test_a_model_without_a_layer_to_search_is_refused(made, tmp_path):
    plan, loaded = make_tiny_plan(tmp_path / "two", 1, n_layers=2, tied=True)
    assert loaded.shape.tied
    with pytest.raises(PlanError, match="no layer left to search in a model of 2 layers: leave this variant out"):
        with_example_depths(replace(made[0], plan=plan))
