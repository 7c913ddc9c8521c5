from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semfreeze_core.records.defaults import NULL_PAIRS
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.trace import SwappedPairs
from semfreeze_core.semantics.analysis import Labels, prepare_labels, read_traces
from semfreeze_core.semantics.extraction import ExtractionTally
from semfreeze_core.semantics.positions import choose_positions
from semfreeze_core.semantics.task_null import (
    MIN_PAIRS,
    OwnReading,
    last_stretch,
    read_task_null,
    swap_partners,
    with_completion,
)
from semfreeze_core.sources.models.decoder import Decoder
from tests.core.semantics.tiny_examples import make_example, random_examples, semantic_by_definition

completions = st.lists(st.sampled_from([b"a", b"b", b"c", b"dd", b"e"]), min_size=1, max_size=40)


@given(completions, st.integers(0, 5))
@settings(derandomize=True, deadline=None)
def test_swap_partners_never_give_a_prompt_its_own_completion(given_completions: list[bytes], seed: int) -> None:
    pairs = swap_partners(given_completions, seed)
    assert all(given_completions[i] != given_completions[j] for i, j in pairs)
    assert max(Counter(i for i, _ in pairs).values(), default=0) <= 1
    assert max(Counter(j for _, j in pairs).values(), default=0) <= 1
    largest, n = max(Counter(given_completions).values()), len(given_completions)
    # Those of a group of more than half can only go to the others, and the others' only to them.
    assert len(pairs) == (n if 2 * largest <= n else 2 * (n - largest))


def test_swap_partners_equal_a_hand_made_case() -> None:
    # Sorted and shifted by the largest group (2): a a b b becomes b b a a.
    pairs = dict(swap_partners([b"b", b"a", b"b", b"a"], seed=0))
    assert {pairs[0], pairs[2]} == {1, 3}
    assert {pairs[1], pairs[3]} == {0, 2}


def test_swap_partners_drop_what_is_left_of_a_group_larger_than_half() -> None:
    pairs = swap_partners([b"a"] * 7 + [b"b"] * 2 + [b"c"], seed=0)
    assert len(pairs) == 6
    assert Counter(j for _, j in pairs).keys() >= {7, 8, 9}


def test_swap_partners_of_equal_completions_are_none() -> None:
    assert swap_partners([b"a"] * 9, seed=0) == []


def test_swap_partners_repeat_themselves_and_follow_the_seed() -> None:
    given_completions = [bytes([i % 10]) for i in range(40)]
    assert swap_partners(given_completions, 1) == swap_partners(given_completions, 1)
    assert swap_partners(given_completions, 1) != swap_partners(given_completions, 2)


def test_swap_partners_do_not_prefer_completions_that_look_alike() -> None:
    # A hundred numbers: neighbors in sorted order would be one apart, random partners about 33.
    pairs = swap_partners([i.to_bytes(8, "big") for i in range(100)], seed=0)
    assert 25 < sum(abs(i - j) for i, j in pairs) / 100 < 42


def test_last_stretch_begins_the_last_run_of_supervised_tokens() -> None:
    assert last_stretch(make_example([1, 2], [3, 4])) == 2
    assert last_stretch(make_example([1, 2], [3], [4, 5, 6], [7, 8])) == 6
    assert last_stretch(make_example([1], [2], [3], [4], [5, 6], [7])) == 6


def test_with_completion_keeps_the_prompt_and_takes_the_donors_last_stretch() -> None:
    prompt = make_example([1, 2, 3], [4, 5], row=8, label="mine")
    donor = make_example([6], [7], [8, 9], [10, 11, 12], row=9, label="theirs")
    swapped = with_completion(prompt, donor, donor.row)
    assert swapped.input_ids.tolist() == [1, 2, 3, 10, 11, 12]
    assert swapped.supervised.tolist() == [False] * 3 + [True] * 3
    assert (swapped.row, swapped.label) == (9, "theirs")


def test_with_completion_keeps_earlier_turns_as_context_and_the_example_unchanged() -> None:
    prompt, donor = make_example([1], [2, 3], [4], [5]), make_example([6, 7], [8])
    before = prompt.supervised.copy()
    swapped = with_completion(prompt, donor, 0)
    assert swapped.input_ids.tolist() == [1, 2, 3, 4, 8]
    assert np.flatnonzero(swapped.supervised).tolist() == [4]
    assert np.array_equal(prompt.supervised, before)


def _read(
    decoder: Decoder, examples: list[TokenizedExample], *, limit: int = 64, seed: int = 0, **labels_settings: Any
) -> tuple[dict[str, SwappedPairs], ExtractionTally, Labels]:
    positions = choose_positions(examples, limit, seed)
    labels = prepare_labels(decoder, examples, positions, real_rows=97, **labels_settings)
    return *read_task_null(decoder, examples, labels, position_limit=limit, seed=seed), labels


