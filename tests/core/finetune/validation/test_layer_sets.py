"""Sets of trained layers put to the test: as a plan, and as a variant beside it."""

import pytest

from semfreeze_core.cost import parts_of_layers
from semfreeze_core.finetune.validation.request import ValidationRequest
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.wording.validation import depth_tested, finished_at
from tests.core.finetune.arms_here import arms_in_this_process
from tests.core.finetune.plans import plan_of, shape_and_names
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task


@pytest.mark.quick_cases(0)
def test_a_set_of_layers_is_validated_like_a_depth(tmp_path):
    plan, loaded = make_tiny_plan(tmp_path / "model")
    shape, _ = shape_and_names(loaded.decoder.model)
    last = shape.n_layers - 1
    outer = plan_of(loaded.decoder.model, 0, parts=parts_of_layers(shape, (0, last)))
    request = ValidationRequest(
        outer.model_copy(update={"model": plan.model}),
        str(write_task(tmp_path / "train.jsonl", 16)),
        str(write_task(tmp_path / "eval.jsonl", 8, seed=9)),
        TrainingSetup(batch_size=4, sequence_length=2048, train_examples=8, steps=2),
        arms=("full", "planned", "layers:1"),
        rates=dict.fromkeys(("full", "frozen"), 3e-3),
        seeds=1,
        match="steps",
        n_eval=8,
        n_accuracy=0,
        n_between=0,
    )
    with arms_in_this_process():
        report = validate(request, tmp_path / "out")
    trained = {run.arm: [i for i, flag in enumerate(run.trained.layers) if flag] for run in report.runs}
    assert trained == {"full": [*range(last + 1)], "planned": [0, last], "layers:1": [1]}
    assert {run.status for run in report.runs} == {"done"}
    assert [run.prefix_cache for run in report.runs if run.arm == "layers:1"] == [True], "below layer 1 nothing moves"
    for run in report.runs:
        assert run.flop.counted == pytest.approx(run.flop.predicted, rel=0.3), run.arm
    assert report.arms["planned"].relative_flop < 1
    assert depth_tested(report) == f"train layers 0,{last} of {last + 1}"
    assert finished_at({"here": report}, 0) == {}, "it is no test of full finetuning"
    assert list(finished_at({"here": report}, 0, f"0,{last}")) == ["here"]
