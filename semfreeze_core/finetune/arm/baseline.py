"""The model before any training, on the eval items."""

from collections.abc import Sequence

from semfreeze_core.finetune.arm.accuracy import SHOWN, answers, generation_items, references, share_right
from semfreeze_core.finetune.arm.evaluate import computing_in, read_items
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.supervised_head import SupervisedModel
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.training import Precision
from semfreeze_core.records.validation import Baseline, ShownItem
from semfreeze_core.sources.models.causal_lm import LoadedModel


def read_baseline(
    loaded: LoadedModel, evaluation: Sequence[TokenizedExample], *, n_accuracy: int, precision: Precision
) -> Baseline:
    """Losses by item, and accuracy on the first `n_accuracy` items that have one prompt to answer.

    Args:
        loaded: the model.
        evaluation: eval items.
        n_accuracy: items answered by generation; 0 for none.
        precision: what training will compute in.
    """
    decoder = loaded.decoder
    supervised = SupervisedModel(decoder.model, decoder)
    losses = read_items(supervised, Collator(evaluation), len(evaluation), precision, decoder.device)
    places = generation_items(evaluation, n_accuracy)
    expected = references(loaded.tokenizer, evaluation, places)
    with computing_in(precision, decoder.device):
        said = answers(decoder, loaded.tokenizer, evaluation, places)
    return Baseline(
        loss=sum(losses) / len(losses),
        item_losses=losses,
        accuracy=share_right(said, [reference for _, reference in expected]) if places else None,
        n_items=len(losses),
        n_accuracy_items=len(places),
        shown=tuple(
            ShownItem(prompt=prompt, reference=reference, answer=answer)
            for (prompt, reference), answer in zip(expected[:SHOWN], said[:SHOWN], strict=True)
        ),
    )
