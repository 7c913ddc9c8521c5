"""The model before any training, on the eval examples."""

import time
from collections.abc import Sequence

from semfreeze_core.device import autocast, synchronize, tf32_products
from semfreeze_core.finetune.arm.accuracy import answers, exact_match_fraction, generation_indices, references
from semfreeze_core.finetune.arm.evaluate import example_losses
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.supervised_head import SupervisedModel
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.defaults import SHOWN_ANSWERS
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.training import Precision
from semfreeze_core.records.validation import Baseline, ShownItem
from semfreeze_core.sources.models.causal_lm import LoadedModel


def evaluate_baseline(
    loaded: LoadedModel,
    evaluation: Sequence[TokenizedExample],
    *,
    n_accuracy: int,
    precision: Precision,
    progress: Progress = silent,
) -> Baseline:
    """Losses by example, and accuracy on the first `n_accuracy` examples that have one prompt to answer.

    Args:
        loaded: the model.
        evaluation: eval examples.
        n_accuracy: examples answered by generation; 0 for none.
        precision: what training will compute in.
        progress: receives examples evaluated, and those answered.
    """
    decoder = loaded.decoder
    supervised = SupervisedModel(decoder.model, decoder)
    with tf32_products(decoder.device):  # as the trained model is evaluated
        begun = time.perf_counter()
        losses = example_losses(supervised, Collator(evaluation), len(evaluation), precision, decoder.device, progress)
        synchronize(decoder.device)
        seconds = time.perf_counter() - begun
    indices = generation_indices(evaluation, n_accuracy)
    expected = references(loaded.tokenizer, evaluation, indices)
    with autocast(precision, decoder.device):
        generated = answers(decoder, loaded.tokenizer, evaluation, indices, progress)
    return Baseline(
        loss=sum(losses) / len(losses),
        item_losses=losses,
        accuracy=exact_match_fraction(generated, [reference for _, reference in expected]) if indices else None,
        n_items=len(losses),
        n_accuracy_items=len(indices),
        shown=tuple(
            ShownItem(prompt=prompt, reference=reference, answer=answer)
            for (prompt, reference), answer in zip(expected[:SHOWN_ANSWERS], generated[:SHOWN_ANSWERS], strict=True)
        ),
        seconds=seconds,
    )
