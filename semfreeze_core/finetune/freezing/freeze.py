"""Freezing on a live model: the planned parameters train and no others, with the saving that the plan estimates.

Setting requires_grad alone is not enough. Turning gradient checkpointing on makes the embedding's output require a
gradient (transformers 5, TRL with adapters), and then every frozen layer carries the activation gradient and is
recomputed in the backward pass; without it, reentrant checkpointing gives trained layers no gradient at all. So the
frozen layers below the first trained one run without a graph, outside checkpointing, and that one gets a detached input
that requires a gradient: it works in every mode, in any order, whatever hooks there are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import nn

from semfreeze_core.errors import ModelError, PlanError
from semfreeze_core.finetune.freezing.layer_call import is_replaced, original_call, replace_call, restore_call
from semfreeze_core.finetune.freezing.live_model import (
    adapters_in,
    base_model,
    identify_base,
    plain_name,
    require_supported,
)
from semfreeze_core.finetune.quantize.weights import disable_packing, enable_packing, is_quantized, quantized_names
from semfreeze_core.plan.document import FreezePlan, require_one_phase, require_recommendation, trainable_names
from semfreeze_core.plan.parameter_names import trainable_regex
from semfreeze_core.records.model import ParameterNames
from semfreeze_core.records.training import TrainableParts
from semfreeze_core.sources.models.decoder import find_parts
from semfreeze_core.sources.models.probe import find_layers, layer_input


class Freezing:
    """A model that trains its given parts; `undo`, or leaving it as a context, restores the model.

    Attributes:
        parts: what is trained; a tied head and its embedding together.
        trainable_names: names of the trained parameters in `model.named_parameters()`.
        has_boundary: whether the layers below `parts.freeze_depth` run without a graph; trained embeddings forbid it.
    """

    def __init__(self, model: nn.Module, layers: Sequence[nn.Module], wanted: "Wanted") -> None:
        self.parts = wanted.parts
        self.has_boundary = not wanted.parts.embeddings
        self._layers = layers
        self._boundary = wanted.parts.freeze_depth
        self._flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        self._trainable: list[nn.Parameter] = []
        trained = {id(parameter) for parameter in wanted.parameters}
        names: list[str] = []
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(id(parameter) in trained)
            if parameter.requires_grad:
                names.append(name)
                self._trainable.append(parameter)
            else:
                parameter.grad = None  # an optimizer would still step along a gradient left from before
        self.trainable_names = tuple(names)
        self._packing = disable_packing(
            model
        )  # else an evaluation on a CPU would silently end the training of 4-bit layers
        if self.has_boundary:
            place_boundary(layers, self.parts.freeze_depth)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What the optimizer should hold."""
        return list(self._trainable)

    def replace_parameters(self, model: nn.Module) -> None:
        """Hold the parameters that were put in the place of the model's own, as sharding does, so that those are freed.

        Args:
            model: the same, whose parameters have their names and flags.
        """
        parameters = list(model.parameters())
        self._flags = [(parameter, flag) for parameter, (_, flag) in zip(parameters, self._flags, strict=True)]
        self._trainable = [parameter for parameter in parameters if parameter.requires_grad]

    def move_boundary(self, k: int) -> None:
        """Let the steps from now on train layers k.. alone of those that it trains, until it is called again.

        Layers below get no gradient: an optimizer leaves their weights and moments as they are.

        Args:
            k: from `parts.freeze_depth` on, less than L.

        Raises:
            ValueError: k is another one, or there is no boundary that could move.
        """
        lowest = self.parts.freeze_depth
        if not (self.has_boundary and lowest <= k < len(self._layers)):
            raise ValueError(f"the boundary can be at layers {lowest} to {len(self._layers) - 1}, not at {k}")
        if k == self._boundary:
            return
        above = self._layers[lowest:]  # a prefix cache may answer for those below
        remove_boundary(above)
        place_boundary(above, k - lowest)
        self._boundary = k

    def undo(self) -> None:
        """Restore every parameter's requires_grad and every layer's class; a second call does nothing."""
        flags, self._flags = self._flags, []
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        enable_packing(self._packing)
        self._packing = []
        if flags and self.has_boundary:
            remove_boundary(self._layers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def apply_freeze_plan(model: Any, plan: FreezePlan, *, check_weights: bool = True) -> Freezing:
    """Let a model train exactly what a plan says, at the plan's cost.

    Give the optimizer `trainable_parameters()` of what is returned, or create it afterwards from all that requires a
    gradient. Gradients that frozen parameters hold are dropped.

    Args:
        model: the plan's model, wrapped by PEFT or not; a LoRA plan needs its adapters in place, and its base may be in
            8 or 4 bits by bitsandbytes.
        plan: what to train.
        check_weights: whether the weights must be those that were analyzed; the structure must be in any case. A model
            that has been trained since needs False, and so does one in 8 or 4 bits.

    Raises:
        PlanError: the plan makes no recommendation, freezes deeper at a step, is another model's, or names adapters
            that are missing or not wanted; it would train quantized weights, or compare them with the analyzed ones.
        ModelError: the model is frozen already, or in a form not supported (require_supported).
    """
    require_supported(model)
    base = base_model(model)
    return _freeze(model, base, planned(base, plan, check_weights=check_weights))


def freeze(model: Any, parts: TrainableParts, *, names: ParameterNames | None = None, lora: bool = False) -> Freezing:
    """Let a model train exactly these parts; `apply_freeze_plan` without a plan.

    Args:
        model: a decoder-only transformers model, wrapped by PEFT or not.
        parts: what is trained, of any selection; only the layers below the lowest trained one run without a graph. A
            tied head and its embedding are trained when either is.
        names: where the parts are; found by a probe when None.
        lora: whether the trained layers train their adapters in place of their own weights.

    Raises:
        PlanError: nothing is trained, parts are for another number of layers, or adapters are missing or not wanted.
        ModelError: the model is frozen already, or not supported.
    """
    require_supported(model)
    base = base_model(model)
    names = names or _find_names(base)
    if base.get_input_embeddings().weight is base.get_output_embeddings().weight:
        tied = parts.embeddings or parts.head
        parts = replace(parts, embeddings=tied, head=tied)
    return _freeze(model, base, _wanted(base, trainable_regex(names, parts, lora=lora), parts, lora=lora))


@dataclass(frozen=True)
class Wanted:
    """What is to be trained of one model.

    Attributes:
        parts: as in the plan.
        parameters: the parameters themselves.
    """

    parts: TrainableParts
    parameters: tuple[nn.Parameter, ...]


def planned(base: Any, plan: FreezePlan, *, check_weights: bool) -> Wanted:
    """The parameters of an unwrapped model that a plan trains; the model does not change.

    Raises:
        PlanError: as apply_freeze_plan.
    """
    require_one_phase(plan, "Another trainer")
    identity, rounded = identify_base(base), quantized_names(base)
    halved = next((name for name, p in base.named_parameters() if p.dtype == torch.float16), None)
    analyzed = plan.model
    if (
        check_weights
        and halved is not None
        and identity.structure_digest == analyzed.structure_digest
        and identity.weights_digest != analyzed.weights_digest
    ):
        raise PlanError(
            f"{type(base).__name__}: its weights are in float16 ({halved}) and differ from those that were analyzed, "
            "perhaps by rounding alone. Load the model in float32 or bfloat16, which can be compared; if it is the "
            "plan's model, pass check_weights=False."
        )
    if rounded or not check_weights:
        identity = replace(identity, weights_digest=analyzed.weights_digest)
    trainable_names(plan, identity, [name for name, _ in base.named_parameters()])
    if check_weights and rounded:
        raise PlanError(
            f"{type(base).__name__}: its weights are in 8 or 4 bits ({rounded[0]}), which cannot be compared with "
            "those that were analyzed: if it is the plan's model, pass check_weights=False. Its layers and "
            "parameters are the plan's."
        )
    wanted = _wanted(
        base, str(plan.trainable_regex), require_recommendation(plan), lora=plan.cost.setup.lora is not None
    )
    _require_parts(base, wanted)
    return wanted


def _require_parts(base: Any, wanted: Wanted) -> None:
    """Refuse a plan whose expression names an embedding or a head that its parts freeze, or leaves out one they train.

    Raises:
        PlanError: naming both fields.
    """
    trained = {id(parameter) for parameter in wanted.parameters}
    embeddings, head = base.get_input_embeddings(), base.get_output_embeddings()
    parts = wanted.parts
    is_tied = getattr(embeddings, "weight", None) is getattr(head, "weight", None)
    either = parts.embeddings or parts.head
    for name, module, flag in (("embeddings", embeddings, parts.embeddings), ("head", head, parts.head)):
        weight = getattr(module, "weight", None)
        if weight is not None and (id(weight) in trained) != (either if is_tied else flag):
            verb = "matches" if id(weight) in trained else "does not match"
            raise PlanError(
                f"{type(base).__name__}: the plan contradicts itself: trainable.{name} is {str(flag).lower()}, but "
                f"trainable_regex {verb} that weight. Make the plan again."
            )


def _wanted(base: Any, regex: str, parts: TrainableParts, *, lora: bool) -> Wanted:
    layers, prefix = find_layers(base)
    matches = {name: p for name, p in base.named_parameters() if re.match(regex, name)}
    problems = []
    if len(layers) != len(parts.layers):
        raise PlanError(f"The trainable parts name {len(parts.layers)} layers, but the model has {len(layers)}.")
    if not lora and (added := adapters_in(base)):
        problems.append(
            f"the layers' own weights are to be trained, but the model carries adapters ({added[0]}): merge them, or "
            "make a plan with LoRA"
        )
    rounded = [name for name, p in matches.items() if is_quantized(p)]
    if rounded:
        problems.append(
            f"{len(rounded)} weights to be trained are in 8 or 4 bits ({rounded[0]}), which take no gradient: load the "
            "model in its own precision, or make a plan with LoRA"
        )
    bare = [
        i
        for i, trained in enumerate(parts.layers)
        if trained and not any(n.startswith(f"{prefix}{i}.") for n in matches)
    ]
    if bare:
        what = "adapters: add them first, for example with PEFT" if lora else "parameters"
        problems.append(f"layers {', '.join(map(str, bare))} are to be trained, but have no {what}")
    # PEFT renames what it wraps (modules_to_save, adapters on the head), so that a plan's names would miss it.
    outside = [name for name, _ in base.named_parameters() if not name.startswith(prefix)]
    hidden = [name for name in outside if re.match(regex, plain_name(name)) and name not in matches]
    if hidden:
        problems.append(
            f"{', '.join(hidden)} should be trained itself, but PEFT has wrapped it: leave it out of the adapters' "
            "target_modules and modules_to_save"
        )
    if not (matches or problems):
        problems.append("nothing is to be trained: train at least one layer, the final norm or the head")
    if problems:
        raise PlanError(f"{type(base).__name__}: {'; '.join(problems)}.")
    return Wanted(parts, tuple(matches.values()))


def _freeze(model: Any, base: Any, wanted: Wanted) -> Freezing:
    layers = list(find_layers(base)[0])
    if any(is_replaced(layer) for layer in layers):
        raise ModelError(f"This {type(base).__name__} is frozen already: undo that first.")
    return Freezing(model, layers, wanted)


def _find_names(base: Any) -> ParameterNames:
    modes = [(module, module.training) for module in base.modules()]
    packing = disable_packing(base)
    try:
        return find_parts(base).names
    finally:
        enable_packing(packing)
        for module, training in modes:
            module.training = training


def place_boundary(layers: Sequence[nn.Module], k: int) -> None:
    """Let layers 0..k-1 run without a graph, and layer k, if there is one, start it with a detached input."""
    for layer in layers[:k]:
        replace_call(layer, _run_without_graph)
    for layer in layers[k : k + 1]:
        replace_call(layer, _begin_graph, checkpointed=True)


def remove_boundary(layers: Sequence[nn.Module]) -> None:
    """Restore every layer's class."""
    for layer in layers:
        restore_call(layer)


def _run_without_graph(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    with torch.no_grad():  # as a context, gradients are on again when the layer raises
        return original_call(layer, *args, **kwargs)


def _begin_graph(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    if torch.is_grad_enabled():
        # Reentrant checkpointing gives a layer's parameters no gradient unless its input requires one.
        state = layer_input(args, kwargs).detach().requires_grad_(True)
        args, kwargs = ((state, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": state})
    return original_call(layer, *args, **kwargs)
