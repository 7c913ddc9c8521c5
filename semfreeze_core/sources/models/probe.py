"""One pass of a few tokens through a model with hooks on every module: what runs when, and what it passes on."""

import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.utils.flop_counter import FlopCounterMode

from semfreeze_core.device import dtype_name
from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models.flop_counter import model_flop


def hidden_state(output: Any) -> Tensor:
    """The hidden state in a layer's output, which is a tensor or a tuple that begins with it."""
    return output if isinstance(output, Tensor) else output[0]


def layer_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden state among a layer's arguments."""
    state: Tensor = args[0] if args else kwargs["hidden_states"]
    return state


def find_layers(model: Any) -> tuple[nn.ModuleList, str]:
    """The outermost module list with as many entries as the config has layers, and its prefix with a dot."""
    expected = model.config.get_text_config(decoder=True).num_hidden_layers
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    outermost = [(n, m) for n, m in lists if not any(n.startswith(f"{other}.") for other, _ in lists)]
    fitting = [(n, m) for n, m in outermost if len(m) == expected]
    if expected < 2:
        raise ModelError(f"{type(model).__name__} has {expected} layer; choosing a freeze depth needs at least 2.")
    if len(fitting) != 1:
        lists_text = ", ".join(f"{n} ({len(m)})" for n, m in outermost) or "none"
        raise ModelError(
            f"{type(model).__name__}: expected one list of {expected} layers, found {len(fitting)}. "
            f"Module lists in the model: {lists_text}."
        )
    name, layers = fitting[0]
    return layers, f"{name}."


@dataclass
class Call:
    """One call of a module outside the layers.

    Attributes:
        name: the module's path in the model.
        module: what was called.
        received: its arguments, named ones last.
        output: what it gave back, None while it runs.
    """

    name: str
    module: nn.Module
    received: tuple[Any, ...]
    output: Any = None

    @property
    def has_parameters(self) -> bool:
        """Whether it holds parameters itself, not only in modules inside it."""
        return next(self.module.parameters(recurse=False), None) is not None


@dataclass(frozen=True)
class Probe:
    """What one probe pass showed.

    Attributes:
        inputs: of each layer, L of (2, T, d).
        outputs: of each layer, L of (2, T, d).
        head_input: (2, T, width of the head).
        logits: the model's own, (2, T, V).
        before: calls begun before the first layer, in order.
        after: calls begun after the last layer, in order, the head's left out.
        forward_flop: FLOPs of the pass as torch counts them, 0 when they were not to be counted.
    """

    inputs: list[Tensor]
    outputs: list[Tensor]
    head_input: Tensor
    logits: Tensor
    before: list[Call]
    after: list[Call]
    forward_flop: int

    @property
    def spaces(self) -> list[Tensor]:
        return [self.inputs[0], *self.outputs]


PROBE_SEQUENCES, PROBE_TOKENS = 2, 12
_SHARED_TOKENS = 7


