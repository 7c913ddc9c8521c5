"""Tokens and supervised masks: by length, within the limit, and the same one by one and all at once."""

from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, processors

from semfreeze_core.errors import DataError
from semfreeze_core.records.examples import Example, Segment, TokenizedExample
from semfreeze_core.sources.data.chat import render_chat
from semfreeze_core.sources.data.encode import NothingSupervised, TooLong, encode, encode_all
from tests.core.tiny_tokenizer import BOS, CHATML, EOS, build_tiny_sentencepiece, build_tiny_tokenizer

PLAIN = build_tiny_tokenizer()
WITH_BOS = build_tiny_tokenizer(bos=True)
PAD_IS_EOS = build_tiny_tokenizer(bos=True, pad_is_eos=True)
TOKENIZERS = st.sampled_from([PLAIN, WITH_BOS, PAD_IS_EOS])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def examples(draw):
    segments = draw(st.lists(st.builds(Segment, TEXTS, st.booleans()), min_size=1, max_size=5))
    answer = Segment(draw(TEXTS.filter(bool)), supervised=True)
    label = draw(st.sampled_from(["a", None]))
    return Example((*segments, answer), label, draw(st.integers(0, 9)), complete=draw(st.booleans()))


def pair(prompt, completion, **more):
    return Example((Segment(prompt, False), Segment(completion, True)), None, 0, **more)


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


@settings(deadline=None)
@given(TOKENIZERS, examples(), st.booleans())
def test_encode_joins_the_segments_and_masks_by_their_lengths(tokenizer, example, add_eos):
    example = replace(example, complete=False)
    encoded = encode(tokenizer, example, max_length=10_000, add_eos=add_eos)
    ids, mask = [], []
    if tokenizer is not PLAIN:
        ids, mask = [tokenizer.bos_token_id], [False]
    for segment in example.segments:
        token_ids = ids_of(tokenizer, segment.text)
        ids += token_ids
        mask += [segment.supervised] * len(token_ids)
    if add_eos:
        ids.append(tokenizer.eos_token_id)
        mask.append(True)
    mask[0] = False
    if not any(mask):
        assert encoded == NothingSupervised()
        return
    assert encoded.input_ids.tolist() == ids
    assert encoded.supervised.tolist() == mask
    assert encoded.input_ids.dtype == np.int64
    assert (encoded.label, encoded.row, encoded.truncated) == (example.label, example.row, 0)


@settings(deadline=None)
@given(TOKENIZERS, examples(), st.integers(2, 40))
def test_encode_cuts_context_on_the_left_and_never_what_is_supervised(tokenizer, example, max_length):
    whole = encode(tokenizer, example, max_length=10_000)
    cut = encode(tokenizer, example, max_length=max_length)
    if isinstance(whole, NothingSupervised):
        assert cut == whole
        return
    needed = int(whole.supervised.sum()) + 1
    if needed > max_length:
        assert cut == TooLong(needed)
        return
    assert len(cut.input_ids) == min(len(whole.input_ids), max_length)
    assert cut.truncated == len(whole.input_ids) - len(cut.input_ids)
    assert cut.input_ids[cut.supervised].tolist() == whole.input_ids[whole.supervised].tolist()
    if tokenizer is not PLAIN and not example.complete:
        assert cut.input_ids[0] == tokenizer.bos_token_id
    # every context token after the first one kept by the cut is kept too
    context = [int(i) for i in whole.input_ids[~whole.supervised]]
    context_ids = [int(i) for i in cut.input_ids[~cut.supervised]]
    assert context_ids[1:] == context[len(context) - len(context_ids) + 1 :]


def test_encode_gives_the_tokens_worked_out_by_hand():
    prompt, answer = ids_of(WITH_BOS, "ab:"), ids_of(WITH_BOS, " no")
    encoded = encode(WITH_BOS, pair("ab:", " no"), max_length=99)
    assert encoded.input_ids.tolist() == [WITH_BOS.bos_token_id, *prompt, *answer, WITH_BOS.eos_token_id]
    assert encoded.supervised.tolist() == [False] * (1 + len(prompt)) + [True] * (len(answer) + 1)