def _row_by_row(rows: np.ndarray, expected: np.ndarray) -> list[int]:
    """For each row, the index of the expected row it equals; every one must equal exactly one."""
    distances = np.abs(rows[:, None] - expected[None]).max(-1)
    assert (np.sort(distances, axis=1)[:, 1] > 1e-4).all(), "two expected rows are too alike to tell apart"
    assert distances.min(1).max() < 1e-5
    return distances.argmin(1).tolist()


@pytest.mark.quick_cases(5)
def test_read_task_null_own_rows_are_the_ordinary_reading_and_swapped_ones_their_partners(decoder: Decoder) -> None:
    examples = random_examples(12, seed=0, prompt=(8, 8))
    pairs, _, labels = _read(decoder, examples, lens_loss=True)
    assert set(pairs) == {"semantic", "logit_z", "lens_loss"}
    ordinary, _ = read_traces(decoder, examples, choose_positions(examples, 64, 0), labels)
    order = _row_by_row(pairs["semantic"].own, ordinary["semantic"].deviation)
    assert sorted(order) == list(range(12))
    for metric, swapped_pairs in pairs.items():
        assert swapped_pairs.reason == ""
        np.testing.assert_allclose(swapped_pairs.own, ordinary[metric].deviation[order], atol=1e-5)
    # Every prompt with every other's completion, by the definition; each row must be one of its own prompt's.
    donors = []
    for prompt, row in zip(order, pairs["semantic"].swapped, strict=True):
        mixed = [with_completion(examples[prompt], donor, 0) for donor in examples]
        every = [semantic_by_definition(decoder, e, np.flatnonzero(e.supervised)).mean(1).numpy() for e in mixed]
        (donor,) = _row_by_row(row[None], np.array(every))
        assert examples[donor].input_ids[last_stretch(examples[donor]) :].tolist() != (
            examples[prompt].input_ids[last_stretch(examples[prompt]) :].tolist()
        )
        donors.append(donor)
    assert sorted(donors) == list(range(12))


