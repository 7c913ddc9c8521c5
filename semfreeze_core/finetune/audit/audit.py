"""Auditing a training as it is: does each trained layer learn, and is the possible saving of freezing realized.

Works on any decoder-only transformers model, frozen by semfreeze or not. One small step is counted three times: as the
model is; with the same parameters trained and the boundary of `freeze` in place, which saves the most; and
with everything trained. All three are counted the same way, with the model's own attention, checkpointing and loss.
"""

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from semfreeze_core.errors import ModelError, PlanError
from semfreeze_core.finetune.audit.gradient_path import trace_step
from semfreeze_core.finetune.audit.model_state import state_preserved
from semfreeze_core.finetune.audit.problems import Finding, Problem, find_problems
from semfreeze_core.finetune.audit.step_count import CountedStep
from semfreeze_core.finetune.freezing.freeze import place_boundary, planned, remove_boundary
from semfreeze_core.finetune.freezing.live_model import base_model, require_causal_lm, require_supported, untested
from semfreeze_core.finetune.quantize.weights import quantized_names
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.sources.models.probe import find_layers
from semfreeze_core.wording.numbers import percent


@dataclass(frozen=True)
class AuditReport:
    """The result of an audit.

    Attributes:
        model: the model's class.
        n_layers: L.
        freeze_depth: layers below the lowest one with a trained parameter (L when there is none).
        gradient_depth: layers below the lowest one that passes a gradient back (L when none does); equal to
            freeze_depth where the saving is realized.
        embedding_output_requires_grad: whether the token embedding's output requires a gradient.
        layers_without_gradient: trained layers that get none.
        attention: transformers' name of the attention that was counted; a CPU's fused attention counts as 0 FLOPs.
        optimizer_checked: whether an optimizer was there to check.
        found: the step as it is.
        ideal: the step with the same (or the plan's) parameters trained and the boundary in place.
        full: the step with everything trained.
        problems: each with its cause and cure; empty when there are none.
    """

    model: str
    n_layers: int
    freeze_depth: int
    gradient_depth: int
    embedding_output_requires_grad: bool
    layers_without_gradient: tuple[int, ...]
    attention: str
    optimizer_checked: bool
    found: CountedStep
    ideal: CountedStep
    full: CountedStep
    problems: tuple[Problem, ...]

    @property
    def realised_flop_fraction(self) -> float | None:
        """Share of the possible FLOP saving that is realized, at most 1; None when nothing could be saved.

        A step that trains less than it should takes less than the best one; that is a problem of its own, no saving.
        """
        return _share(self.found.flop, self.ideal.flop, self.full.flop)

    @property
    def realised_bytes_fraction(self) -> float | None:
        """The same share of the bytes kept for the backward pass."""
        return _share(self.found.saved_bytes, self.ideal.saved_bytes, self.full.saved_bytes)

    def require(self) -> None:
        """Refuse to continue when there are problems.

        Raises:
            PlanError: there are problems; the message is the whole report.
        """
        if self.problems:
            raise PlanError(str(self))

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON document, with the shares."""
        shares = {
            "realised_flop_fraction": self.realised_flop_fraction,
            "realised_bytes_fraction": self.realised_bytes_fraction,
        }
        return {**asdict(self), **shares}

    def __str__(self) -> str:
        lines = [
            f"Audit of {self.model}: layers {self.freeze_depth} to {self.n_layers - 1} of {self.n_layers} trained"
            if self.freeze_depth < self.n_layers
            else f"Audit of {self.model}: none of {self.n_layers} layers trained",
            f"  the gradient {_gradient_sentence(self)}",
            f"  compute saving realized: {_percent(self.realised_flop_fraction)} "
            f"({self.found.flop:,} of {self.full.flop:,} FLOPs on a small step, {self.ideal.flop:,} possible)",
            f"  activation saving realized: {_percent(self.realised_bytes_fraction)} "
            f"({self.found.saved_bytes:,} of {self.full.saved_bytes:,} bytes, {self.ideal.saved_bytes:,} possible)",
            f"  counted with {self.attention} attention"
            + ("" if self.optimizer_checked else "; no optimizer to check"),
        ]
        lines += [f"  problem {i}: {problem}" for i, problem in enumerate(self.problems, start=1)]
        return "\n".join(lines if self.problems else [*lines, "  no problems"])


def audit(model_or_trainer: Any, plan: FreezePlan | None = None, *, optimizer: Any = None) -> AuditReport:
    """Count one small step of a training as it is now, and report its problems.

    The model is restored: gradients, flags, modes, classes, random state. Its hooks run. Needs
    memory for a full step on 2 x 12 tokens, but for one gradient at a time.

    Args:
        model_or_trainer: a model as it is being trained, wrapped by PEFT or not, or a transformers Trainer. A Trainer
            turns checkpointing on when it begins to train: audit it after that, or use AuditCallback.
        plan: what should be trained; without one, what requires a gradient should.
        optimizer: of the training; a trainer's own when there is one.

    Raises:
        PlanError: the plan makes no recommendation or is another model's; the trainer's checkpointing is not on yet.
        ModelError: the model cannot run, is no decoder-only language model, is in a form not supported
            (require_supported), or has weights in 8 or 4 bits.
    """
    model, optimizer = _model_and_optimizer(model_or_trainer, optimizer)
    require_supported(model)
    require_causal_lm(model)
    base = base_model(model)
    _require_countable(base)
    layers = list(find_layers(base)[0])
    # Weights differ from the analyzed ones as soon as training has begun.
    wanted = None if plan is None else planned(base, plan, check_weights=False)
    with state_preserved(model, layers):
        trained = [p for p in model.parameters() if p.requires_grad]
        current, path = trace_step(model, base, layers)
        remove_boundary(layers)
        ideal_parameters = trained if wanted is None else list(wanted.parameters)
        ideal = _count_ideal(model, base, layers, ideal_parameters, path.front)
        full = _count_full(model, base, layers)
    names = {id(p): name for name, p in model.named_parameters()}
    finding = Finding(
        names=names,
        layers=tuple(frozenset(id(p) for p in layer.parameters()) for layer in layers),
        trained=frozenset(map(id, trained)),
        wanted=None if wanted is None else frozenset(map(id, wanted.parameters)),
        in_optimizer=None
        if optimizer is None
        else tuple(id(p) for group in optimizer.param_groups for p in group["params"]),
        path=path,
        realised=(
            _share(current.flop, ideal.flop, full.flop),
            _share(current.saved_bytes, ideal.saved_bytes, full.saved_bytes),
        ),
        checkpointing=_checkpointing(layers),
    )
    return AuditReport(
        model=type(base).__name__,
        n_layers=len(layers),
        freeze_depth=finding.freeze_depth,
        gradient_depth=finding.gradient_depth,
        embedding_output_requires_grad=path.embedding_output_requires_grad,
        layers_without_gradient=finding.layers_without_gradient,
        attention=base.config._attn_implementation,
        optimizer_checked=optimizer is not None,
        found=current,
        ideal=ideal,
        full=full,
        problems=find_problems(finding),
    )


def _require_countable(base: Any) -> None:
    rounded = quantized_names(base)
    if rounded:
        raise ModelError(
            f"{type(base).__name__} cannot be audited: {len(rounded)} of its weights are in 8 or 4 bits "
            f"({rounded[0]}). torch's counter does not see the products that bitsandbytes computes, so its FLOPs would "
            "be wrong, and such weights cannot be trained for comparison. Audit the same training with the base in its "
            "own precision: the path of the gradient does not depend on bits."
        )


def _model_and_optimizer(model_or_trainer: Any, optimizer: Any) -> tuple[Any, Any]:
    if isinstance(model_or_trainer, nn.Module):
        return model_or_trainer, optimizer
    trainer = model_or_trainer
    for flag, what in (("is_fsdp_enabled", "FSDP"), ("is_deepspeed_enabled", "DeepSpeed")):
        if getattr(trainer, flag, False):
            raise ModelError(untested(what))
    require_supported(trainer.model_wrapped)
    is_on = any(getattr(module, "gradient_checkpointing", False) for module in trainer.model.modules())
    if getattr(trainer.args, "gradient_checkpointing", False) and not is_on:
        raise PlanError(
            "The trainer turns gradient checkpointing on when it begins to train, so there is nothing to audit yet: "
            "give it an AuditCallback."
        )
    return trainer.model, trainer.optimizer if optimizer is None else optimizer


def _count_ideal(
    model: Any, base: Any, layers: list[nn.Module], trained: list[nn.Parameter], front: frozenset[int]
) -> CountedStep:
    """The step with these parameters trained and a boundary below the lowest trained layer, where there can be one."""
    model.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    lowest = next((i for i, layer in enumerate(layers) if any(p.requires_grad for p in layer.parameters())), None)
    if not front & set(map(id, trained)):
        place_boundary(layers, len(layers) if lowest is None else lowest)
    counted, _ = trace_step(model, base, layers)
    remove_boundary(layers)
    return counted


def _count_full(model: Any, base: Any, layers: list[nn.Module]) -> CountedStep:
    model.requires_grad_(True)
    return trace_step(model, base, layers)[0]


def _checkpointing(layers: list[nn.Module]) -> str | None:
    """ "reentrant" or "non-reentrant" when a layer is checkpointed, else None."""
    for layer in layers:
        if getattr(layer, "gradient_checkpointing", False):
            how = getattr(getattr(layer, "_gradient_checkpointing_func", None), "keywords", {})
            return "reentrant" if how.get("use_reentrant", True) else "non-reentrant"
    return None


def _share(current: int, ideal: int, full: int) -> float | None:
    return None if full == ideal else min(1.0, (full - current) / (full - ideal))


def _percent(share: float | None) -> str:
    return "nothing to save" if share is None else percent(share)


def _gradient_sentence(report: AuditReport) -> str:
    if report.gradient_depth == report.n_layers:
        return "reaches no layer"
    below = report.freeze_depth - report.gradient_depth
    frozen = f", through {below} frozen layers" if below > 0 else ""
    return f"runs down to layer {report.gradient_depth}{frozen}"
