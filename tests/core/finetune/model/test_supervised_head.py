"""Batches and their loss: padding, supervision and the head's share, against the model's own loss."""

import threading

import numpy as np
import pytest
import torch
from accelerate.utils import send_to_device
from torch.nn.functional import cross_entropy

from semfreeze_core.errors import ResourceError
from semfreeze_core.finetune.arm import evaluate
from semfreeze_core.finetune.arm.evaluate import eval_batches, example_losses
from semfreeze_core.finetune.model import supervised_head
from semfreeze_core.finetune.model.batches import Collator, ExampleIndices, bounded_batches
from semfreeze_core.finetune.model.supervised_head import SupervisedModel
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.sources.data.training_rows import IGNORED
from semfreeze_core.sources.models.decoder import find_decoder
from tests.core.finetune.loaded import task_examples
from tests.core.tiny_models import build_tiny

FAMILIES = ("llama", "gpt2", "gemma2", "opt-projected", "falcon", "bloom", "qwen3_moe")
EXAMPLES = task_examples(10, vocab=90)


def example(ids, supervised):
    return TokenizedExample(np.array(ids), np.array(supervised, dtype=bool), None, 0)


def test_collator_pads_on_the_right_and_supervises_what_is_marked():
    examples = (example([5, 6, 7], [0, 0, 1]), example([8, 9, 9, 9], [0, 1, 0, 1]))
    batch = Collator(examples)([1, 0])
    assert batch["input_ids"].tolist() == [[8, 9, 9, 9], [5, 6, 7, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 9, IGNORED, 9], [IGNORED, IGNORED, 7, IGNORED]]
    assert batch["target_index"].tolist() == [0, 2, 5]


def test_collator_takes_states_and_mask_from_a_cache():
    batch = Collator((example([1, 2], [0, 1]),), Sevens())([0])
    assert set(batch) == {"states", "attention_mask", "labels", "target_index"}
    assert batch["states"].shape == (1, 2, 3)


class Sevens:
    """A cache of states that are 7, and the threads that asked for them."""

    def __init__(self):
        self.asked_by = []

    def padded_states(self, indices):
        self.asked_by.append(threading.current_thread())
        if indices == [1]:
            raise OSError("the disk is gone")
        return torch.full((len(indices), 2, 3), 7.0)


def test_states_for_a_trainer_are_gathered_by_another_thread_until_the_batch_is_moved():
    examples, cache = (example([1, 2], [0, 1]),) * 2, Sevens()
    collate = Collator(examples, cache).ahead()
    ahead, at_once = collate([0]), Collator(examples, cache)([0])
    moved = send_to_device(ahead, torch.device("cpu"))  # as accelerate's data loader does
    assert {name: tensor.tolist() for name, tensor in moved.items()} == {n: t.tolist() for n, t in at_once.items()}
    gathering, ours = cache.asked_by if cache.asked_by[1] is threading.main_thread() else cache.asked_by[::-1]
    assert ours is threading.main_thread()
    assert gathering is not ours
    with pytest.raises(OSError, match="the disk is gone"):
        send_to_device(collate([1]), torch.device("cpu"))


def test_a_collator_without_a_cache_gathers_nothing_ahead():
    collate = Collator((example([1, 2], [0, 1]),))
    assert collate.ahead() is collate


def test_example_places_are_their_own_numbers():
    indices = ExampleIndices(3)
    assert [indices[i] for i in range(len(indices))] == [0, 1, 2]


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_equals_the_models_own(family):
    decoder = find_decoder(build_tiny(family))
    batch = Collator(EXAMPLES)(range(6))
    with torch.no_grad():
        ours = SupervisedModel(decoder.model, decoder).eval()(**batch)["loss"]
        stock = SupervisedModel(decoder.model, decoder, loss="materialised").eval()(**batch)["loss"]
        expected = decoder.model(**batch).loss
    assert torch.allclose(ours, expected, atol=1e-5)
    assert torch.allclose(stock, expected, atol=1e-6)


def test_loss_over_pieces_of_a_batch_adds_up_to_that_of_the_whole():
    decoder = find_decoder(build_tiny("llama"))
    model = SupervisedModel(decoder.model, decoder).train()
    collate = Collator(EXAMPLES)
    total = sum(int(e.supervised.sum()) for e in EXAMPLES)
    whole = model(**collate(range(10)))["loss"].detach()
    pieces = sum(model(**collate(part), num_items_in_batch=total)["loss"] for part in (range(3), range(3, 10)))
    assert torch.allclose(whole, pieces, atol=1e-6)
    model.clear_batches()
    for part in (range(3), range(3, 10)):
        model(**collate(part), num_items_in_batch=total)
    assert model.sizes == [(3, max(len(e.input_ids) for e in EXAMPLES[:3]), 6), (7, 10, 14)]
    assert model.take_loss() == pytest.approx(float(whole), abs=1e-6)


