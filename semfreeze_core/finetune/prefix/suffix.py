"""Running a model from its boundary states: layers k.. and the final norm alone, by the model's own code.

The model's base runs on an input of zeros while the frozen parts' calls are replaced: what stands in front of layer 0
answers with zeros, the frozen layers return their input, and the last of them answers with the given states. Masks,
rotary positions and attention kinds are thus the model's own in every family.
"""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from semfreeze_core.finetune.freezing.layer_call import replace_call, restore_call
from semfreeze_core.finetune.prefix.forward import check_depth, record_outputs
from semfreeze_core.finetune.prefix.offload import OffloadedTo, PrefixWeights
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.sources.models.probe import layer_input

Answer = Callable[[tuple[Any, ...], dict[str, Any]], Any]


class Suffix:
    """A model's layers k.. and final norm, callable on boundary states while installed.

    Between its calls the model is unchanged: a forward pass from token ids runs every layer, and calls that were
    replaced before (of frozen layers that run without a graph, for example) remain replaced.

    Attributes:
        decoder: the model.
        k: freeze depth, 1..L; with L only the final norm is left.
    """

    def __init__(self, decoder: Decoder, k: int) -> None:
        """Record in a pass of a few tokens what the prefix's parts return.

        Raises:
            ValueError: k is not in 1..L.
        """
        check_depth(decoder, k)
        self.decoder, self.k = decoder, k
        self._outputs = record_outputs(decoder, k)
        self._weights = PrefixWeights(decoder, k)
        self._replaced: list[tuple[nn.Module, type[nn.Module], type[nn.Module]]] = []  # module, class before and now
        self._states: Tensor | None = None  # while a call runs
        self._answered = False

    @property
    def installed(self) -> bool:
        """Whether it can be called."""
        return bool(self._replaced)

    def install(self) -> None:
        """Replace the calls of the prefix's parts.

        Raises:
            RuntimeError: it is installed already.
        """
        if self.installed:
            raise RuntimeError("the suffix is installed already")
        for i, layer in enumerate(self.decoder.layers[: self.k]):
            self._replace(layer, self._layer_answer(i))
        for module, width in self._outputs.widths.items():
            self._replace(module, self._zeros(width))

    def remove(self) -> None:
        """Bring the prefix's weights back and restore its parts' calls; without effect when not installed."""
        self.onload()
        for module, previous, ours in self._replaced:
            if type(module) is ours:  # else an earlier replacement was undone first
                module.__class__ = previous
        self._replaced.clear()

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __call__(self, states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """What the head reads, (B, T, width of the head), differentiable with respect to what is trained above.

        Layer k gets states that require a gradient where gradients are on: reentrant checkpointing needs one among its
        inputs, and the cost model counts the gradient down to there.

        Args:
            states: boundary states (B, T, d), right-padded; of a lower precision they are read in the model's dtype, as
                which layer k gets them from the layer below.
            attention_mask: (B, T), 1 for tokens and 0 for padding; None for none.

        Raises:
            RuntimeError: it is not installed, or the model skipped the last frozen layer (layer drop).
        """
        if not self.installed:
            raise RuntimeError("the suffix is not installed: use it in a with block, or call install()")
        has_layers = self.k < len(self.decoder.layers)
        states = states.detach().to(self.decoder.dtype)
        self._states = states.requires_grad_(has_layers and torch.is_grad_enabled())
        self._answered = False
        zeros = states.new_zeros(*states.shape[:2], self.decoder.embedding.embedding_dim)
        try:
            out = self.decoder.base(inputs_embeds=zeros, attention_mask=attention_mask, use_cache=False)
        finally:
            self._states = None
        if not self._answered:
            raise RuntimeError(f"the model did not call layer {self.k - 1}, so the states reached no layer")
        head_input: Tensor = out.last_hidden_state
        return head_input

    def offload(self, folder: Path | None = None) -> OffloadedTo:
        """Move the weights that only the prefix uses off the device until `onload`; returns where to, and the bytes.

        From a GPU they go to the machine's memory. On a CPU they go to a memory-mapped file in `folder`, which frees
        their memory as others need it, or remain when no folder is given.

        Raises:
            RuntimeError: the suffix is not installed.
            ResourceError: the disk is full; the weights remain.
            RunError: the folder cannot be written; the weights remain.
        """
        if not self.installed:
            raise RuntimeError("only an installed suffix can run without the prefix's weights")
        return self._weights.offload(folder)

    def onload(self) -> None:
        """Bring the weights back, bit for bit; without effect when they are there."""
        self._weights.onload()

    def _replace(self, module: nn.Module, answer: Answer) -> None:
        previous = type(module)

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if self._states is not None:
                return answer(args, kwargs)
            if self._weights.away:
                raise RuntimeError("the prefix's weights are off the device: onload() first")
            return previous.__call__(module, *args, **kwargs)

        restore_call(module)
        replace_call(module, call)
        self._replaced.append((module, previous, type(module)))

    def _layer_answer(self, i: int) -> Answer:
        entries, last = self._outputs.entries[i], i == self.k - 1

        def answer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            self._answered |= last
            state = self._states if last else layer_input(args, kwargs)
            return (state, *[None] * (entries - 1)) if entries else state

        return answer

    def _zeros(self, width: int) -> Answer:
        def answer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
            assert self._states is not None
            return self._states.new_zeros(*self._states.shape[:2], width)

        return answer
