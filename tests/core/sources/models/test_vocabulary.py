"""Which head rows are tokens, and which tokens nobody trained."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.sources.models.decoder import find_decoder
from semfreeze_core.sources.models.vocabulary import _untrained_rows, read_vocabulary
from tests.core.saved_models import save_tiny
from tests.core.tiny_models import build_tiny
from tests.core.tiny_tokenizer import build_tiny_tokenizer


@pytest.fixture(autouse=True)
def _one_thread(measured_once):
    torch.set_num_threads(1)


def read(tokenizer, model):
    return read_vocabulary(tokenizer, find_decoder(model))


@pytest.mark.parametrize("padded", [0, 1, 16])
def test_read_vocabulary_counts_padded_rows(padded):
    tokenizer = build_tiny_tokenizer()
    vocabulary = read(tokenizer, build_tiny("llama", vocab=len(tokenizer) + padded))
    assert vocabulary.real_rows == len(tokenizer)
    assert vocabulary.padded_rows == padded
    assert vocabulary.added == frozenset()


def test_load_causal_lm_notes_padded_rows(tmp_path):
    save_tiny(tmp_path, padded_rows=7)
    loaded = load_causal_lm(str(tmp_path), dtype="float32", device="cpu")
    assert loaded.vocabulary.padded_rows == 7
    assert "7 padded rows of the head have no token and are left out." in loaded.notes


def test_read_vocabulary_refuses_a_tokenizer_larger_than_the_head():
    tokenizer = build_tiny_tokenizer()
    tokenizer.add_tokens(["Intentional"])
    with pytest.raises(ModelError, match="The tokenizer and the model disagree") as caught:
        read(tokenizer, build_tiny("llama", vocab=320))
    assert "token 'Intentional' has the id 320, but the head has 320 rows and the embedding 320" in str(caught.value)


def test_read_vocabulary_refuses_an_embedding_smaller_than_the_head():
    decoder = SimpleNamespace(head=nn.Linear(8, 400), embedding=nn.Embedding(300, 8))
    with pytest.raises(ModelError, match="the head has 400 rows and the embedding 300"):
        read_vocabulary(build_tiny_tokenizer(), decoder)


def test_read_vocabulary_finds_untrained_rows():
    tokenizer = build_tiny_tokenizer()
    model = build_tiny("llama", vocab=len(tokenizer) + 4)  # its own padding row (id 2) is zero
    rows = model.get_input_embeddings().weight.data
    rows[50], rows[60], rows[70] = 0.0, rows[10], rows[10]
    rows[80] = torch.cat([rows[:80], rows[81 : len(tokenizer)]]).mean(0)
    rows[len(tokenizer) :] = 0.0
    assert read(tokenizer, model).untrained == {2, 10, 50, 60, 70, 80}


@pytest.mark.parametrize("tied", [True, False])
def test_read_vocabulary_finds_the_rows_that_resizing_added(tied):
    tokenizer = build_tiny_tokenizer()
    model = build_tiny("llama", tied=tied, vocab=len(tokenizer))
    tokenizer.add_tokens(["TopUp", "CardFee"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.resize_token_embeddings(len(tokenizer))
    vocabulary = read(tokenizer, model)
    assert vocabulary.untrained == {2, 320, 321}
    assert vocabulary.added == {320, 321}
    assert vocabulary.padded_rows == 0


def test_read_vocabulary_tells_added_tokens_from_special_ones():
    tokenizer = build_tiny_tokenizer()
    tokenizer.add_tokens(["TopUp"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
    vocabulary = read(tokenizer, build_tiny("llama", vocab=len(tokenizer)))
    assert vocabulary.added == {tokenizer.convert_tokens_to_ids("TopUp")}


def test_read_vocabulary_takes_ordinary_models_as_trained(tmp_path):
    """Nothing but the padding row, which transformers sets to zero, looks untrained."""
    save_tiny(tmp_path)
    assert load_causal_lm(str(tmp_path), dtype="bfloat16", device="cpu").vocabulary.untrained == {2}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_untrained_rows_compares_whole_rows(dtype):
    """Rows that agree in the few columns compared first, and differ elsewhere, are told apart; so is minus zero."""
    rows = torch.randn(12, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    rows[:6] = rows[0]
    rows[1, 1], rows[2, 62] = rows[1, 1] + 1, rows[2, 62] - 1
    rows[6], rows[7] = rows[8], rows[9]
    rows[7, 5], rows[9, 5] = 0.0, -0.0
    assert _untrained_rows(rows) == {0, 3, 4, 5, 6, 7, 8, 9}


def test_untrained_rows_agrees_with_comparing_all_pairs():
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(-1, 2, (150, 5), generator=generator).float()  # many repeats, few columns
    same = (rows[:, None] == rows[None]).all(-1).sum(1) > 1
    flat = torch.cosine_similarity(rows, rows.mean(0), dim=-1) > 0.999
    expected = (same | flat | (rows == 0).all(-1)).nonzero().flatten().tolist()
    assert _untrained_rows(rows) == frozenset(expected)
    assert 20 < len(expected) < 150


def test_untrained_rows_of_a_large_vocabulary_are_found():  # comparing all pairs would take hours
    rows = torch.randn(150_000, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    rows[77_777] = rows[5]
    assert _untrained_rows(rows) == {5, 77_777}
