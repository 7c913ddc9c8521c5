"""Plans and models that a target cannot take: what is refused, and the way out."""

from dataclasses import replace

import pytest

from semfreeze_core.errors import PlanError
from semfreeze_core.export import TARGETS, export_plan
from semfreeze_core.records.training import DepthSwitch, TrainableParts
from tests.core.export.exports import LORA, exported_flags, exported_yaml, tiny_plan
from tests.core.finetune.plans import SETUP, plan_of


def test_unknown_target_is_refused_with_those_there_are(tiny):
    with pytest.raises(PlanError, match=r"no export to 'keras'. Available: hf-trainer, trl, peft, .*, mlx-lm\."):
        export_plan(tiny_plan(tiny, 2), "keras")


@pytest.mark.parametrize("target", TARGETS)
def test_abstention_is_refused_with_the_way_out(tiny, target):
    plan = tiny_plan(tiny, None).model_copy(update={"run": "mine"})
    with pytest.raises(PlanError, match=r"makes no recommendation.*semfreeze plan mine --depth K --out plan\.json"):
        export_plan(plan, target)


@pytest.mark.parametrize(
    ("target", "lora", "message"),
    [
        (
            "hf-trainer",
            LORA,
            "without --lora, or export it to trl, peft, axolotl, nemo-automodel, oumi, unsloth or mlx-lm",
        ),
        (
            "llama-factory",
            LORA,
            "without --lora, or export it to trl, peft, axolotl, nemo-automodel, oumi, unsloth or mlx-lm",
        ),
        (
            "peft",
            None,
            "with --lora, or export it to hf-trainer, .*, llama-factory, ms-swift, nemo-automodel, oumi or mlx-lm",
        ),
        ("unsloth", None, "with --lora, or export it to hf-trainer"),
    ],
)
def test_targets_that_cannot_train_the_plans_kind_refuse_and_name_those_that_can(tiny, target, lora, message):
    with pytest.raises(PlanError, match=message):
        export_plan(tiny_plan(tiny, 2, lora=lora), target)


SOME = TrainableParts((False, True, False, True), False, True, False)


MATRICES = (None, LORA, replace(LORA, targets=("q_proj",)))


@pytest.mark.parametrize("lora", MATRICES, ids=["weights", "all matrices", "one matrix"])
@pytest.mark.parametrize("parts", [None, SOME], ids=["the last layers", "some layers"])
def test_a_refusal_names_all_the_targets_that_can_train_the_plan(tiny, parts, lora):
    if parts is not None and lora is not None:
        parts = replace(parts, final_norm=False)
    plan = tiny_plan(tiny, 2 if parts is None else 1, lora=lora, parts=parts)
    refusals = {}
    for target in TARGETS:
        try:
            export_plan(plan, target)
        except PlanError as error:
            refusals[target] = str(error)
    *able, last = [target for target in TARGETS if target not in refusals]
    assert refusals
    for refusal in refusals.values():
        assert refusal.endswith(f"xport it to {', '.join(able)} or {last}.")


@pytest.mark.parametrize("target", TARGETS)
def test_a_plan_that_freezes_deeper_is_refused_with_the_ways_to_train_it(tiny, target):
    plan = plan_of(tiny, 3, setup=SETUP, switch=DepthSwitch(1, 3, 20)).model_copy(update={"run": "my-run"})
    with pytest.raises(PlanError) as error:
        export_plan(plan, target)
    assert str(error.value).startswith(
        f"{target} trains the same layers in every step, but this plan freezes deeper after step 20: train it with "
        "semfreeze train. "
    )
    assert "(semfreeze plan my-run --depth 1, and --depth 3 for the model" in str(error.value)


def test_ms_swift_refuses_adapters_on_every_matrix(tiny):
    with pytest.raises(PlanError, match="Make the plan with --lora-targets, such as q_proj,v_proj"):
        export_plan(tiny_plan(tiny, 2, lora=LORA), "ms-swift")


def test_oumi_refuses_plans_that_do_not_list_what_is_frozen(tiny):
    old = {"parameter_names": None}
    plan = tiny_plan(tiny, 2).model_copy(update=old)
    with pytest.raises(
        PlanError, match=r"an earlier semfreeze made it\. Make the plan again with semfreeze plan RUN\."
    ):
        export_plan(plan, "oumi")
    for other in (tiny_plan(tiny, 0), tiny_plan(tiny, 2, lora=LORA)):  # nothing to list
        assert "freeze_layers" not in export_plan(other.model_copy(update=old), "oumi").text
    assert "freeze_config" in export_plan(plan, "nemo-automodel").text


@pytest.mark.parametrize("checkpointing", ["none", "non-reentrant"])
def test_sharded_trainers_say_what_becomes_of_the_saving(tiny, checkpointing):
    plan = tiny_plan(tiny, 2, checkpointing=checkpointing)
    exported = {target: export_plan(plan, target) for target in ("nemo-automodel", "oumi")}
    nemo, oumi = (" ".join(exported[target].notes) for target in exported)
    assert "the gradient ends at the first trained layer" in nemo
    assert ("checkpoints only trained layers" in nemo) == (checkpointing != "none")
    assert "oumi (on transformers 5) then makes" in oumi or "with it on, oumi (on transformers 5) makes" in oumi
    assert "TRANSFORMER_BASED_WRAP" in oumi
    assert ("Accelerate checkpoints the layers itself" in oumi) == (checkpointing != "none")
    for target, section in (("nemo-automodel", "distributed"), ("oumi", "training")):
        said = exported_yaml(plan, target)[section]
        assert said.get("activation_checkpointing", said.get("enable_gradient_checkpointing")) == (
            checkpointing != "none"
        )