def test_encode_keeps_the_token_that_predicts_a_first_turn():
    # context x x, answer y, context z z, answer w: of the context only what predicts y, and the last tokens, may stay
    segments = (Segment("xX", False), Segment("yY", True), Segment("zZ", False), Segment("wW", True))
    example = Example(segments, None, 0, complete=True)
    whole = encode(PLAIN, example, max_length=99)
    assert len(whole.input_ids) == 8
    cut = encode(PLAIN, example, max_length=6)
    assert PLAIN.decode(cut.input_ids) == "XyYZwW"
    assert cut.supervised.tolist() == [False, True, True, False, True, True]
    assert PLAIN.decode(encode(PLAIN, example, max_length=5).input_ids) == "XyYwW"
    assert encode(PLAIN, example, max_length=4) == TooLong(5)


def test_encode_masks_by_position_where_pad_is_eos():
    assert PAD_IS_EOS.pad_token_id == PAD_IS_EOS.eos_token_id
    encoded = encode(PAD_IS_EOS, pair(f"a{EOS}b", "c"), max_length=99)
    at_eos = encoded.supervised[encoded.input_ids == PAD_IS_EOS.eos_token_id]
    assert at_eos.tolist() == [False, True]


def test_encode_adds_no_second_end():
    encoded = encode(PLAIN, pair("a", f"b{EOS}"), max_length=99)
    assert (encoded.input_ids == PLAIN.eos_token_id).sum() == 1
    assert encoded.supervised[-1]


def test_encode_adds_nothing_to_a_complete_example():
    encoded = encode(WITH_BOS, pair("a", "b", complete=True), max_length=99)
    assert encoded.input_ids.tolist() == [*ids_of(WITH_BOS, "a"), *ids_of(WITH_BOS, "b")]


def test_encode_says_when_no_token_is_left_to_predict():
    text = Example((Segment("a", True),), None, 0)
    assert encode(PLAIN, text, max_length=9, add_eos=False) == NothingSupervised()
    assert isinstance(encode(PLAIN, text, max_length=9), TokenizedExample)


@settings(deadline=None)
@given(TOKENIZERS, st.lists(examples(), min_size=1, max_size=6), st.integers(4, 40))
def test_encode_all_equals_encode_one_by_one(tokenizer, several, max_length):
    single = [encode(tokenizer, example, max_length=max_length) for example in several]
    usable = [one for one in single if isinstance(one, TokenizedExample)]
    if not usable:
        with pytest.raises(DataError):
            encode_all(tokenizer, several, max_length=max_length, allow_few=True)
        return
    together = encode_all(tokenizer, several, max_length=max_length, allow_few=True)
    for one, other in zip(usable, together.tokenized, strict=True):
        assert one.input_ids.tolist() == other.input_ids.tolist()
        assert one.supervised.tolist() == other.supervised.tolist()
        assert (one.label, one.row, one.truncated) == (other.label, other.row, other.truncated)
    assert together.n_too_long == sum(isinstance(one, TooLong) for one in single)
    assert together.n_unsupervised == sum(isinstance(one, NothingSupervised) for one in single)
    assert together.n_truncated == sum(one.truncated > 0 for one in usable)
    assert together.n_truncated_tokens == sum(one.truncated for one in usable)
    assert together.digest == encode_all(tokenizer, several, max_length=max_length, allow_few=True).digest


def test_encode_all_is_the_same_across_its_batches():
    many = [pair(f"question {i}", f"answer {i}") for i in range(600)]
    events = []
    encoded = encode_all(PLAIN, many, max_length=99, progress=events.append)
    assert len(encoded.tokenized) == 600
    assert [event.done for event in events] == [256, 512, 600]
    for i in (0, 255, 256, 599):
        assert encoded.tokenized[i].input_ids.tolist() == encode(PLAIN, many[i], max_length=99).input_ids.tolist()


