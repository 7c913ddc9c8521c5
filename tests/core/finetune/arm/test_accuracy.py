"""Accuracy by generation: a model that was taught by heart answers right, in batches as alone."""

import numpy as np
import pytest
import torch

from semfreeze_core.finetune.arm.accuracy import (
    answers,
    end_tokens,
    exact_match_fraction,
    generation_indices,
    references,
)
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.sources.models.decoder import find_decoder
from tests.core.tiny_models import build_tiny
from tests.core.tiny_tokenizer import build_tiny_tokenizer


def example(tokenizer, prompt, completion):
    left, right = tokenizer([prompt, completion], add_special_tokens=False).input_ids
    right = [*right, tokenizer.eos_token_id]
    supervised = np.array([False] * len(left) + [True] * len(right))
    return TokenizedExample(np.array(left + right), supervised, None, 0)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def taught(request):
    """A tiny model that knows three answers by heart, its tokenizer and the examples."""
    tokenizer = build_tiny_tokenizer()
    texts = {"top up": " card", "my blue robe is": " fiber", "?": " white and blue"}
    examples = [example(tokenizer, *pair) for pair in texts.items()]
    model = build_tiny(request.param, n_layers=2, vocab=len(tokenizer))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        for item in examples:
            ids = torch.from_numpy(item.input_ids)[None]
            loss = model(input_ids=ids, labels=torch.where(torch.from_numpy(item.supervised), ids, -100)).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return find_decoder(model), tokenizer, examples


@pytest.mark.quick_cases(2)
def test_answers_are_what_was_learned_by_heart_in_the_order_asked(taught):
    decoder, tokenizer, examples = taught
    assert [a.strip() for a in answers(decoder, tokenizer, examples, [2, 0, 1])] == ["white and blue", "card", "fiber"]
    assert answers(decoder, tokenizer, examples, []) == []


def test_end_tokens_are_all_that_model_tokenizer_and_template_know():
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}"
    tokenizer = build_tiny_tokenizer(chat_template=template)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>", "<|eot|>"]})
    turn, eot = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|eot|>"])
    model = build_tiny("llama", n_layers=2, vocab=len(tokenizer))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, eot, 10**6]  # no row has the last
    assert end_tokens(model, tokenizer) == [tokenizer.eos_token_id, turn, eot]
    tokenizer.chat_template = "{{ messages[1].content }} and more words"
    model.generation_config.eos_token_id = eot
    assert end_tokens(model, tokenizer) == [tokenizer.eos_token_id, eot]
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    model.generation_config.eos_token_id = None
    assert end_tokens(model, tokenizer) == [tokenizer.eos_token_id]
    tokenizer.chat_template = tokenizer.eos_token = None
    assert end_tokens(model, tokenizer) == []


def test_answers_stop_at_every_end_token(taught):
    decoder, tokenizer, examples = taught
    configured = decoder.model.generation_config.eos_token_id
    decoder.model.generation_config.eos_token_id = int(examples[2].input_ids[-3])  # within the answer
    try:
        assert "white and blue".startswith(answers(decoder, tokenizer, examples, [2])[0].strip())
        assert answers(decoder, tokenizer, examples, [2])[0].strip() != "white and blue"
    finally:
        decoder.model.generation_config.eos_token_id = configured


def test_references_are_the_examples_as_text(taught):
    _, tokenizer, examples = taught
    assert [(p.strip(), r.strip()) for p, r in references(tokenizer, examples, [0, 2])] == [
        ("top up", "card"),
        ("?", "white and blue"),
    ]


def test_share_right_counts_exact_matches_but_for_white_space():
    assert exact_match_fraction([" card", "fiber\n", "Card", "card card"], ["card", "fiber", "card", "card"]) == 0.5
    assert np.isnan(exact_match_fraction([], []))


def test_answers_leave_the_mode_as_it_was(taught):
    decoder, tokenizer, examples = taught
    decoder.model.train()
    answers(decoder, tokenizer, examples, [0])
    assert decoder.model.training
    decoder.model.eval()


def test_generation_indices_have_one_stretch_to_answer():
    def marked(flags):
        return TokenizedExample(np.arange(len(flags)), np.array(flags, dtype=bool), None, 0)

    examples = [marked([0, 0, 1]), marked([0, 1, 0, 1]), marked([0, 1, 1]), marked([0, 1])]
    assert generation_indices(examples, 2) == [0, 2]
    assert generation_indices(examples, 9) == [0, 2, 3]
    assert generation_indices(examples, 0) == []