@pytest.mark.parametrize(
    ("precision", "nemo", "oumi"),
    [
        ("float32", ("float32", "float32", None, "sdpa"), ("float32", "NONE")),
        ("bf16", ("bfloat16", "bfloat16", None, None), ("bfloat16", "NONE")),
        ("bf16-autocast", ("float32", "float32", "bfloat16", None), ("float32", "BF16")),
    ],
)
def test_sharded_trainers_compute_in_the_plans_precision(tiny, precision, nemo, oumi):
    plan = tiny_plan(tiny, 2, precision=precision)
    config = exported_yaml(plan, "nemo-automodel")
    model, distributed = config["model"], config["distributed"]
    precisions = (model["torch_dtype"], distributed["mp_policy"]["param_dtype"], distributed.get("autocast_dtype"))
    assert (*precisions, model.get("attn_implementation")) == nemo
    config = exported_yaml(plan, "oumi")
    assert (config["model"]["torch_dtype_str"], config["training"]["mixed_precision_dtype"]) == oumi


def test_nemo_automodel_warms_up_for_fewer_steps_than_all(tiny):
    """Its scheduler asserts it."""
    assert exported_yaml(tiny_plan(tiny, 2, steps=1), "nemo-automodel")["lr_scheduler"]["lr_warmup_steps"] == 0
    assert exported_yaml(tiny_plan(tiny, 2, steps=200), "nemo-automodel")["lr_scheduler"]["lr_warmup_steps"] > 1


@pytest.mark.parametrize(("bits", "expected"), [(4, (True, False)), (8, (False, True)), (None, None)])
def test_quantized_layers_under_adapters_are_told(tiny, bits, expected):
    plan = tiny_plan(tiny, 2, lora=LORA, frozen_bits=bits)
    nemo, oumi = exported_yaml(plan, "nemo-automodel"), exported_yaml(plan, "oumi")["peft"]
    if expected is None:
        assert "quantization" not in nemo
        assert "q_lora" not in oumi
        return
    assert (nemo["quantization"]["load_in_4bit"], nemo["quantization"]["load_in_8bit"]) == expected
    assert (oumi["q_lora"], oumi["q_lora_bits"]) == (True, bits)


@pytest.mark.parametrize(
    "target", ["trl", "peft", "axolotl", "ms-swift", "nemo-automodel", "oumi", "unsloth", "mlx-lm"]
)
def test_adapters_beside_other_trained_parts_are_refused(tiny, target):
    parts = TrainableParts((False, False, True, True), False, True, False)
    with pytest.raises(PlanError, match=r"this LoRA plan cannot be exported\. Make it .* without --train-norm"):
        export_plan(tiny_plan(tiny, 2, lora=LORA, parts=parts), target)


@pytest.mark.parametrize(
    "change",
    [
        {"trainable_regex": r"model\.layers\.(?:1|3)\.|model\.norm\.weight$"},
        {"trainable_regex": r"model\.layers\.(?:2|3)\."},
        {"trainable_regex": r".*"},
        {"trainable_regex": r"model\.layers\.(?:2|3)\.|model\.norm\.weight$|"},
        {"n_layers": 6},
    ],
)
def test_plans_that_contradict_themselves_are_refused(tiny, change):
    plan = tiny_plan(tiny, 2)
    assert plan.trainable_regex == r"model\.layers\.(?:2|3)\.|model\.norm\.weight$"
    with pytest.raises(PlanError, match=r"Make (the plan|it) again"):
        export_plan(plan.model_copy(update=change), "axolotl")


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("tiny.GGUF", "a GGUF file"),
        ("embedded", "semfreeze's bundled model"),
        ("adapters", "a folder or repository of adapters"),
    ],
)
def test_models_that_trainers_do_not_load_are_refused_unless_told_where_they_are(
    tiny, tmp_path, monkeypatch, source, what
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "adapter_config.json").write_text("{}")
    plan = tiny_plan(tiny, 2)
    plan = plan.model_copy(update={"model": replace(plan.model, source=source)})
    with pytest.raises(PlanError, match=f"The plan's model is {what}"):
        export_plan(plan, "axolotl")
    with pytest.raises(PlanError, match=f"^--model {source} is {what}.* contains the whole model, or train with"):
        export_plan(plan, "axolotl", model=source)
    assert exported_yaml(plan, "axolotl", model="folder")["base_model"] == "folder"


def test_revision_is_told_of_the_plans_own_model_alone(tiny):
    plan = tiny_plan(tiny, 2)
    plan = plan.model_copy(update={"model": replace(plan.model, source="a/b", revision="c0ffee")})
    for target, line in (("axolotl", "revision_of_model: "), ("llama-factory", "model_revision: ")):
        assert f'{line}"c0ffee"' in export_plan(plan, target).text
        assert "c0ffee" not in export_plan(plan, target, model="elsewhere").text
    assert exported_flags(plan)["model_revision"] == "c0ffee"
    assert 'MODEL, REVISION = "a/b", "c0ffee"' in export_plan(plan, "hf-trainer").text
    assert any("c0ffee" in note for note in export_plan(plan, "mlx-lm").notes)
