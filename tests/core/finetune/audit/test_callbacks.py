"""Plans and audits in transformers' Trainer and TRL's SFTTrainer: what they lose as shipped, and lose no more."""

from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from accelerate.state import DistributedType
from peft import LoraConfig
from torch.utils.flop_counter import FlopCounterMode
from transformers import Trainer, TrainingArguments

from semfreeze_core.cost import parts_at_depth, step_flop
from semfreeze_core.errors import ModelError, PlanError
from semfreeze_core.finetune.audit.audit import audit
from semfreeze_core.finetune.audit.callbacks import AuditCallback, FreezePlanCallback
from semfreeze_core.finetune.freezing.freeze import apply_freeze_plan
from semfreeze_core.records.training import LoraSetup
from tests.core.finetune.live_steps import freeze_by_flags, tokens_of
from tests.core.finetune.plans import SETUP, plan_of, shape_and_names
from tests.core.tiny_models import build_tiny, find_pieces
from tests.core.tiny_tokenizer import build_tiny_tokenizer

pytestmark = [
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad"),  # the very fault that is looked for
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # PEFT still asks it
]
TRL_ASKS = "ignore:`gradient_checkpointing` is deprecated:FutureWarning"  # its default sets the old name
N_LAYERS, K, STEPS = 4, 2, 2
STOCK = replace(SETUP, checkpointing="transformers-5")
OURS = replace(SETUP, checkpointing="non-reentrant")


def tiny(seed=0):
    return build_tiny("llama", n_layers=N_LAYERS, tied=True, attention="eager", seed=seed)


def counted(trainer_class):
    """The trainer, with the FLOP of each training step counted as it runs."""

    class Counted(trainer_class):
        def training_step(self, *args, **kwargs):
            with FlopCounterMode(display=False) as counter:
                loss = super().training_step(*args, **kwargs)
            self.flop = [*getattr(self, "flop", []), counter.get_total_flops()]
            return loss

    return Counted


QUIET = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 2,
    "report_to": [],
    "use_cpu": True,
    "disable_tqdm": True,
    "save_strategy": "no",
    "logging_strategy": "no",
}


@pytest.fixture
def make_trainer(tmp_path):
    """A Trainer of two steps of 2 x 8 tokens, checkpointed as transformers does it by default."""

    def make(model, callbacks, *, optimizer=None, **options):
        ids = tokens_of(tiny(), (2 * STEPS, SETUP.sequence_length))
        args = TrainingArguments(str(tmp_path), **{"activation_checkpointing": True, **QUIET, **options})
        rows = [{"input_ids": row, "labels": row} for row in ids]
        return counted(Trainer)(
            model=model, args=args, train_dataset=rows, callbacks=callbacks, optimizers=(optimizer, None)
        )

    return make


def flop_of(setup, k):
    shape, _ = shape_and_names(tiny())
    return step_flop(shape, setup, parts_at_depth(shape, k)).total


# transformers


def test_trainer_as_shipped_loses_the_saving_and_the_audit_says_so(make_trainer):
    model, watch = tiny(), AuditCallback(stop_on_problems=False)
    freeze_by_flags(model, K)
    trainer = make_trainer(model, [watch])
    trainer.train()
    full = flop_of(OURS, 0)
    assert trainer.flop == [flop_of(STOCK, K)] * STEPS
    assert trainer.flop[0] / full > 0.85
    assert [problem.kind for problem in watch.report.problems] == ["gradient through frozen layers"]
    assert watch.report.realised_flop_fraction < 0.5


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("reentrant", [False, True])
def test_trainer_with_freeze_plan_callback_costs_what_the_plan_says(make_trainer, reentrant):
    model = tiny()
    plan = plan_of(model, K)
    flags, classes = [p.requires_grad for p in model.parameters()], [type(m) for m in model.modules()]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    freeze_plan, watch = FreezePlanCallback(plan), AuditCallback(plan)
    kwargs = {"use_reentrant": reentrant}
    trainer = make_trainer(model, [freeze_plan, watch], activation_checkpointing_kwargs=kwargs)
    names = freeze_plan.freezing.trainable_names
    trainer.train()
    assert trainer.flop == [flop_of(replace(OURS, checkpointing="reentrant") if reentrant else OURS, K)] * STEPS
    assert trainer.flop[0] / flop_of(OURS, 0) < 0.7
    assert watch.report.problems == ()
    assert watch.report.optimizer_checked
    assert watch.report.realised_flop_fraction == watch.report.realised_bytes_fraction == 1
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(names)
    # undone
    assert freeze_plan.freezing is None
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [type(m) for m in model.modules()] == classes


