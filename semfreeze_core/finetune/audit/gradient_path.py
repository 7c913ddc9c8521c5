"""One small training step of a live model, counted: FLOPs, saved bytes, and the path of its gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from semfreeze_core.errors import ModelError
from semfreeze_core.finetune.audit.step_count import CountedStep
from semfreeze_core.sources.models.flop_counter import model_flop
from semfreeze_core.sources.models.probe import layer_input, probe_ids
from semfreeze_core.sources.models.saved_tensors import saving_observed


@dataclass(frozen=True)
class GradientPath:
    """Where the gradient of one step went.

    Attributes:
        embedding_output_requires_grad: whether the token embedding's output required a gradient.
        carrying: of each layer, whether the gradient came back to its output.
        front: ids of parameters used before layer 0.
        reached: ids of parameters that got a gradient.
    """

    embedding_output_requires_grad: bool
    carrying: tuple[bool, ...]
    front: frozenset[int]
    reached: frozenset[int]


def trace_step(model: Any, base: Any, layers: Sequence[nn.Module]) -> tuple[CountedStep, GradientPath]:
    """Run one step with the model's own loss over all tokens and count it, inside `state_preserved`.

    Every gradient is dropped as soon as it is complete, so that a model whose gradients would not all fit in memory can
    be counted as if all of it were trained.

    Raises:
        ModelError: the model cannot run, or its optimizer steps while gradients are computed.
    """
    if any(getattr(p, "_post_accumulate_grad_hooks", None) for p in model.parameters()):
        raise ModelError(
            "Something runs whenever a gradient of this model is complete, as optimizers do that step within the "
            "backward pass: an audit would train it. Audit the model without that optimizer."
        )
    observed = _Observation(layers, base.get_input_embeddings())
    handles = observed.hook(base)
    handles += [p.register_post_accumulate_grad_hook(observed.reach) for p in model.parameters() if p.requires_grad]
    ids = probe_ids(base).to(next(base.parameters()).device)
    counter = FlopCounterMode(display=False)
    torch.manual_seed(0)  # dropout may decide which experts run: the same in every count
    try:
        with torch.enable_grad(), counter:
            with saving_observed() as saved:
                loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            saved_bytes = saved.bytes(leaving_out=model.parameters())
            if loss.requires_grad:
                loss.backward()
    except Exception as error:  # a model's own code can fail in any way; the cause stays readable in the message
        text = " ".join(str(error).split())[:400]
        raise ModelError(
            f"{type(base).__name__} cannot be audited: a step on {tuple(ids.shape)} tokens fails: "
            f"{type(error).__name__}: {text}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return CountedStep(model_flop(counter), saved_bytes), observed.path()


class _Observation:
    """What hooks observe in one step; only a module's first call counts, as checkpointing calls some again.

    Whether a layer carries the gradient shows in what the next module receives. Its own output does not: where a
    layer's whole call is checkpointed reentrantly (transformers 5.11 does), hooks on it run without a graph.
    """

    def __init__(self, layers: Sequence[nn.Module], embedding: nn.Module) -> None:
        self._layers, self._embedding = layers, embedding
        self._carrying: dict[int, bool] = {}
        self._embedding_output: bool | None = None
        self._front: set[int] = set()
        self._reached: set[int] = set()
        self._entered = 0  # layers

    def hook(self, base: nn.Module) -> list[Any]:
        inside = {module for layer in self._layers for module in layer.modules()}
        around = {module for module in base.modules() if self._layers[0] in module.modules()}
        handles: list[Any] = [self._embedding.register_forward_hook(self._leave_embedding)]
        for i, layer in enumerate(self._layers):
            handles.append(layer.register_forward_pre_hook(self._enterer(i), with_kwargs=True))
        for module in base.modules():
            if module not in inside and module not in around:
                handles.append(module.register_forward_pre_hook(self._enter_other))
        return handles

    def reach(self, parameter: Tensor) -> None:
        self._reached.add(id(parameter))
        parameter.grad = None

    def _leave_embedding(self, _: nn.Module, __: Any, output: Tensor) -> None:
        if self._embedding_output is None:
            self._embedding_output = output.requires_grad

    def _enterer(self, i: int) -> Any:
        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._entered = max(self._entered, i + 1)
            self._carrying.setdefault(i - 1, _has_gradient_below(layer_input(args, kwargs)))

        return enter

    def _enter_other(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._entered == 0:
            self._front |= {id(p) for p in module.parameters()}
        elif self._entered == len(self._layers) and args and isinstance(args[0], Tensor):
            self._carrying.setdefault(len(self._layers) - 1, _has_gradient_below(args[0]))

    def path(self) -> GradientPath:
        return GradientPath(
            bool(self._embedding_output),
            tuple(self._carrying.get(i, False) for i in range(len(self._layers))),
            frozenset(self._front),
            frozenset(self._reached),
        )


def _has_gradient_below(state: Tensor) -> bool:
    """Whether the gradient continues below a hidden state; it ends at a leaf that requires one."""
    return state.requires_grad and not state.is_leaf
