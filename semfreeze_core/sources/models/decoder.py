"""Finding the parts of a decoder-only language model, and verifying that they are the parts.

Nothing here knows a family by name. A probe of a few tokens runs through the model with hooks on every module; the
layers are the module list whose entries hand the hidden state on from one to the next, the final norm is the module
that takes the last layer's output and gives the head its input, and the head is the model's own output embedding.
The finding counts only if head(final_norm(last latent space)) reproduces the model's own logits.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from semfreeze_core.errors import ModelError
from semfreeze_core.records.model import ParameterNames
from semfreeze_core.sources.models.placement import is_elsewhere
from semfreeze_core.sources.models.probe import (
    Call,
    Probe,
    check_causal,
    check_chain,
    check_finite,
    find_layers,
    run_probe,
)


@dataclass(frozen=True)
class HeadTransform:
    """What a model does to its head's output: softcap * tanh(scale * x / softcap), or scale * x without a cap."""

    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        scaled = logits * self.scale if self.scale != 1.0 else logits
        return scaled if self.softcap is None else torch.tanh(scaled / self.softcap) * self.softcap


@dataclass(frozen=True)
class Parts:
    """A model's parts as found by structure, not yet verified (a model without weights cannot be).

    Attributes:
        layers: the L transformer blocks.
        front: modules with parameters of their own that run before layer 0.
        final_norm: maps a raw latent space to what the head reads (an identity when the model has none; several modules
            in a row when the model has, such as OPT's norm and projection).
        head: the output matrix.
        embedding: the token embedding.
        names: where the parts' parameters live.
        tied: whether head and embedding share their weight.
        forward_flop: FLOPs of the probe as torch counts them, 0 when they were not to be counted.
    """

    layers: nn.ModuleList
    front: tuple[nn.Module, ...]
    final_norm: nn.Module
    head: nn.Linear
    embedding: nn.Embedding
    names: ParameterNames
    tied: bool
    forward_flop: int


@dataclass(frozen=True)
class Decoder(Parts):
    """A causal language model with its parts found and verified.

    Attributes:
        model: the whole model, in eval mode.
        base: the model without its head.
        transform: scale and soft-cap after the head.
        logits_error: largest difference between rebuilt and own logits on the probe, over the logits' spread.
        probe_spaces: raw states (2, T, d) of the probe at spaces 0..L, where layers are kept off the device; else none.
    """

    model: Any
    base: nn.Module
    transform: HeadTransform
    logits_error: float
    probe_spaces: tuple[Tensor, ...] = ()

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.head.weight.dtype

    def logits(self, normalized: Tensor) -> Tensor:
        """The model's logits of normalized states (..., width of the head), float32 (..., V)."""
        return self.transform(self.head(normalized.to(self.dtype)).float())


def find_decoder(model: Any) -> Decoder:
    """Find and verify the parts of a decoder-only AutoModelForCausalLM.

    Raises:
        ModelError: the model cannot run, a part is missing, states are not handed on from layer to layer, the model
            looks ahead, a state is not finite, or the rebuilt logits differ from its own; the message says which.
    """
    parts, probe = _trace_parts(model.eval(), verify=True)
    with torch.no_grad():
        rebuilt = parts.head(parts.final_norm(probe.spaces[-1])).float()
    transform, error = _head_transform(model, probe, rebuilt)
    spaces = tuple(probe.spaces) if is_elsewhere(model) else ()
    return Decoder(
        **vars(parts), model=model, base=model.base_model, transform=transform, logits_error=error, probe_spaces=spaces
    )


def find_parts(model: Any) -> Parts:
    """Find a model's parts by structure alone, and count a forward pass; works without weights, on fake tensors.

    Raises:
        ModelError: the model cannot run, or a part is missing.
    """
    return _trace_parts(model.eval(), verify=False)[0]


def _trace_parts(model: Any, *, verify: bool) -> tuple[Parts, Probe]:
    head, embedding = _head_and_embedding(model)
    layers, prefix = find_layers(model)
    probe = run_probe(model, layers, head, count=not verify)
    if verify:
        check_finite(model, probe)
        check_chain(model, probe)
        check_causal(model, probe)
    steps = _steps_to_head(model, probe, prefix)
    # Without weights tying is still one shared parameter, as transformers ties by reference.
    tied = head.weight is embedding.weight
    parts = Parts(
        layers=layers,
        front=tuple(dict.fromkeys(call.module for call in probe.before if call.has_parameters)),
        final_norm=_in_a_row([call.module for call in steps]),
        head=head,
        embedding=embedding,
        names=_parameter_names(model, prefix, [call.name for call in steps], head, tied),
        tied=tied,
        forward_flop=probe.forward_flop,
    )
    return parts, probe


