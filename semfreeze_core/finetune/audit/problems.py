"""From what an audit counted to problems, each with its cause and its cure."""

from dataclasses import dataclass
from typing import Literal

from semfreeze_core.finetune.audit.gradient_path import GradientPath
from semfreeze_core.wording.numbers import percent

ProblemKind = Literal[
    "nothing trained",
    "other parameters trained",
    "no gradient",
    "gradient through frozen layers",
    "optimizer",
    "saving lost",
]

# Shares below this are a loss. Counts have no noise, so the gap need only be smaller than one layer's part of it.
_WHOLE = 0.99
_OUR_CURE = "freeze with semfreeze (apply_freeze_plan, or FreezePlanCallback in a Trainer)"


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        kind: of problem.
        cause: why, in a sentence.
        cure: what to do, in a sentence.
    """

    kind: ProblemKind
    cause: str
    cure: str

    def __str__(self) -> str:
        return f"{self.cause} {self.cure}"


@dataclass(frozen=True)
class Finding:
    """All that problems are derived from; parameters by id.

    Attributes:
        names: of every parameter.
        layers: each layer's parameters, length L.
        trained: parameters that require a gradient.
        wanted: parameters that the plan trains, or None without a plan.
        in_optimizer: what the optimizer holds, or None without one.
        path: where the gradient went.
        realised: shares of the possible FLOP and byte savings.
        checkpointing: "reentrant", "non-reentrant" or None.
    """

    names: dict[int, str]
    layers: tuple[frozenset[int], ...]
    trained: frozenset[int]
    wanted: frozenset[int] | None
    in_optimizer: tuple[int, ...] | None
    path: GradientPath
    realised: tuple[float | None, float | None]
    checkpointing: str | None

    @property
    def freeze_depth(self) -> int:
        return next((i for i, layer in enumerate(self.layers) if layer & self.trained), len(self.layers))

    @property
    def gradient_depth(self) -> int:
        carrying = self.path.carrying
        return carrying.index(True) if True in carrying else len(self.layers)

    @property
    def layers_without_gradient(self) -> tuple[int, ...]:
        """Layers that are trained, none of whose parameters get a gradient."""
        return tuple(
            i
            for i, layer in enumerate(self.layers)
            if layer & self.trained and not layer & self.trained & self.path.reached
        )

    def first(self, parameters: frozenset[int]) -> str:
        """How many, and the name of the first."""
        names = [name for key, name in self.names.items() if key in parameters]
        return f"{len(parameters)} ({names[0]}{', ...' if len(parameters) > 1 else ''})"


def find_problems(finding: Finding) -> tuple[Problem, ...]:
    """All problems, the most harmful first; empty when there are none."""
    if not finding.trained:
        return (Problem("nothing trained", "No parameter requires a gradient.", f"To train, {_OUR_CURE}."),)
    problems = [*_no_gradient(finding), *_other_parameters(finding), *_optimizer(finding), *_frozen_carry(finding)]
    return tuple(problems or _saving_lost(finding))


def _no_gradient(finding: Finding) -> list[Problem]:
    inside = frozenset().union(*finding.layers)
    around = (finding.trained - inside) - finding.path.reached
    layers = finding.layers_without_gradient
    problems = []
    if layers:
        which = f"Trained layers {', '.join(map(str, layers))} get no gradient"
        if finding.checkpointing == "reentrant":
            cause = f"{which}: reentrant checkpointing gives a layer none unless the layer's input requires one."
            cure = f"Use use_reentrant=False, or {_OUR_CURE}."
        else:
            cause = f"{which}: they run without a graph (torch.no_grad, a detached output, a cache)."
            cure = "Find what cuts the graph above them, and remove it."
        problems.append(Problem("no gradient", cause, cure))
    if around:
        cause = f"Trained parameters outside the layers get no gradient: {finding.first(around)}."
        problems.append(Problem("no gradient", cause, "Freeze them, or find what cuts the graph above them."))
    return problems


def _other_parameters(finding: Finding) -> list[Problem]:
    if finding.wanted is None or finding.wanted == finding.trained:
        return []
    missing, extra = finding.wanted - finding.trained, finding.trained - finding.wanted
    parts = [f"{finding.first(missing)} of the plan's parameters are frozen"] if missing else []
    parts += [f"{finding.first(extra)} are trained although the plan freezes them"] if extra else []
    cure = f"Set no requires_grad yourself: {_OUR_CURE}."
    return [
        Problem("other parameters trained", f"What is trained is not what the plan trains: {'; '.join(parts)}.", cure)
    ]


def _optimizer(finding: Finding) -> list[Problem]:
    if finding.in_optimizer is None:
        return []
    held, should = frozenset(finding.in_optimizer), finding.wanted or finding.trained
    cure = "Create the optimizer after freezing, from Freezing.trainable_parameters() or what requires a gradient."
    problems = []
    if missing := should - held:
        cause = f"The optimizer lacks {finding.first(missing)} of the parameters to be trained, which never change."
        problems.append(Problem("optimizer", cause, cure))
    if extra := (held & frozenset(finding.names)) - should:
        cause = f"The optimizer holds {finding.first(extra)} parameters that are not to be trained."
        problems.append(Problem("optimizer", cause, cure))
    if held - frozenset(finding.names):
        cause = f"The optimizer holds {len(held - frozenset(finding.names))} parameters of another model, or of a copy."
        problems.append(Problem("optimizer", cause, cure))
    return problems


def _frozen_carry(finding: Finding) -> list[Problem]:
    if finding.gradient_depth >= finding.freeze_depth:
        return []
    which = f"{finding.freeze_depth - finding.gradient_depth} frozen layers pass the gradient back"
    front = finding.trained & finding.path.front
    if front and finding.wanted is not None and front <= finding.wanted:
        return []  # the plan's own choice, included in its estimate
    if front:
        cause = f"{which}, because something below them is trained: {finding.first(front)}."
        cure = "Freeze it (embeddings, and a head that is tied to them), unless it must be trained."
    elif finding.path.embedding_output_requires_grad:
        cause = (
            f"{which}, because the embedding's output requires a gradient although nothing there is trained: "
            "enable_input_require_grads() was called, as turning gradient checkpointing on does by itself in "
            "transformers 5, and TRL with adapters."
        )
        hook = "call model.disable_input_require_grads() after checkpointing is on"
        cure = f"To end the gradient below layer {finding.freeze_depth}, {_OUR_CURE}" + (
            "." if finding.checkpointing == "reentrant" else f"; or {hook}."
        )
    else:
        cause = f"{which}, because the input of layer {finding.gradient_depth} requires a gradient."
        cure = f"To end the gradient below layer {finding.freeze_depth}, {_OUR_CURE}."
    return [Problem("gradient through frozen layers", cause, cure)]


def _saving_lost(finding: Finding) -> list[Problem]:
    problems = []
    for share, what in zip(finding.realised, ("compute", "activation"), strict=True):
        if share is not None and share < _WHOLE:
            cause = f"Only {percent(share)} of the possible {what} saving is realized, for an unknown reason."
            problems.append(Problem("saving lost", cause, f"To realize it, {_OUR_CURE}."))
    return problems
