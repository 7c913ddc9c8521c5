"""Reading an arm on the eval items while it trains."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch

from semfreeze_core.cost import run_flop
from semfreeze_core.device import autocast
from semfreeze_core.finetune.arm.accuracy import SHOWN, answers, generation_items, references, share_right
from semfreeze_core.finetune.arm.flop import batch_flop, cache_flop
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.network import Network
from semfreeze_core.finetune.model.supervised_head import SupervisedModel, item_losses
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import Precision, TrainableParts, TrainingSetup
from semfreeze_core.records.validation import EvalPoint, Mark

EVAL_BATCH = 16
CURVE_ITEMS = 64  # the readings between the marks draw the curve and decide nothing


def eval_batches(collator: Collator, n_items: int) -> Iterator[dict[str, Any]]:
    """Batches of the first n items, in order."""
    for start in range(0, n_items, EVAL_BATCH):
        yield collator(range(start, min(start + EVAL_BATCH, n_items)))


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """The autocast that training in this precision runs under, or none."""
    return autocast(precision, device)


def read_items(
    supervised: SupervisedModel, collator: Collator, n_items: int, precision: Precision, device: torch.device
) -> list[float]:
    """Mean supervised loss of each of the first n items, nats."""
    with computing_in(precision, device):
        losses: list[float] = item_losses(supervised, eval_batches(collator, n_items), n_items).tolist()
    return losses


class ArmReader:
    """Takes an arm's readings and keeps them.

    Attributes:
        points: the readings so far.
    """

    def __init__(
        self,
        network: Network,
        tokenizer: Any,
        shape: ModelShape,
        parts: TrainableParts,
        setup: TrainingSetup,
        train: Sequence[TokenizedExample],
        evaluation: Sequence[TokenizedExample],
        *,
        n_accuracy: int,
    ) -> None:
        self.network, self.tokenizer = network, tokenizer
        self.shape, self.parts, self.setup = shape, parts, setup
        self.evaluation = evaluation
        self.collator = Collator(evaluation, network.eval_cache)
        self.accuracy_items = generation_items(evaluation, n_accuracy)
        self.expected = [reference for _, reference in references(tokenizer, evaluation, self.accuracy_items)]
        self.cache_flop = cache_flop(shape, setup, parts, train) if network.train_cache is not None else 0
        self.cache_seconds = 0.0 if network.train_cache is None else network.train_cache.seconds
        self.points: list[EvalPoint] = []

    def flop(self) -> int:
        """FLOP of the training so far, cache pass included, by the sizes of the batches met."""
        sizes = self.network.supervised.sizes
        return self.cache_flop + sum(batch_flop(self.shape, self.setup, self.parts, size) for size in sizes)

    def read(self, step: int, marks: list[Mark], seconds: float) -> None:
        """Read the eval items after a step: the first of them between the marks, all at one, and accuracy too.

        A checkpoint is read on all items, without accuracy.

        Args:
            step: steps done.
            marks: what the reading is for.
            seconds: training time so far, cache pass left out.
        """
        decisive = marks != ["between"]
        n_items = len(self.evaluation) if decisive else min(CURVE_ITEMS, len(self.evaluation))
        device = self.network.decoder.device
        losses = read_items(self.network.supervised, self.collator, n_items, self.setup.precision, device)
        accuracy = said = None
        if decisive and marks != ["checkpoint"] and self.accuracy_items:
            self.network.onload()
            with computing_in(self.setup.precision, device):
                said = answers(self.network.decoder, self.tokenizer, self.evaluation, self.accuracy_items)
            accuracy = share_right(said, self.expected)
            self.network.offload()
        self.points.append(
            EvalPoint(
                step=step,
                seconds=seconds + self.cache_seconds,
                flop=self.flop(),
                curve_loss=_mean(losses[:CURVE_ITEMS]),
                loss=_mean(losses) if decisive else None,
                marks=marks,
                item_losses=losses,
                accuracy=accuracy,
                answers=None if said is None else said[:SHOWN],
            )
        )

    def predicted_flop(self, steps: int) -> int:
        """FLOP the cost model predicted for so many steps, from mean lengths."""
        return run_flop(self.shape, replace(self.setup, steps=max(1, steps)), self.parts)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
