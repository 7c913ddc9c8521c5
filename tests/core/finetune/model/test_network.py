"""The prefix caches of a model in training: what keeps them valid, and the memory that they share."""

import pytest
import torch

from semfreeze_core.finetune.model import network as network_module
from semfreeze_core.finetune.model.network import CacheSettings, build_network
from semfreeze_core.finetune.prefix import key
from semfreeze_core.records.training import TrainableParts, TrainingSetup
from tests.core.finetune.loaded import load_tiny, task_examples

PARTS = TrainableParts((False, False, True, True), embeddings=False, final_norm=True, head=False)
EXAMPLES = task_examples(6)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def loaded(tmp_path):
    return load_tiny(tmp_path / "tiny")


def network(loaded, train, evaluation=(), **cache):
    setup = TrainingSetup(batch_size=2, sequence_length=16, prefix_cache=True)
    return build_network(loaded, PARTS, setup, train, evaluation, seed=0, cache=CacheSettings(**cache))


def test_a_model_finetuned_above_the_boundary_takes_the_bases_states(loaded, tmp_path):
    store = {"folder": tmp_path / "store", "shared_from": 0}
    assert network(loaded, EXAMPLES, **store).train_cache.hits == 0
    again = load_tiny(tmp_path / "tiny")
    with torch.no_grad():
        again.decoder.layers[3].mlp.up_proj.weight += 0.1
        again.decoder.head.weight += 0.1
    assert network(again, EXAMPLES, **store).train_cache.hits == len(EXAMPLES)
    other = load_tiny(tmp_path / "tiny")
    with torch.no_grad():
        other.decoder.layers[1].mlp.up_proj.weight[0, 0] += 0.1
    assert network(other, EXAMPLES, **store).train_cache.hits == 0


def test_the_prefix_is_digested_once_for_all_caches(loaded, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(key, "_bytes", lambda tensor, bytes_of=key._bytes: read.append(tensor) or bytes_of(tensor))
    network(loaded, EXAMPLES, EXAMPLES[:3], folder=tmp_path / "store", shared_from=0)
    assert len(read) == len({id(tensor) for tensor in read})


def test_the_caches_of_an_arm_share_one_limit(loaded, tmp_path):
    size = sum(len(example.input_ids) for example in EXAMPLES) * 32 * 4
    both = network(loaded, EXAMPLES, EXAMPLES, folder=tmp_path / "a", memory_limit_bytes=size)
    assert (both.train_cache.where, both.eval_cache.where) == ("memory", "file")
    both.release()
    enough = network(
        load_tiny(tmp_path / "tiny"), EXAMPLES, EXAMPLES, folder=tmp_path / "b", memory_limit_bytes=2 * size
    )
    assert (enough.train_cache.where, enough.eval_cache.where) == ("memory", "memory")


@pytest.mark.parametrize(("missing", "where"), [(0, "memory"), (8, "file")])
def test_by_itself_the_limit_is_a_quarter_of_the_free_memory(loaded, tmp_path, monkeypatch, missing, where):
    size = sum(len(example.input_ids) for example in EXAMPLES) * 32 * 4
    monkeypatch.setattr(network_module, "free_bytes", lambda device: 4 * 2 * size - missing)
    both = network(loaded, EXAMPLES, EXAMPLES, folder=tmp_path / "store")
    assert (both.train_cache.where, both.eval_cache.where) == ("memory", where)
    both.release()