def test_read_task_null_reads_only_the_last_turn_of_a_conversation(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, rng = tiny_decoder(), np.random.default_rng(0)
    examples = [make_example(*(rng.integers(3, 97, n).tolist() for n in (4, 3, 2, 3)), row=row) for row in range(10)]
    pairs, tally, labels = _read(decoder, examples)
    last = [np.flatnonzero(e.supervised)[-3:] for e in examples]
    alone, _ = read_traces(decoder, examples, last, labels)
    assert sorted(_row_by_row(pairs["semantic"].own, alone["semantic"].deviation)) == list(range(10))
    assert tally.tokens == 2 * 10 * 12


def test_read_task_null_reads_nothing_again_that_was_read(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, rng = tiny_decoder(), np.random.default_rng(0)
    plain = random_examples(9, seed=0)
    turns = (24, 3, 2, 3)  # longer than the others, so that none of those is cut
    chats = [make_example(*(rng.integers(3, 97, n).tolist() for n in turns), row=row) for row in (9, 10, 11)]
    examples = [*plain, *chats]
    positions = choose_positions(examples, 2, 0)
    labels = prepare_labels(decoder, examples, positions, real_rows=97)
    traces, _ = read_traces(decoder, examples, positions, labels)
    settings = {"position_limit": 2, "seed": 0}
    pairs, tally = read_task_null(decoder, examples, labels, analyzed=OwnReading(positions, traces), **settings)
    again, all_read = read_task_null(decoder, examples, labels, **settings)
    for metric, read in again.items():
        np.testing.assert_allclose(pairs[metric].own, read.own, atol=1e-5)
        np.testing.assert_allclose(pairs[metric].swapped, read.swapped, atol=1e-5)
    assert all_read.tokens - tally.tokens == sum(len(e.input_ids) for e in plain)  # not a chat's last turn alone
    # What is taken is what was read, and where it belongs: another reading of one example shows in its row alone.
    other = {m: replace(t, deviation=t.deviation + np.eye(12, 1, dtype=np.float32)) for m, t in traces.items()}
    moved, _ = read_task_null(decoder, examples, labels, analyzed=OwnReading(positions, other), **settings)
    changed = np.abs(moved["semantic"].own - pairs["semantic"].own).max(1)
    assert (np.sort(changed) > 0.5).tolist() == [False] * 11 + [True]
    (row,) = np.flatnonzero(changed > 0.5)
    np.testing.assert_allclose(pairs["semantic"].own[row], traces["semantic"].deviation[0], atol=1e-6)


def test_read_task_null_takes_at_most_its_number_of_pairs(tiny_decoder: Callable[..., Decoder]) -> None:
    pairs, _, _ = _read(tiny_decoder(), random_examples(NULL_PAIRS + 9, seed=0))
    assert pairs["semantic"].own.shape == (NULL_PAIRS, 5)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_read_task_null_compares_the_same_tokens_of_a_completion_on_both_sides(
    tiny_decoder: Callable[..., Decoder], limit: int
) -> None:
    # Equal prompts: whoever gets whose completion, both sides hold the same rows in another order, as long as the
    # same positions of a completion are drawn wherever it stands.
    examples = [
        make_example([5, 6, 7], [20 + e.row, *e.input_ids[last_stretch(e) :].tolist()], row=e.row)
        for e in random_examples(16, seed=0, completion=(10, 14))
    ]
    pairs, _, _ = _read(tiny_decoder(), examples, limit=limit)
    assert sorted(_row_by_row(pairs["semantic"].swapped, pairs["semantic"].own)) == list(range(16))


def test_read_task_null_finds_no_label_missing(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, rng = tiny_decoder(), np.random.default_rng(0)
    # Conversations of different length with a position limit: the null draws positions the main reading did not.
    examples = [
        make_example(*(rng.integers(3, 97, n).tolist() for n in (3, *rng.integers(1, 8, 2 * turns - 1))), row=row)
        for row, turns in enumerate([1, 2, 3] * 8)
    ]
    pairs, _, labels = _read(decoder, examples, limit=2)
    supervised = np.concatenate([e.input_ids[e.supervised] for e in examples])
    assert int(labels.index[supervised].min()) == 0
    assert int(labels.index.max()) + 1 == len(set(supervised.tolist())) == len(labels.targets[0].vectors)
    for swapped_pairs in pairs.values():
        assert np.isfinite(swapped_pairs.own).all()
        assert np.isfinite(swapped_pairs.swapped).all()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_read_task_null_makes_no_example_longer_than_the_longest(
    tiny_decoder: Callable[..., Decoder], family: str
) -> None:
    # Examples cut to the 64 positions the model has, some with long completions and some with short ones.
    rng = np.random.default_rng(0)
    examples = [
        make_example(rng.integers(3, 97, 64 - n).tolist(), rng.integers(3, 97, n).tolist(), row=row)
        for row, n in enumerate([2, 40] * 8)
    ]
    decoder = tiny_decoder(family, max_positions=64)
    lengths: list[int] = []
    handle = decoder.base.register_forward_pre_hook(
        lambda _, __, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    pairs, _, labels = _read(decoder, examples)
    handle.remove()
    assert max(lengths) == 64
    # A prompt of 62 tokens whose partner's completion has 40 loses 38 on both sides; its first token (a BOS) stays.
    cut = [
        make_example(np.delete(e.input_ids[:62], slice(1, 39)).tolist(), e.input_ids[62:].tolist(), row=e.row)
        for e in examples[::2]
    ]
    candidates = [*examples, *cut]
    read, _ = read_traces(decoder, candidates, choose_positions(candidates, 64, 0), labels)
    order = _row_by_row(pairs["semantic"].own, read["semantic"].deviation)
    assert sorted(i if i < 16 else 2 * (i - 16) for i in order) == list(range(16))
    assert 2 <= sum(i >= 16 for i in order) <= 8
    assert np.isfinite(pairs["semantic"].swapped).all()


@pytest.mark.parametrize("prompt", [[], [3]], ids=["plain", "bos"])
def test_read_task_null_of_plain_text_gives_the_reason(tiny_decoder: Callable[..., Decoder], prompt: list[int]) -> None:
    rng = np.random.default_rng(0)
    examples = [make_example([*prompt, 5][:1], rng.integers(3, 97, 9).tolist(), row=row) for row in range(20)]
    pairs, tally, _ = _read(tiny_decoder(), examples)
    for swapped_pairs in pairs.values():
        assert swapped_pairs.own.shape == swapped_pairs.swapped.shape == (0, 5)
        assert swapped_pairs.reason.startswith("only 0 of 20 examples have a prompt")
    assert tally == ExtractionTally()


def test_read_task_null_of_equal_completions_gives_the_reason(tiny_decoder: Callable[..., Decoder]) -> None:
    examples = [make_example(e.input_ids.tolist(), [7, 8], row=e.row) for e in random_examples(20, seed=0)]
    pairs, _, _ = _read(tiny_decoder(), examples)
    assert pairs["semantic"].reason.startswith("only 0 of 20 examples")
    assert len(pairs["semantic"].own) == 0


@pytest.mark.parametrize(("others", "enough"), [(3, False), (4, True)])
def test_read_task_null_needs_its_smallest_number_of_pairs(
    tiny_decoder: Callable[..., Decoder], others: int, enough: bool
) -> None:
    labels = [7] * 20 + list(range(20, 20 + others))
    examples = [make_example([row + 3, 5], [label], row=row) for row, label in enumerate(labels)]
    pairs, _, _ = _read(tiny_decoder(), examples)
    assert len(pairs["semantic"].own) == (2 * others if enough else 0)
    assert (pairs["semantic"].reason == "") is enough
    assert (2 * others >= MIN_PAIRS) is enough


def test_read_task_null_repeats_itself_and_follows_the_seed(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, examples = tiny_decoder(), random_examples(16, seed=0)
    one, again, other = (_read(decoder, examples, seed=seed)[0]["semantic"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.swapped, again.swapped)
    assert not np.array_equal(one.swapped, other.swapped)