def _head_and_embedding(model: Any) -> tuple[nn.Linear, nn.Embedding]:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if not isinstance(head, nn.Linear) or not head.weight.is_floating_point():
        raise ModelError(
            f"{type(model).__name__}: expected a linear head with floating-point weights, found "
            f"{type(head).__name__}. semfreeze needs the head to interpret hidden states."
        )
    if not isinstance(embedding, nn.Embedding):
        raise ModelError(f"{type(model).__name__}: expected a token embedding, found {type(embedding).__name__}.")
    return head, embedding


def _steps_to_head(model: Any, probe: Probe, prefix: str) -> list[Call]:
    """The modules that take the last layer's output to the head, each called on what the one before it gave.

    Verified later, by rebuilding the logits through them. A block with matrices and more inside it is no such step:
    what it makes of a latent space is not the space's own direction any more.
    """
    steps: list[Call] = []
    state, calls = probe.outputs[-1], probe.after
    while calls:
        taking = [i for i, call in enumerate(calls) if any(a is state for a in call.received)]
        if not taking or not _is_one_step(calls[taking[0]]):
            break
        steps.append(calls[taking[0]])
        state = steps[-1].output
        calls = [c for c in calls[taking[0] + 1 :] if not c.name.startswith(f"{steps[-1].name}.")]
    others = [c.name for c in probe.after if c.has_parameters and not _belongs(c.name, steps)]
    if others:
        raise ModelError(
            f"{type(model).__name__}: expected one final norm between the last layer and the head, found "
            f"{_names_of(steps)} and {', '.join(others)}. Heads with layers of their own, as encoders have"
            " them, are not supported: semfreeze supports decoder-only models."
        )
    if state.shape != probe.head_input.shape:
        raise ModelError(
            f"{type(model).__name__}: the output of the last layer ({prefix}*) comes to the head as "
            f"{tuple(probe.head_input.shape)}, but what is called on it ({_names_of(steps)}) gives "
            f"{tuple(state.shape)}."
        )
    return steps


def _is_one_step(call: Call) -> bool:
    """Whether a call is a norm, a plain matrix or nothing at all, from one tensor to one."""
    plain = isinstance(call.module, nn.Linear) or all(p.ndim < 2 for p in call.module.parameters())
    return plain and isinstance(call.output, Tensor)


def _belongs(name: str, steps: list[Call]) -> bool:
    return any(f"{name}.".startswith(f"{step.name}.") for step in steps)


def _names_of(steps: list[Call]) -> str:
    return " and ".join(call.name for call in steps) or "none"


def _in_a_row(modules: list[nn.Module]) -> nn.Module:
    match modules:
        case []:
            return nn.Identity()
        case [module]:
            return module
        case _:
            return nn.Sequential(*modules).eval()


def _head_transform(model: Any, probe: Probe, plain: Tensor) -> tuple[HeadTransform, float]:
    """The scale and cap that take the head's plain output to the model's logits, and the largest relative error."""
    model_logits = probe.logits.float()
    cap = getattr(model.config.get_text_config(decoder=True), "final_logit_softcapping", None)
    scale = float((model_logits * plain).sum() / (plain * plain).sum())
    # The first that fits, not the best: on small logits rounding would prefer no cap, or a scale of 1.0001.
    candidates = [HeadTransform(), HeadTransform(scale=scale)]
    if cap:
        candidates.insert(0, HeadTransform(softcap=float(cap)))
    tolerance = 1e-3 if model.dtype == torch.float32 else 3e-2
    spread = float(model_logits.std())
    if spread == 0:
        raise ModelError(f"{type(model).__name__} gives every token the same logit on a probe: its head is empty.")
    errors = [float((c(plain) - model_logits).abs().max()) / spread for c in candidates]
    best = next((i for i, error in enumerate(errors) if error <= tolerance), None)
    if best is None:
        raise ModelError(
            f"{type(model).__name__}: head(final_norm(last layer)) does not reproduce the model's own logits: largest "
            f"difference {min(errors):.2g} of their spread (allowed {tolerance:g}), tried plain, scaled by "
            f"{scale:.3g}" + (f" and soft-capped at {cap}" if cap else "") + ". This head is not supported."
        )
    return candidates[best], errors[best]


def _parameter_names(model: Any, prefix: str, steps: list[str], head: nn.Linear, tied: bool) -> ParameterNames:
    head_name = next(n for n, m in model.named_modules() if m is head)
    names = [n for n, _ in model.named_parameters()]
    head_names = [n for n in names if n.startswith(f"{head_name}.")]
    norm_names = [n for step in steps for n in names if n.startswith(f"{step}.")]
    front = [n for n in names if not n.startswith(prefix) and n not in head_names and n not in norm_names]
    if tied:
        # A tied weight is listed once, under the embedding's name or the head's; it belongs to the embedding.
        shared = [n for n, p in model.named_parameters() if p is head.weight]
        front = list(dict.fromkeys([*shared, *front]))
        head_names = [n for n in head_names if n not in shared]
    return ParameterNames(prefix, tuple(front), tuple(norm_names), tuple(head_names))
