"""Whether the fields of a plan agree: each fact that stands there twice is derived from one place and compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from semfreeze_core.errors import PlanError
from semfreeze_core.plan.parameter_names import RegexNames, read_regex, trainable_regex
from semfreeze_core.records.model import ParameterNames
from semfreeze_core.records.training import TrainableParts

if TYPE_CHECKING:
    from semfreeze_core.plan.document import FreezePlan

_WAY_OUT = "Make the plan again; for a depth of your own, with semfreeze plan RUN --depth K."


def require_consistent(plan: FreezePlan, *, where: str = "The plan") -> None:
    """Refuse a plan whose fields contradict each other, on whatever model.

    What trains is `trainable`; every other field that says it too is compared with it.

    Args:
        plan: of any origin.
        where: its file, for the message.

    Raises:
        PlanError: the first contradiction, with both fields and both values.
    """
    problem = next(_contradictions(plan), None)
    if problem is not None:
        raise PlanError(f"{where} contradicts itself: {problem}. {_WAY_OUT}")


def require_names(plan: FreezePlan, names: ParameterNames) -> None:
    """Refuse a plan whose regular expression is not the one of this model's own parameter names.

    Raises:
        PlanError: with both expressions.
    """
    if plan.trainable is None:
        return
    expected = trainable_regex(names, plan.trainable, lora=plan.cost.setup.lora is not None)
    if plan.trainable_regex != expected:
        raise PlanError(
            f"The plan contradicts itself: trainable_regex is {plan.trainable_regex}, but trainable stands for "
            f"{expected} in this model. {_WAY_OUT}"
        )


def _contradictions(plan: FreezePlan) -> Iterator[str]:
    parts = plan.trainable
    yield from _null_fields(plan)
    yield from _switch(plan)
    if plan.candidate_depth is not None and plan.candidate_depth > plan.n_layers:
        yield f"candidate_depth is {plan.candidate_depth}, but n_layers is {plan.n_layers}"
    if parts is not None and plan.trainable_regex is not None and plan.freeze_depth is not None:
        yield from _depth(plan, parts, plan.freeze_depth)
        yield from _regex(plan, parts, plan.trainable_regex)
        yield from _names(plan, parts, plan.trainable_regex)
    yield from _costs(plan)
    yield from _phases(plan)


def _null_fields(plan: FreezePlan) -> Iterator[str]:
    fields = {
        "freeze_depth": plan.freeze_depth,
        "trainable": plan.trainable,
        "trainable_regex": plan.trainable_regex,
        "cost.planned": plan.cost.planned,
    }
    freezes = plan.recommendation == "freeze"
    for name, value in fields.items():
        if (value is not None) != freezes:
            shown = value if isinstance(value, int | str) else "not null"
            yield f"recommendation is {plan.recommendation}, but {name} is {'null' if value is None else shown}"


def _depth(plan: FreezePlan, parts: TrainableParts, depth: int) -> Iterator[str]:
    if len(parts.layers) != plan.n_layers:
        yield f"n_layers is {plan.n_layers}, but trainable.layers lists {len(parts.layers)}"
    if parts.freeze_depth != depth:
        trained = (
            f"trains layer {parts.freeze_depth} first" if any(parts.layers) else f"trains none of {len(parts.layers)}"
        )
        yield f"freeze_depth is {depth}, but trainable.layers {trained}"
    if plan.candidate_depth != depth:
        shown = "null" if plan.candidate_depth is None else plan.candidate_depth
        yield f"freeze_depth is {depth}, but candidate_depth is {shown}"
    chosen = plan.rule_parameters.get("depth", depth) if plan.rule == "manual" else depth
    if chosen != depth or isinstance(chosen, bool):
        yield f"freeze_depth is {depth}, but rule_parameters.depth is {chosen}"
    if not parts.any:
        yield "recommendation is freeze, but trainable trains nothing"


def _switch(plan: FreezePlan) -> Iterator[str]:
    switch, parts = plan.switch, plan.trainable
    if switch is None:
        return
    if parts is None:
        yield f"switch freezes {switch.deep_depth} layers in the end, but trainable is null"
        return
    if switch.deep_depth != plan.freeze_depth:
        yield f"switch freezes {switch.deep_depth} layers in the end, but freeze_depth is {plan.freeze_depth}"
    if not parts.is_suffix or parts.embeddings or parts.head:
        yield "switch is given, but trainable is not the last layers alone"
    if plan.cost.setup.lora is not None:
        yield "switch is given, but cost.setup.lora trains adapters"
    steps = plan.cost.setup.steps
    if not switch.step < steps or (switch.measured and not switch.looks(steps)):
        yield f"switch.step is {switch.step}, but cost.setup.steps is {steps}"


def _phases(plan: FreezePlan) -> Iterator[str]:
    switch, phases, planned = plan.switch, plan.cost.phases, plan.cost.planned
    if (plan.cost.looks is not None) != (switch is not None and switch.measured):
        yield "has one of switch.measured and cost.looks, which are given together"
    if (switch is None) != (phases is None):
        yield "has one of switch and cost.phases, which are given together"
    if switch is None or phases is None or planned is None:
        return
    for name in ("alternative", "transformers_5"):
        if getattr(plan.cost, name) is not None:
            yield f"switch is given, but cost.{name} is the cost of a training without one"
    expected = [
        (switch.wide_depth, switch.step),
        (switch.deep_depth, plan.cost.setup.steps - switch.step),
    ]
    depths_and_steps = [(phase.cost.freeze_depth, phase.steps) for phase in phases]
    if depths_and_steps != expected:
        yield f"cost.phases has depths and steps {depths_and_steps}, but switch and cost.setup.steps make {expected}"
        return
    if planned.flop != (total := sum(phase.cost.flop for phase in phases)):
        yield f"cost.planned.flop is {planned.flop}, but cost.phases make {total}"
    known = [phase.cost.bytes.total for phase in phases]
    most = None if None in known else max(total for total in known if total is not None)
    if planned.bytes.total != most:
        yield f"cost.planned.bytes.total is {planned.bytes.total}, but cost.phases need {most} at most"
    if planned.step_flop != phases[0].cost.step_flop:
        yield "cost.planned.step_flop is not that of the first phase in cost.phases"


def _regex(plan: FreezePlan, parts: TrainableParts, regex: str) -> Iterator[str]:
    names = read_regex(regex, lora=plan.cost.setup.lora is not None)
    said = f"trainable_regex is {regex[:200]}"
    if names is None:
        yield f"{said}, which is not the expression that semfreeze writes for trainable"
        return
    trained = tuple(i for i, flag in enumerate(parts.layers) if flag)
    if names.layers != trained:
        yield f"{said}, but trainable.layers trains {', '.join(map(str, trained)) or 'none'}"
    for part in ("embeddings", "final_norm", "head"):
        flag = getattr(parts, part)
        if _disagrees(names, part, flag=flag, parts=parts):
            yield f"{said}, but trainable.{part} is {str(flag).lower()}"


def _names(plan: FreezePlan, parts: TrainableParts, regex: str) -> Iterator[str]:
    if plan.parameter_names is None:
        return
    expected = trainable_regex(plan.parameter_names, parts, lora=plan.cost.setup.lora is not None)
    if regex != expected:
        yield f"trainable_regex is {regex[:200]}, but parameter_names make it {expected[:200]}"


def _disagrees(names: RegexNames, part: str, *, flag: bool, parts: TrainableParts) -> bool:
    """Whether the expression has this part's names and the flag is false, or the other way round."""
    if getattr(names, part):
        return not flag
    tied = part == "head" and parts.embeddings  # then the embedding's name stands for both
    return flag and not names.unknown and not tied


