"""What freezing refuses: plans of other models, adapters amiss, and forms of models that were never tested."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from semfreeze_core.errors import ModelError, PlanError
from semfreeze_core.finetune.audit.audit import audit
from semfreeze_core.finetune.freezing.freeze import apply_freeze_plan, freeze
from semfreeze_core.records.training import DepthSwitch, LoraSetup, TrainableParts
from tests.core.finetune.live_steps import adapt
from tests.core.finetune.plans import SETUP, plan_of, shape_and_names
from tests.core.tiny_models import build_tiny, find_pieces

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # PEFT still asks it
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),  # torch.compile's
]
INTERLEAVED = TrainableParts((False, True, False, True), embeddings=False, final_norm=True, head=False)
LORA = LoraSetup(3)


def tiny(n_layers=4):
    return build_tiny("llama", n_layers=n_layers, tied=False)


def unchanged(model):
    return (
        [p.requires_grad for p in model.parameters()],
        [type(m) for m in model.modules()],
        [m.training for m in model.modules()],
    )


def refuse(model, error, match, plan=None, **options):
    before = unchanged(model)
    with pytest.raises(error, match=match):
        apply_freeze_plan(model, plan, **options)
    assert unchanged(model) == before


def test_apply_freeze_plan_takes_the_plans_own_model_alone():
    plan = plan_of(tiny(), 2)
    refuse(tiny(n_layers=3), PlanError, "its layers or parameters differ", plan)
    trained = tiny()
    with torch.no_grad():
        find_pieces(trained).final_norm.weight.add_(1)
    refuse(trained, PlanError, "its weights differ", plan)
    assert apply_freeze_plan(trained, plan, check_weights=False).parts == plan.trainable
    refuse(tiny(n_layers=3), PlanError, "its layers or parameters differ", plan, check_weights=False)


def test_a_plan_that_freezes_deeper_is_neither_applied_nor_audited_as_if_it_did_not():
    plan = plan_of(tiny(), 3, switch=DepthSwitch(1, 3, 20))
    refuse(tiny(), PlanError, "Another trainer trains the same layers in every step, .* after step 20", plan)
    with pytest.raises(PlanError, match="freezes deeper after step 20"):
        audit(tiny(), plan)


def test_apply_freeze_plan_tells_a_float16_copy_from_another_model():
    plan = plan_of(tiny(), 2)
    half = tiny().half()
    refuse(half, PlanError, r"in float16 .* perhaps by rounding alone\. .* pass check_weights=False", plan)
    assert apply_freeze_plan(half, plan, check_weights=False).parts == plan.trainable
    refuse(tiny(n_layers=3).half(), PlanError, "its layers or parameters differ", plan)
    assert apply_freeze_plan(tiny().bfloat16(), plan).parts == plan.trainable


def test_apply_freeze_plan_refuses_an_abstention():
    refuse(
        tiny(),
        PlanError,
        r"makes no recommendation, so there is nothing to train: Nothing is learned here\.",
        plan_of(tiny(), None),
    )


def test_apply_freeze_plan_refuses_a_frozen_model():
    model, plan = tiny(), plan_of(tiny(), 2)
    with apply_freeze_plan(model, plan):
        refuse(model, ModelError, "frozen already", plan)
    apply_freeze_plan(model, plan).undo()


def test_apply_freeze_plan_tells_adapters_that_are_missing_or_not_wanted():
    adapted_plan = plan_of(tiny(), 2, setup=replace(SETUP, lora=LORA))
    refuse(tiny(), PlanError, "this model has none. Add them first", adapted_plan)
    shape, names = shape_and_names(tiny())
    top = replace(adapted_plan.trainable, layers=(False, False, False, True))
    for wrapped in (True, False):
        model = adapt(tiny(), shape, names.layer_prefix, top, LORA, wrapped=wrapped)
        refuse(model, PlanError, "layers 2 are to be trained, but have no adapters", adapted_plan)
        refuse(model, PlanError, "the model carries adapters", plan_of(tiny(), 2))


def test_apply_freeze_plan_tells_what_peft_has_hidden_from_the_plan():
    setup = replace(SETUP, lora=LORA)
    parts = TrainableParts((False, False, True, True), embeddings=False, final_norm=False, head=True)
    plan = plan_of(tiny(), 2, setup=setup, parts=parts)
    config = LoraConfig(r=3, target_modules=["q_proj"], modules_to_save=["lm_head"])
    refuse(get_peft_model(tiny(), config), PlanError, "lm_head.original_module.weight should be trained itself", plan)


def test_freeze_refuses_parts_that_do_not_fit():
    with pytest.raises(PlanError, match="name 3 layers, but the model has 4"):
        freeze(tiny(), replace(INTERLEAVED, layers=(False, False, True)))
    with pytest.raises(PlanError, match="nothing is to be trained"):
        freeze(tiny(), TrainableParts((False,) * 4, embeddings=False, final_norm=False, head=False))


def wrapper_called(name):
    """A module whose class has a name; the real ones need several processes or devices."""
    kind = type(name, (nn.Module,), {})
    wrapper = kind()
    wrapper.module = tiny()
    return wrapper


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: wrapper_called("FullyShardedDataParallel"), "FSDP"),
        (lambda: wrapper_called("DeepSpeedEngine"), "DeepSpeed"),
        (lambda: wrapper_called("DistributedDataParallel"), "DistributedDataParallel"),
        (lambda: nn.DataParallel(tiny()), "DataParallel"),
        (lambda: torch.compile(tiny()), "torch.compile"),
    ],
)
def test_freeze_refuses_untested_forms_by_name(make, named):
    with pytest.raises(ModelError, match=f"Freezing under {named} has not been tested"):
        freeze(make(), INTERLEAVED)


def test_freeze_refuses_compiled_layers_and_quantized_weights():
    compiled, flagged, packed, spread = tiny(), tiny(), tiny(), tiny()
    find_pieces(compiled).layers[1].compile()
    flagged.is_quantized = True
    head = find_pieces(packed).head
    head.weight = nn.Parameter(head.weight.to(torch.int8), requires_grad=False)
    find_pieces(spread).head.weight.ds_id = 7
    for model, named in (
        (compiled, "torch.compile"),
        (flagged, "quantized weights"),
        (packed, "quantized weights"),
        (spread, "DeepSpeed"),
    ):
        with pytest.raises(ModelError, match=f"under {named} has not been tested"):
            freeze(model, INTERLEAVED)