def test_encode_all_digest_tells_ids_masks_and_borders_apart():
    base = [pair("ab", "cd"), pair("ef", "gh")]
    other_mask = [pair("a", "bcd"), pair("ef", "gh")]
    other_border = [pair("ab", "cdef"), pair("g", "h")]
    sets = [base, base[::-1], base[:1], other_mask, other_border]
    digests = [encode_all(PLAIN, one, max_length=99, add_eos=False, allow_few=True).digest for one in sets]
    assert len(set(digests)) == len(sets)


def test_encode_all_refuses_too_few_with_counts_and_causes():
    several = [pair("a", "b")] * 20 + [pair("a", "b" * 50)] * 3 + [Example((Segment("a", True),), None, 0)] * 2
    with pytest.raises(DataError) as caught:
        encode_all(PLAIN, several, max_length=9, add_eos=False)
    message = str(caught.value)
    assert message.startswith("20 of 25 examples are usable; 3 dropped because their supervised tokens exceed 9 tokens")
    assert "2 dropped because no token is left to predict" in message
    assert "At least 32 are needed. Add examples, or continue with --allow-few" in message

    allowed = encode_all(PLAIN, several, max_length=9, add_eos=False, allow_few=True)
    assert (len(allowed.tokenized), allowed.n_too_long, allowed.n_unsupervised) == (20, 3, 2)
    assert "Only 20 examples, fewer than 32: estimates are uncertain." in allowed.notes
    (alone, *_) = encode_all(PLAIN, several[:1], max_length=9, add_eos=False, allow_few=True).notes
    assert alone == "Only 1 example, fewer than 32: estimates are uncertain."

    for few in ({"allow_few": True}, {"minimum": 1}):  # as a finetune asks, which has no such flag
        with pytest.raises(
            DataError, match=r"0 of 3 examples are usable; 3 dropped.* At least 1 is needed\. Add examples\.$"
        ):
            encode_all(PLAIN, several[20:23], max_length=9, **few)


def test_encode_all_notes_what_it_cut():
    encoded = encode_all(PLAIN, [pair("xyz", "b")] * 40, max_length=4)
    assert (encoded.n_truncated, encoded.n_truncated_tokens) == (40, 40)
    assert encoded.notes == ("40 examples lost 40 context tokens on the left to fit 4 tokens.",)


def test_encode_all_notes_the_habits_of_the_tokenizer():
    several = [pair("a", "b")] * 40
    (note,) = encode_all(build_tiny_tokenizer(eos=False), several, max_length=9).notes
    assert note == "The tokenizer has no end-of-sequence token: completions end without one."
    (note,) = encode_all(build_tiny_tokenizer(prefix_space=True), several, max_length=9).notes
    assert note.startswith("The tokenizer puts a space before each separately tokenized text")
    assert encode_all(PLAIN, several, max_length=9).notes == ()


LLAMA_2 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def trimmed_offsets(tokenizer):
    """With offsets that leave white space out, as Llama 3's tokenizer gives them."""
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


CHATTY = {
    "byte-level": build_tiny_tokenizer(chat_template=CHATML),
    "byte-level, trimmed offsets": trimmed_offsets(build_tiny_tokenizer(chat_template=CHATML)),
    "prefix space": build_tiny_tokenizer(chat_template=CHATML, prefix_space=True),
    "sentencepiece": build_tiny_sentencepiece(chat_template=CHATML, bos=True),
    "sentencepiece, Llama 2": build_tiny_sentencepiece(chat_template=LLAMA_2, bos=True),
}


@pytest.mark.parametrize("tokenizer", CHATTY.values(), ids=CHATTY)
@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=2, max_size=6))
def test_a_chat_has_the_tokens_of_apply_chat_template(tokenizer, contents):
    messages = [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]
    segments = render_chat(tokenizer, messages)
    if not segments:
        return
    encoded = encode(tokenizer, Example(segments, None, 0, complete=True), max_length=10_000)
    whole = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    assert encoded.input_ids.tolist() == whole[: len(encoded.input_ids)]
    assert encoded.supervised[-1]
    assert encoded.input_ids[-1] == tokenizer.eos_token_id
    n_ends = sum(segment.supervised for segment in segments)
    assert (encoded.input_ids[encoded.supervised] == tokenizer.eos_token_id).sum() >= n_ends