def _costs(plan: FreezePlan) -> Iterator[str]:
    cost, other = plan.cost, plan.cost.alternative
    entries = {
        "planned": (cost.planned, plan.freeze_depth),
        "full": (cost.full, 0),
        "transformers_5": (cost.transformers_5, plan.freeze_depth),
        "alternative.planned": (None if other is None else other.planned, plan.freeze_depth),
        "alternative.full": (None if other is None else other.full, 0),
        **{f"phases.{i}": (phase.cost, phase.cost.freeze_depth) for i, phase in enumerate(cost.phases or ())},
    }
    for name, (entry, depth) in entries.items():
        if entry is None:
            continue
        if entry.freeze_depth != depth:
            shown = "null" if depth is None else depth
            yield f"cost.{name}.freeze_depth is {entry.freeze_depth}, but it is the cost of depth {shown}"
        step, memory = entry.step_flop, entry.bytes
        spent = step.forward + step.activation_gradient + step.weight_gradient + step.recompute
        if step.total != spent:
            yield f"cost.{name}.step_flop.total is {step.total}, but its parts make {spent}"
        if (memory.total is None) != (memory.activations is None):
            yield f"cost.{name}.bytes has one of activations and total, which are known together"
        elif memory.activations is not None:
            held = memory.weights + memory.gradients + memory.optimizer + memory.activations + memory.logits
            if memory.total != held:
                yield f"cost.{name}.bytes.total is {memory.total}, but its parts make {held}"