def probe_ids(model: Any) -> Tensor:
    """Two seeded sequences (2, 12) that share their first 7 tokens: what differs later must not show before."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().num_embeddings
    ids = torch.randint(0, vocabulary, (PROBE_SEQUENCES, PROBE_TOKENS), generator=generator)
    ids[1, :_SHARED_TOKENS] = ids[0, :_SHARED_TOKENS]
    return ids


@torch.no_grad()
def run_probe(model: Any, layers: nn.ModuleList, head: nn.Linear, *, count: bool = False) -> Probe:
    """Run the probe and record what each part receives and gives.

    Args:
        model: the whole model.
        layers: its layers.
        head: its head.
        count: also count FLOPs; torch's counter sees all of them under eager attention alone.

    Raises:
        ModelError: the model cannot run, or a layer or the head does not run exactly once.
    """
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    head_inputs: list[Tensor] = []
    calls: dict[bool, list[Call]] = {False: [], True: []}  # by whether the last layer has run
    running: list[Call] = []
    names = {module: name for name, module in model.named_modules()}

    def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = Call(names[module], module, (*args, *kwargs.values()))
        running.append(call)
        if not inputs or len(outputs) == len(layers):
            calls[len(outputs) == len(layers)].append(call)

    def end(_: nn.Module, __: Any, output: Any) -> None:
        running.pop().output = output

    handles = [head.register_forward_pre_hook(lambda _, args: head_inputs.append(args[0]))]
    for layer in layers:
        handles.append(
            layer.register_forward_pre_hook(lambda _, a, k: inputs.append(layer_input(a, k)), with_kwargs=True)
        )
        handles.append(layer.register_forward_hook(lambda _, __, out: outputs.append(hidden_state(out))))
    inside = {module for layer in layers for module in layer.modules()}
    for module in names:
        if module not in inside and module is not head:
            handles.append(module.register_forward_pre_hook(begin, with_kwargs=True))
            handles.append(module.register_forward_hook(end))
    counter = FlopCounterMode(display=False)
    try:
        with counter if count else nullcontext():
            logits = model(input_ids=probe_ids(model).to(head.weight.device), use_cache=False).logits
    except Exception as error:  # a model's own code can fail in any way; the cause stays readable in the message
        raise ModelError(_why_not(model, error, head.weight.dtype)) from error
    finally:
        for handle in handles:
            handle.remove()
    if not (len(inputs) == len(outputs) == len(layers) and len(head_inputs) == 1):
        raise ModelError(
            f"{type(model).__name__}: expected every layer and the head to run once, found {len(outputs)} calls of "
            f"{len(layers)} layers and {len(head_inputs)} head calls."
        )
    return Probe(
        inputs, outputs, head_inputs[0], logits, calls[False], calls[True], model_flop(counter) if count else 0
    )


def _why_not(model: Any, error: Exception, dtype: torch.dtype) -> str:
    if isinstance(error, DynamicOutputShapeException | DataDependentOutputException):
        return (
            f"{type(model).__name__} looks at its data to decide what to compute ({_operation(error)}), as experts do "
            "that transformers cannot run in one piece, so it cannot be counted without weights. Its cost cannot be "
            "estimated yet."
        )
    text = " ".join(str(error).split())[:400]
    return (
        f"{type(model).__name__} cannot run on a probe of {PROBE_TOKENS} tokens in {dtype_name(dtype)}: "
        f"{type(error).__name__}: {text}"
    )


def _operation(error: Exception) -> str:
    """Where in a model's own code a pass stopped: the innermost line outside torch."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/torch/" not in frame.filename]
    return frames[-1].line or frames[-1].name


def check_finite(model: Any, probe: Probe) -> None:
    for space, state in enumerate(probe.spaces):
        if not torch.isfinite(state).all():
            raise ModelError(
                f"{type(model).__name__}: {describe_space(space)} holds NaN or infinity on a probe of "
                f"{PROBE_TOKENS} tokens in {dtype_name(state.dtype)}. {describe_damage(state.dtype)}"
            )
    if not torch.isfinite(probe.logits).all():
        raise ModelError(
            f"{type(model).__name__}: every layer's output is finite, but the logits hold NaN or infinity: the final "
            "norm or the head is damaged, or overflows."
        )


def describe_damage(dtype: torch.dtype) -> str:
    """Why a state may not be finite, and what to do."""
    if dtype == torch.float32:
        return "The weights are damaged. Download them again."
    return "The weights are damaged, or this dtype overflows: try --dtype float32."


def describe_space(space: int) -> str:
    """Words for latent space `space`."""
    return "the input of layer 0" if space == 0 else f"the output of layer {space - 1}"


def check_chain(model: Any, probe: Probe) -> None:
    for i, (given, received) in enumerate(zip(probe.outputs, probe.inputs[1:], strict=False)):
        if not torch.equal(given, received):
            raise ModelError(
                f"{type(model).__name__}: layer {i} does not pass its output on to layer {i + 1} unchanged, so there "
                "is no single trace through the layers. Such models are not supported."
            )


def check_causal(model: Any, probe: Probe) -> None:
    before = probe.logits[:, :_SHARED_TOKENS].float()
    allowed = 1e-3 if model.dtype == torch.float32 else 5e-2
    if float((before[0] - before[1]).abs().max()) > allowed * float(before.std()):
        raise ModelError(
            f"{type(model).__name__} looks ahead: changing later tokens changed earlier logits. semfreeze "
            "supports decoder-only (causal) models, which an encoder is not."
        )