def test_a_process_without_a_target_token_takes_the_others_loss(monkeypatch):
    decoder = find_decoder(build_tiny("llama"))
    asked = []
    monkeypatch.setattr(supervised_head, "summed", lambda *values: asked.append(values) or [6.0, 4])
    assert SupervisedModel(decoder.model, decoder).take_loss() == 1.5
    assert asked == [(0.0, 0)]


def test_example_losses_are_each_examples_own_mean():
    decoder = find_decoder(build_tiny("llama"))
    losses = example_losses(
        SupervisedModel(decoder.model, decoder), Collator(EXAMPLES), 10, "float32", torch.device("cpu")
    )
    for item, loss in zip(EXAMPLES, losses, strict=True):
        with torch.no_grad():
            logits = decoder.model(input_ids=torch.from_numpy(item.input_ids)[None]).logits[0, :-1]
        wanted = torch.from_numpy(item.supervised[1:])
        expected = cross_entropy(logits[wanted], torch.from_numpy(item.input_ids[1:])[wanted])
        assert loss == pytest.approx(float(expected), abs=1e-5)


def test_eval_batches_cover_the_first_items_in_order():
    labels = [row for batch in eval_batches(Collator(EXAMPLES), 7) for row in batch["labels"]]
    assert len(labels) == 7
    assert [int(row[row != IGNORED][0]) for row in labels] == [int(e.input_ids[e.supervised][0]) for e in EXAMPLES[:7]]


def test_bounded_batches_stay_within_rows_and_padded_tokens_in_order():
    assert list(bounded_batches([])) == []
    assert list(bounded_batches([5] * 18)) == [range(16), range(16, 18)]
    assert list(bounded_batches([2, 2, 7, 3, 1], most_tokens=8)) == [range(2), range(2, 3), range(3, 5)]
    assert list(bounded_batches([9, 9], most_tokens=8)) == [range(1), range(1, 2)], "a long one alone"
    assert list(bounded_batches([2048] * 5)) == [range(4), range(4, 5)]


@pytest.mark.parametrize("tokens_at_once", [1, 3])
def test_logits_in_chunks_give_the_same_losses(monkeypatch, tokens_at_once):
    decoder = find_decoder(build_tiny("gemma2"))
    network, cpu = SupervisedModel(decoder.model, decoder), torch.device("cpu")
    whole = example_losses(network, Collator(EXAMPLES), 10, "float32", cpu)
    rows = []
    decoder.head.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    monkeypatch.setattr(supervised_head, "LOGITS_BYTES", tokens_at_once * 4 * decoder.head.out_features + 3)
    chunked = example_losses(network, Collator(EXAMPLES), 10, "float32", cpu)
    assert np.allclose(whole, chunked, atol=1e-6, rtol=0)
    assert max(rows) == tokens_at_once
    assert sum(rows) == sum(int(e.supervised.sum()) for e in EXAMPLES)


def test_example_losses_takes_smaller_batches_when_memory_runs_out(monkeypatch):
    decoder = find_decoder(build_tiny("llama"))
    network, cpu = SupervisedModel(decoder.model, decoder), torch.device("cpu")
    expected = example_losses(network, Collator(EXAMPLES), 10, "float32", cpu)
    largest = max(len(e.input_ids) for e in EXAMPLES)
    limit, sizes = 2 * largest, []

    def run_out(module, args, kwargs):
        sizes.append(kwargs["input_ids"].numel())
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    decoder.base.register_forward_pre_hook(run_out, with_kwargs=True)
    monkeypatch.setattr("semfreeze_core.finetune.arm.evaluate.release_unused_memory", lambda device: None)
    assert np.allclose(example_losses(network, Collator(EXAMPLES), 10, "float32", cpu), expected, atol=1e-6)
    assert sizes[0] > limit >= max(sizes[-3:])
    limit = 1
    with pytest.raises(ResourceError, match=rf"one eval example of {largest} tokens was evaluated\. Use shorter"):
        example_losses(network, Collator(EXAMPLES), 10, "float32", cpu)


def test_states_without_a_suffix_are_refused():
    decoder = find_decoder(build_tiny("llama"))
    batch = Collator(EXAMPLES)([0])
    states = torch.zeros(1, batch["labels"].shape[1], 32)
    with pytest.raises(ValueError, match="runs from token ids"):
        SupervisedModel(decoder.model, decoder)(
            labels=batch["labels"], attention_mask=batch["attention_mask"], states=states
        )


def test_of_a_sharded_model_no_process_takes_smaller_batches_alone(monkeypatch):
    decoder = find_decoder(build_tiny("llama"))
    network = SupervisedModel(decoder.model, decoder)
    monkeypatch.setattr(evaluate, "is_sharded", lambda _: True)
    passes = []

    def run_out(*_):
        passes.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    decoder.base.register_forward_pre_hook(run_out)
    with pytest.raises(ResourceError, match="eval examples of up to 10 tokens were evaluated on a sharded model"):
        example_losses(network, Collator(EXAMPLES), 10, "float32", torch.device("cpu"))
    assert passes == [1]
