"""Freezing and auditing inside a transformers Trainer, and what is built on it (TRL's SFTTrainer)."""

from typing import Any

from accelerate.state import AcceleratorState, DistributedType
from transformers import TrainerCallback

from semfreeze_core.errors import ModelError, PlanError
from semfreeze_core.finetune.audit.audit import AuditReport, audit
from semfreeze_core.finetune.freezing.freeze import Freezing, apply_freeze_plan
from semfreeze_core.finetune.freezing.live_model import require_causal_lm, require_supported, untested
from semfreeze_core.plan.document import FreezePlan


class FreezePlanCallback(TrainerCallback):
    """Trains a plan in a Trainer: Trainer(..., callbacks=[FreezePlanCallback(plan)]).

    The plan is applied when the trainer has been made, before it makes its optimizer, and undone when training ends.
    Checkpointing may be on or off, of either kind; its hooks need no removal.

    Attributes:
        freezing: in place while training; None before and after.
    """

    def __init__(self, plan: FreezePlan, *, check_weights: bool = True) -> None:
        """As `apply_freeze_plan`; the weights are checked once, before they are trained."""
        self.freezing: Freezing | None = None
        self._plan = plan
        self._check_weights = check_weights
        self._model: Any = None

    def on_init_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Apply the plan.

        Raises:
            PlanError: as apply_freeze_plan.
            ModelError: likewise; or the trainer would run in a way that was not tested.
        """
        self._apply(args, model)

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        """Apply the plan again if training has ended once, and check that the optimizer holds what it trains.

        Raises:
            PlanError: it holds something else; or as apply_freeze_plan.
        """
        if model is not self._model or self.freezing is None:
            self._apply(args, model)
        _require_optimizer(self.freezing, optimizer)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Undo it: the model is as before, except for its trained weights."""
        if self.freezing is not None:
            self.freezing.undo()
        self.freezing = None

    def _apply(self, args: Any, model: Any) -> None:
        _require_supported_run(args)
        check = self._check_weights and model is not self._model
        self.freezing = apply_freeze_plan(model, self._plan, check_weights=check)
        self._model = model


class AuditCallback(TrainerCallback):
    """Audits someone's Trainer run after a few of its steps: Trainer(..., callbacks=[AuditCallback()]).

    Attributes:
        report: the result; None before.
    """

    def __init__(self, plan: FreezePlan | None = None, *, after_steps: int = 2, stop_on_problems: bool = True) -> None:
        """Set what to audit against, and when.

        Args:
            plan: what should be trained; without one, what requires a gradient should.
            after_steps: optimizer steps before the audit, at least 1; fewer when the run is shorter.
            stop_on_problems: whether problems end the run with an error; else they are only in the report.
        """
        if after_steps < 1:
            raise PlanError(f"after_steps must be at least 1, found {after_steps}.")
        self.report: AuditReport | None = None
        self._plan = plan
        self._after_steps = after_steps
        self._stop_on_problems = stop_on_problems
        self._steps = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Start counting steps, before the first of which anything would be compiled.

        Raises:
            ModelError: the model or the run is of a kind that cannot be audited.
        """
        self.report, self._steps = None, 0
        _require_supported_run(args)
        require_supported(model)
        require_causal_lm(model)

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        """Audit once.

        Raises:
            PlanError: problems were found and stop_on_problems is set; the message is the report.
            ModelError: the model or the run is of a kind that cannot be audited.
        """
        self._steps += 1
        last = state.global_step >= state.max_steps
        if self.report is not None or not (last or self._steps >= self._after_steps):
            return
        _require_supported_run(args)
        self.report = audit(model, self._plan, optimizer=optimizer)
        if self._stop_on_problems:
            self.report.require()


def _require_supported_run(args: Any) -> None:
    if args.torch_compile:
        raise ModelError(untested("torch.compile"))
    if args.n_gpu > 1:
        raise ModelError(untested("DataParallel"))
    kind = AcceleratorState().distributed_type  # the trainer has made it
    if kind != DistributedType.NO:
        raise ModelError(untested({"MULTI_GPU": "DistributedDataParallel"}.get(kind.value, kind.value)))


def _require_optimizer(freezing: Freezing | None, optimizer: Any) -> None:
    if freezing is None or optimizer is None:
        raise PlanError("The trainer has no optimizer when training begins, so what it will train cannot be checked.")
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    should = {id(p) for p in freezing.trainable_parameters()}
    if held != should:
        raise PlanError(
            f"The trainer's optimizer holds {len(held)} parameters where the plan trains {len(should)} "
            f"({len(should - held)} missing, {len(held - should)} not to be trained): it was made before the plan was "
            "applied. Give FreezePlanCallback to the trainer when you make it (callbacks=[...], with a model, not "
            "model_init), and let it make the optimizer; or call apply_freeze_plan first and make the optimizer from "
            "trainable_parameters()."
        )
