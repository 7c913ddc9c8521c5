"""A model that returns a batch's loss, with the head computed at target tokens alone."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from semfreeze_core.cost.loss import chunk_tokens
from semfreeze_core.finetune.model.batches import target_index as target_index_of
from semfreeze_core.finetune.model.chunked_loss import chunked_loss
from semfreeze_core.finetune.model.loss_kernel import SummedLoss
from semfreeze_core.processes import summed
from semfreeze_core.records.training import CHUNKED_LOSSES, LossKind
from semfreeze_core.sources.models.decoder import Decoder

_T = TypeVar("_T")

LOGITS_BYTES = 2**28  # of the logits held at once in an evaluation


class RunsSuffix(Protocol):
    """Runs the layers above a boundary on states at it."""

    def __call__(self, states: Tensor, attention_mask: Tensor | None) -> Tensor: ...


class SupervisedModel(nn.Module):
    """What the trainer trains: it takes a batch of a Collator and returns the loss.

    Attributes:
        model: the causal language model, with adapters where there are any.
        decoder: its parts.
        suffix: runs it from cached boundary states; without one it runs from token ids.
        loss: how the loss of a training batch is computed: "materialised" is the model's own, with the logits of every
            token, as stock trainers do; "chunked" has those of a few target tokens at a time.
        kernel: computes a chunked loss in place of semfreeze's loop, or None.
        sizes: examples, padded length and target tokens of every training batch, and its freeze depth where it has one
            of its own.
        move_boundary: called with such a depth before the batch's forward pass; None refuses them.
    """

    accepts_loss_kwargs = True  # tells the trainer that accumulated batches share one mean over their tokens

    def __init__(
        self,
        model: nn.Module,
        decoder: Decoder,
        suffix: RunsSuffix | None = None,
        *,
        loss: LossKind = "supervised-only",
        kernel: SummedLoss | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = decoder.model.config  # the trainer asks for it
        self.__dict__["decoder"] = decoder  # not a submodule: its parts are the model's
        self.__dict__["suffix"] = suffix
        self.loss, self.kernel = loss, kernel
        self.sizes: list[tuple[int, int, int] | tuple[int, int, int, int]] = []
        self.move_boundary: Callable[[int], None] | None = None
        self._since_step: list[tuple[Tensor, int]] = []

    def forward(
        self,
        labels: Tensor,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        states: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        freeze_depth: int | None = None,
        target_index: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The batch's loss: the sum over target tokens divided by `num_items_in_batch`, or by their number.

        Args:
            labels, attention_mask, input_ids, states, target_index: as a Collator makes them.
            num_items_in_batch: target tokens of the whole step.
            freeze_depth: of this batch alone; None is that of the batch before.

        Raises:
            ValueError: a batch has a freeze depth, but the model is frozen at one for all.
        """
        if freeze_depth is not None:
            if self.move_boundary is None:
                raise ValueError(f"the batch freezes {freeze_depth} layers, but this model cannot move its boundary")
            self.move_boundary(freeze_depth)
        index = target_index_of(labels) if target_index is None else target_index
        count = len(index)
        if self.loss == "materialised" and count and input_ids is not None:  # a mean over no token is none
            total = self._stock_loss(labels, attention_mask, input_ids) * count
        else:
            hidden, targets = self._target_states(labels, attention_mask, input_ids, states, index)
            total = self._summed_loss(hidden, targets)
        if self.training and count:
            rows, length = labels.shape
            size = (rows, length, count)
            self.sizes.append(size if freeze_depth is None else (*size, freeze_depth))
            self._since_step.append((total.detach(), count))
        return {"loss": total / (count if num_items_in_batch is None else num_items_in_batch)}

    def _stock_loss(self, labels: Tensor, attention_mask: Tensor, input_ids: Tensor) -> Tensor:
        """The model's own loss, as stock trainers call it."""
        decoder: Decoder = self.__dict__["decoder"]
        loss: Tensor = decoder.model(
            input_ids=input_ids, attention_mask=attention_mask, labels=labels, use_cache=False
        ).loss
        return loss

    def within_forward(self, work: Callable[[], _T]) -> _T:
        """Do other work with the model, as a part of its forward pass: sharded parameters are whole meanwhile."""
        return work()

    def clear_batches(self) -> None:
        """Drop the recorded sizes and losses, as after a batch that was only counted."""
        self.sizes.clear()
        self._since_step.clear()

    def take_loss(self) -> float:
        """Mean loss of the target tokens of all batches since the last call, those of other processes included, nats
        per token.

        It waits until the device has done all that it was given before.
        """
        losses = [loss for loss, _ in self._since_step]  # none where a process has no target token in the step
        process_total = torch.stack(losses).cpu().double().sum().item() if losses else 0.0  # one wait, for all of them
        total, count = summed(process_total, sum(n for _, n in self._since_step))
        self._since_step.clear()
        return total / count

    def token_losses(
        self,
        labels: Tensor,
        attention_mask: Tensor,
        input_ids: Tensor | None,
        states: Tensor | None,
        target_index: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Losses of the target tokens (n,), nats, float32, and each one's row in the batch (n,)."""
        index = target_index_of(labels) if target_index is None else target_index
        hidden, targets = self._target_states(labels, attention_mask, input_ids, states, index)
        return self._token_losses(hidden, targets), index // labels.shape[1]

    def _target_states(
        self,
        labels: Tensor,
        attention_mask: Tensor,
        input_ids: Tensor | None,
        states: Tensor | None,
        index: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """What the head reads of each target token (n, h), and their ids (n,)."""
        hidden = self._head_input(attention_mask, input_ids, states)
        return hidden.flatten(0, 1)[index], labels.flatten()[index + 1]

    def _token_losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        # A backward pass keeps every chunk's logits anyway; without one only a chunk's have to be there at once.
        chunk = max(1, len(targets)) if torch.is_grad_enabled() else self._chunk
        parts = zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True)
        return torch.cat([cross_entropy(self._logits(h), t, reduction="none") for h, t in parts])

    def _summed_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        if self.loss not in CHUNKED_LOSSES or not torch.is_grad_enabled():
            return self._token_losses(hidden, targets).sum()
        if self.kernel is not None and len(targets):
            return self.kernel(self._readable(hidden), targets)
        decoder: Decoder = self.__dict__["decoder"]
        chunk = chunk_tokens(decoder.head.out_features)
        return chunked_loss(decoder.head, decoder.transform, self._readable(hidden), targets, chunk)

    @property
    def _chunk(self) -> int:
        """Target tokens whose float32 logits fit into LOGITS_BYTES."""
        decoder: Decoder = self.__dict__["decoder"]
        return max(1, LOGITS_BYTES // (4 * decoder.head.out_features))

    def _head_input(self, attention_mask: Tensor, input_ids: Tensor | None, states: Tensor | None) -> Tensor:
        decoder: Decoder = self.__dict__["decoder"]
        suffix: RunsSuffix | None = self.__dict__["suffix"]
        if states is not None:
            if suffix is None:
                raise ValueError("the batch holds boundary states, but the model runs from token ids")
            return suffix(states, attention_mask)
        out: Any = decoder.base(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        hidden: Tensor = out[0]
        return hidden

    def _logits(self, hidden: Tensor) -> Tensor:
        decoder: Decoder = self.__dict__["decoder"]
        return decoder.transform(decoder.head(self._readable(hidden)).float())

    def _readable(self, hidden: Tensor) -> Tensor:
        """States of the head's type; under autocast, which casts both, of any."""
        decoder: Decoder = self.__dict__["decoder"]
        return hidden if torch.is_autocast_enabled(hidden.device.type) else hidden.to(decoder.dtype)


@torch.no_grad()
def mean_losses(model: SupervisedModel, batches: Any, n_examples: int) -> Tensor:
    """Mean loss of each eval example over its target tokens, nats, float64 (n_examples,), from batches in order."""
    was_training = model.training
    model.eval()
    parts: list[Tensor] = []
    decoder: Decoder = model.__dict__["decoder"]
    device = decoder.device  # the head's: frozen parameters may have left it
    for batch in batches:
        moved = {name: tensor.to(device) for name, tensor in batch.items()}
        labels = moved["labels"]
        losses, rows = model.token_losses(
            labels, moved["attention_mask"], moved.get("input_ids"), moved.get("states"), moved.get("target_index")
        )
        losses, rows = losses.cpu(), rows.cpu()  # before they are summed in float64, which not every device has
        sums = torch.zeros(len(labels), dtype=torch.float64).index_add_(0, rows, losses.double())
        parts.append(sums / torch.bincount(rows, minlength=len(labels)))
    model.train(was_training)
    means = torch.cat(parts)
    if len(means) != n_examples:
        raise ValueError(f"expected losses of {n_examples} examples, found {len(means)}")
    return means