def test_trainer_without_the_hook_under_reentrant_checkpointing_learns_nothing_in_its_layers(make_trainer):
    model, watch = tiny(), AuditCallback()
    freeze_by_flags(model, K)
    model.enable_input_require_grads = lambda: None  # what people remove to get the saving back
    trainer = make_trainer(model, [watch], activation_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(PlanError, match="Trained layers 2, 3 get no gradient: reentrant checkpointing"):
        trainer.train()


@pytest.mark.quick_cases(0)
def test_freeze_plan_callback_lets_a_trainer_train_again(make_trainer):
    model = tiny()
    watch = AuditCallback(plan_of(model, K))
    trainer = make_trainer(model, [FreezePlanCallback(plan_of(model, K)), watch])
    trainer.train()
    trainer.train()  # with other weights than the plan was made for, by its own doing
    assert trainer.flop == [flop_of(OURS, K)] * 2 * STEPS
    assert watch.report.problems == ()


def test_freeze_plan_callback_in_bfloat16_autocast_realises_the_saving(make_trainer):
    model = tiny()
    watch = AuditCallback()
    make_trainer(model, [FreezePlanCallback(plan_of(model, K)), watch], bf16=True).train()
    assert watch.report.realised_flop_fraction == watch.report.realised_bytes_fraction == 1


def test_freeze_plan_callback_refuses_an_optimizer_made_before_it(make_trainer):
    model = tiny()
    late = make_trainer(model, [])
    late.add_callback(FreezePlanCallback(plan_of(model, K)))
    with pytest.raises(PlanError, match=r"holds 38 parameters where the plan trains 19 \(0 missing, 19 not to be"):
        late.train()
    model = tiny()
    few = torch.optim.SGD(find_pieces(model).final_norm.parameters(), lr=0.1)
    with pytest.raises(PlanError, match=r"\(18 missing, 0 not to be trained\).*make it \(callbacks"):
        make_trainer(model, [FreezePlanCallback(plan_of(model, K))], optimizer=few).train()


def test_freeze_plan_callback_takes_an_optimizer_made_from_trainable_parameters(make_trainer):
    model = tiny()
    with apply_freeze_plan(model, plan_of(model, K)) as freezing:
        optimizer = torch.optim.SGD(freezing.trainable_parameters(), lr=0.1)
    trainer = make_trainer(model, [FreezePlanCallback(plan_of(model, K))], optimizer=optimizer)
    trainer.train()
    assert trainer.flop == [flop_of(OURS, K)] * STEPS


def test_freeze_plan_callback_checks_the_weights_once(make_trainer):
    plan = plan_of(tiny(seed=1), K)
    with pytest.raises(PlanError, match="its weights differ"):
        make_trainer(tiny(), [FreezePlanCallback(plan)])
    make_trainer(tiny(), [FreezePlanCallback(plan, check_weights=False)]).train()


@pytest.mark.parametrize(
    ("args", "kind", "named"),
    [
        ({"torch_compile": True}, "NO", "torch.compile"),
        ({"n_gpu": 2}, "NO", "DataParallel"),
        ({}, "FSDP", "FSDP"),
        ({}, "DEEPSPEED", "DEEPSPEED"),
        ({}, "MULTI_GPU", "DistributedDataParallel"),
    ],
)
def test_callbacks_refuse_untested_runs_by_name(args, kind, named):
    run = SimpleNamespace(**{"torch_compile": False, "n_gpu": 1, **args})
    state = SimpleNamespace(global_step=1, max_steps=1)
    callback = FreezePlanCallback(plan_of(tiny(), K))
    running = SimpleNamespace(distributed_type=DistributedType(kind))
    with patch("semfreeze_core.finetune.audit.callbacks.AcceleratorState", lambda: running):
        for begin in (callback.on_init_end, AuditCallback().on_step_end):
            with pytest.raises(ModelError, match=f"under {named} has not been tested"):
                begin(run, state, None, model=tiny())


# AuditCallback


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize(("after", "audited_at"), [(1, 1), (2, 2), (9, STEPS)])
def test_audit_callback_audits_once_after_as_many_steps_or_at_the_last(make_trainer, after, audited_at):
    model = tiny()
    watch, steps = AuditCallback(after_steps=after), []
    trainer = make_trainer(model, [watch], activation_checkpointing=False)

    def note(*args, **kwargs):
        steps.append(trainer.state.global_step)
        return audit(*args, **kwargs)

    with patch("semfreeze_core.finetune.audit.callbacks.audit", note):
        trainer.train()
    assert steps == [audited_at]


def test_audit_callback_changes_nothing_in_a_run(make_trainer):
    losses = []
    for callbacks in ([], [AuditCallback(stop_on_problems=False)]):
        model = tiny()
        make_trainer(model, callbacks).train()
        losses.append([p.detach().clone() for p in model.parameters()])
    assert all(map(torch.equal, *losses))


def test_audit_callback_wants_a_step():
    with pytest.raises(PlanError, match="after_steps must be at least 1, found 0"):
        AuditCallback(after_steps=0)


def test_audit_of_a_trainer_waits_until_it_has_begun(make_trainer):
    model = tiny()
    freeze_by_flags(model, K)
    trainer = make_trainer(model, [])
    with pytest.raises(PlanError, match="give it an AuditCallback"):
        audit(trainer)
    trainer.train()
    report = audit(trainer)
    assert report.optimizer_checked
    assert [problem.kind for problem in report.problems] == ["gradient through frozen layers"]


# TRL


@pytest.fixture
def train_with_trl(tmp_path):
    """Run SFTTrainer as it comes, with adapters on some layers; FLOP of its first step."""
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()

    def train(layers, callbacks, **options):
        ids = tokens_of(tiny(), (2 * STEPS, SETUP.sequence_length)).tolist()
        trainer = counted(SFTTrainer)(
            model=tiny(),
            args=SFTConfig(str(tmp_path), bf16=False, **{**QUIET, **options}),
            train_dataset=Dataset.from_list([{"input_ids": row, "labels": row} for row in ids]),
            processing_class=build_tiny_tokenizer(),
            peft_config=LoraConfig(
                r=4,
                target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
                layers_to_transform=layers,
                layers_pattern="layers",
            ),
            callbacks=callbacks,
        )
        trainer.train()
        assert trainer.args.gradient_checkpointing  # TRL's default
        return trainer.flop[0]

    return train


@pytest.mark.quick_cases(0)
@pytest.mark.filterwarnings(TRL_ASKS)
@pytest.mark.parametrize("reentrant", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_trl_as_shipped_loses_the_saving_and_freeze_plan_callback_gives_it_back(train_with_trl, reentrant):
    kwargs = {"activation_checkpointing_kwargs": {"use_reentrant": reentrant}}
    mode = "reentrant" if reentrant else "non-reentrant"
    setup = replace(OURS, checkpointing=mode, lora=LoraSetup(4))
    plan, top = plan_of(tiny(), K, setup=setup), list(range(K, N_LAYERS))
    watch = AuditCallback(stop_on_problems=False)
    shipped = train_with_trl(top, [watch], **kwargs)
    assert [problem.kind for problem in watch.report.problems] == ["gradient through frozen layers"]
    watch = AuditCallback(plan)
    cured = train_with_trl(top, [FreezePlanCallback(plan), watch], **kwargs)
    assert watch.report.problems == ()
    assert watch.report.realised_flop_fraction == watch.report.realised_bytes_fraction == 1
    # what is gone is all that frozen layers did on the way back: C + 2 A, and C + A (less the last matrix) again
    layer = shape_and_names(tiny())[0].layers[0]
    linear, attention = 2 * 16 * layer.linear_weights, 4 * 16 * 8 * 32
    again = linear + attention - (0 if reentrant else 2 * 16 * 48 * 32)
    assert shipped - cured == K * (linear + 2 * attention + again)
    assert cured < 0.75 * shipped
