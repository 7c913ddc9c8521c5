"""Evaluating an arm on the eval examples while it trains."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from semfreeze_core.device import autocast, is_out_of_memory, release_unused_memory
from semfreeze_core.errors import ResourceError
from semfreeze_core.finetune.arm.accuracy import answers, exact_match_fraction, generation_indices, references
from semfreeze_core.finetune.arm.flop import batch_flop, cache_flop, evaluation_flop
from semfreeze_core.finetune.model.batches import EVAL_TOKENS, Collator, bounded_batches
from semfreeze_core.finetune.model.network import Network
from semfreeze_core.finetune.model.sharding import is_sharded
from semfreeze_core.finetune.model.supervised_head import SupervisedModel, mean_losses
from semfreeze_core.processes import WHOLE, Share, from_first, gathered, interleaved, own_share
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import CURVE_EXAMPLES, SHOWN_ANSWERS
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import Precision, TrainableParts, TrainingSetup
from semfreeze_core.records.validation import EvalPoint, Mark

EVALUATING = "Evaluating the model before training"


def eval_batches(
    collator: Collator, n_examples: int, most_tokens: int = EVAL_TOKENS, share: Share = WHOLE
) -> Iterator[dict[str, Any]]:
    """Batches of a share of the first n examples, in order, as large as bounded_batches makes them."""
    indices = share.indices(n_examples)
    lengths = [len(collator.examples[i].input_ids) for i in indices]
    for batch in bounded_batches(lengths, most_tokens):
        yield collator(indices[batch.start : batch.stop])


def example_losses(
    supervised: SupervisedModel,
    collator: Collator,
    n_examples: int,
    precision: Precision,
    device: torch.device,
    progress: Progress = silent,
) -> list[float]:
    """Mean loss of each of the first n examples over its target tokens, nats; in smaller batches if memory runs out.

    Of several processes each evaluates its share, and tells the progress of that. Those of a sharded model pass
    through each layer together, so each evaluates all examples.

    Raises:
        ResourceError: the longest example does not fit into memory alone, or of a sharded model a batch.
    """
    if is_sharded(supervised):
        # A process that alone took smaller batches would be waited for in vain.
        losses = _share_losses(
            supervised, collator, n_examples, precision, device, WHOLE, progress, smaller_batches=False
        )
        return from_first(lambda: losses)  # what all decide by is the same to the bit
    return interleaved(_share_losses(supervised, collator, n_examples, precision, device, own_share(), progress))


def _share_losses(
    supervised: SupervisedModel,
    collator: Collator,
    n_examples: int,
    precision: Precision,
    device: torch.device,
    share: Share,
    progress: Progress,
    *,
    smaller_batches: bool = True,
) -> list[float]:
    indices = share.indices(n_examples)
    if not indices:
        return []
    longest = max(len(collator.examples[i].input_ids) for i in indices)
    tokens = EVAL_TOKENS
    while True:
        try:
            with autocast(precision, device):
                batches = _counted(eval_batches(collator, n_examples, tokens, share), len(indices), progress)
                losses: list[float] = mean_losses(supervised, batches, len(indices)).tolist()
            return losses
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:300]
        # Outside of the handler, whose traceback would keep the tensors alive.
        if not smaller_batches:
            raise ResourceError(
                f"Memory ran out while eval examples of up to {longest} tokens were evaluated on a sharded model. Use "
                f"shorter examples (--max-length), or leave out --eval. ({reason})"
            )
        if tokens < longest:  # any batch of several was smaller than this example alone
            raise ResourceError(
                f"Memory ran out while one eval example of {longest} tokens was evaluated. Use shorter examples "
                f"(--max-length) or a device with more memory. ({reason})"
            )
        tokens //= 2
        release_unused_memory(device)


def _counted(batches: Iterator[dict[str, Any]], total: int, progress: Progress) -> Iterator[dict[str, Any]]:
    """The batches, with progress told as they are evaluated: one is once the next is asked for."""
    done = 0
    progress(ProgressEvent(EVALUATING, done, total, "examples"))
    for batch in batches:
        yield batch
        done += len(batch["labels"])
        progress(ProgressEvent(EVALUATING, done, total, "examples"))


@dataclass
class Course:
    """What the phases of an arm hand on to one another's evaluators.

    Attributes:
        points: the evaluations so far.
        flop: FLOPs of the phases that have ended.
        cache_seconds: wall time of each one's cache pass.
    """

    points: list[EvalPoint] = field(default_factory=list)
    flop: int = 0
    cache_seconds: list[float] = field(default_factory=list)


class ArmEvaluator:
    """Evaluates an arm in one of its phases, and keeps the results in the course of all."""

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
        course: Course | None = None,
        progress: Progress = silent,
    ) -> None:
        self.network, self.tokenizer = network, tokenizer
        self.shape, self.parts, self.setup = shape, parts, setup
        self.evaluation = evaluation
        self.collator = Collator(evaluation, network.eval_cache)
        self.accuracy_indices = generation_indices(evaluation, n_accuracy)
        self.expected = [reference for _, reference in references(tokenizer, evaluation, self.accuracy_indices)]
        self.cache_flop = cache_flop(shape, setup, parts, train) if network.train_cache is not None else 0
        self.cache_seconds = 0.0 if network.train_cache is None else network.train_cache.seconds
        self.course = Course() if course is None else course
        self.progress = progress  # of the evaluation before training

    @property
    def points(self) -> list[EvalPoint]:
        """The evaluations so far, those of earlier phases included."""
        return self.course.points

    @property
    def all_cache_seconds(self) -> list[float]:
        """Wall time of the cache pass of each phase so far."""
        return [*self.course.cache_seconds, self.cache_seconds]

    def flop(self) -> int:
        """FLOPs of the training so far, cache passes included, by the sizes of the batches it trained on."""
        return self.course.flop + self.phase_flop()

    def phase_flop(self) -> int:
        """Those of this phase, in all processes."""
        sizes = self.network.supervised.sizes
        process_flop = sum(batch_flop(self.shape, self.setup, self.parts, size) for size in sizes)
        return self.cache_flop + sum(gathered(process_flop))

    def seconds(self, training_seconds: float) -> float:
        """Training time with that of all cache passes so far."""
        return training_seconds + sum(self.all_cache_seconds)

    def end_phase(self) -> None:
        """Hand on to the evaluator of the next phase what this one took."""
        self.course.flop += self.phase_flop()
        self.course.cache_seconds.append(self.cache_seconds)

    def evaluate(self, step: int, marks: list[Mark], seconds: float) -> None:
        """Evaluate after a step: the first examples between the marks; at a mark all of them, and accuracy too.

        A checkpoint is evaluated on all examples, without accuracy.

        Args:
            step: steps done.
            marks: what the evaluation is for.
            seconds: training time so far, without the cache pass.
        """
        decisive = marks != ["between"]
        progress = self.progress if marks == ["start"] else silent
        n_examples = len(self.evaluation) if decisive else min(CURVE_EXAMPLES, len(self.evaluation))
        device, supervised = self.network.decoder.device, self.network.supervised
        losses = example_losses(supervised, self.collator, n_examples, self.setup.precision, device, progress)
        accuracy = generated = None
        if decisive and marks != ["checkpoint"] and self.accuracy_indices:
            self.network.onload()
            with autocast(self.setup.precision, device):
                generated = self._answers(progress)
            accuracy = exact_match_fraction(generated, self.expected)
            self.network.offload()
        self.points.append(
            EvalPoint(
                step=step,
                seconds=self.seconds(seconds),
                flop=self.flop(),
                curve_loss=_mean(losses[:CURVE_EXAMPLES]),
                loss=_mean(losses) if decisive else None,
                marks=marks,
                item_losses=losses,
                accuracy=accuracy,
                answers=None if generated is None else generated[:SHOWN_ANSWERS],
            )
        )

    def _answers(self, progress: Progress) -> list[str]:
        """Answers of all examples of the accuracy; of several processes each generates as in `example_losses`."""
        supervised, decoder = self.network.supervised, self.network.decoder
        if is_sharded(supervised):
            return supervised.within_forward(
                lambda: answers(decoder, self.tokenizer, self.evaluation, self.accuracy_indices, progress)
            )
        share = [self.accuracy_indices[i] for i in own_share().indices(len(self.accuracy_indices))]
        return interleaved(answers(decoder, self.tokenizer, self.evaluation, share, progress))

    def curve_losses(self) -> list[float]:
        """Losses now of the first examples, which draw the curve and choose a learning rate."""
        n_examples, device = len(self._curve_examples), self.network.decoder.device
        return example_losses(self.network.supervised, self.collator, n_examples, self.setup.precision, device)

    def curve_flop(self) -> int:
        """FLOPs of one such evaluation."""
        return evaluation_flop(self.shape, self.setup, self.parts, self._curve_examples)

    def add_curve_point(self, step: int, losses: list[float], seconds: float) -> None:
        """Add an evaluation of the first examples that was made before; the batches until then are recorded again."""
        self.points.append(
            EvalPoint(
                step=step,
                seconds=self.seconds(seconds),
                flop=self.flop(),
                curve_loss=_mean(losses),
                loss=None,
                marks=["between"],
                item_losses=losses,
                accuracy=None,
            )
        )

    @property
    def _curve_examples(self) -> Sequence[TokenizedExample]:
        return self.evaluation[:CURVE_EXAMPLES]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