@pytest.mark.parametrize("tokenizer", CHATTY.values(), ids=CHATTY)
def test_the_mask_of_a_chat_covers_the_answers_and_no_more(tokenizer):
    messages = [
        {"role": role, "content": content}
        for role, content in (("user", "top up?"), ("assistant", "by card.\n"), ("user", "How "), ("assistant", "3"))
    ]
    encoded = encode(tokenizer, Example(render_chat(tokenizer, messages), None, 0, complete=True), max_length=999)
    runs = [
        tokenizer.decode(encoded.input_ids[list(group)]).strip()
        for flag, group in groupby(range(len(encoded.input_ids)), key=lambda i: bool(encoded.supervised[i]))
        if flag
    ]
    # spaces aside: a decoder of this kind drops one at the start of what it is given
    assert [run.removesuffix(EOS).replace(" ", "").strip() for run in runs] == ["bycard.", "3"]
    assert all(run.endswith(EOS) for run in runs)


def test_a_tokenizer_without_offsets_has_its_segments_tokenized_apart(monkeypatch):
    tokenizer = build_tiny_tokenizer()
    example = pair("ab", "cd", complete=True)
    expected = encode(tokenizer, example, max_length=99)
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    assert encode(tokenizer, example, max_length=99).input_ids.tolist() == expected.input_ids.tolist()


@pytest.mark.parametrize(
    "tokenizer", [WITH_BOS, build_tiny_sentencepiece(bos=True)], ids=["byte-level", "sentencepiece"]
)
def test_encode_adds_no_second_beginning(tokenizer):
    written, plain = pair(f"{BOS}ab:", "no"), pair("ab:", "no")
    encoded = encode(tokenizer, written, max_length=99)
    assert (encoded.input_ids == tokenizer.bos_token_id).sum() == 1
    assert encoded.input_ids[0] == encode(tokenizer, plain, max_length=99).input_ids[0] == tokenizer.bos_token_id
    cut = encode(tokenizer, written, max_length=len(encoded.input_ids) - 1)
    assert cut.input_ids[0] == tokenizer.bos_token_id
    text = encode(tokenizer, Example((Segment(f"{BOS}ab", True),), None, 0), max_length=99)
    assert (text.input_ids == tokenizer.bos_token_id).sum() == 1


class Counting:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, tokenizer):
        self.tokenizer, self.longest = tokenizer, 0

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def __call__(self, texts, **options):
        self.longest = max(self.longest, *(len(text) for text in texts))
        return self.tokenizer(texts, **options)


def test_a_long_text_is_cut_before_it_is_tokenized():
    tokenizer = Counting(PLAIN)
    long = "How do I top up my card? " * 4000
    for example in (pair(long, " card"), pair(long, " card", complete=True)):
        encoded = encode(tokenizer, example, max_length=64)
        whole = encode(
            PLAIN, replace(example, segments=(Segment(long[-2000:], False), example.segments[1])), max_length=64
        )
        assert encoded.input_ids.tolist() == whole.input_ids.tolist()
        assert encoded.truncated > 0
    several = encode_all(tokenizer, [pair(long, " card")], max_length=64, allow_few=True)
    assert any(note.startswith("1 example lost at least ") for note in several.notes)
    assert isinstance(encode(tokenizer, pair("a", long), max_length=64), TooLong)
    assert tokenizer.longest < len(long) / 10


def test_a_long_text_of_few_tokens_is_read_whole():
    dropping = build_tiny_tokenizer()
    dropping.backend_tokenizer.normalizer = normalizers.Replace("x", "")
    encoded = encode(dropping, pair("ab" + "x" * 10_000, "cd"), max_length=16)
    assert encoded.input_ids.tolist() == encode(dropping, pair("ab", "cd"), max_length=16).input_ids.tolist()
    assert not isinstance(encode(dropping, pair("ab", "x" * 10_000 + "cd"), max_length=16), TooLong)
