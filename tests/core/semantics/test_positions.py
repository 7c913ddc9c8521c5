import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semfreeze_core.semantics.positions import choose_positions, length_buckets, make_batch
from tests.core.semantics.tiny_examples import make_example, random_examples


def test_choose_positions_takes_all_supervised_positions_within_the_limit() -> None:
    example = make_example([5, 6], [7, 8], [9], [10])
    assert choose_positions([example], 3, seed=0)[0].tolist() == [2, 3, 5]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_choose_positions_draws_no_more_than_the_limit_and_keeps_the_first(limit: int) -> None:
    examples = random_examples(30, seed=0, completion=(6, 20))
    for example, positions in zip(examples, choose_positions(examples, limit, seed=0), strict=True):
        assert len(positions) == limit
        assert positions[0] == np.flatnonzero(example.supervised)[0]
        assert example.supervised[positions].all()
        assert (np.diff(positions) > 0).all()


def test_choose_positions_repeats_itself_and_follows_the_seed() -> None:
    examples = random_examples(30, seed=0, completion=(10, 20))
    drawn = [np.concatenate(choose_positions(examples, 5, seed)) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_choose_positions_of_an_example_do_not_depend_on_the_others() -> None:
    examples = random_examples(20, seed=0, completion=(10, 20))
    together = choose_positions(examples, 5, seed=3)
    backwards = choose_positions(examples[::-1], 5, seed=3)[::-1]
    for i, example in enumerate(examples):
        assert np.array_equal(choose_positions([example], 5, seed=3)[0], together[i])
        assert np.array_equal(backwards[i], together[i])


def test_choose_positions_draws_apart_for_each_row() -> None:
    examples = [make_example([1], range(50), row=row) for row in range(10)]
    assert len({tuple(p) for p in choose_positions(examples, 10, seed=0)}) == 10


def test_length_buckets_equal_a_hand_made_case() -> None:
    # 9 alone (2 x 9 > 12); 5 and 4 padded to 10, and a third would be 15; 3, 3, 2 and 1 padded to 12.
    assert length_buckets([3, 9, 1, 4, 2, 5, 3], 12) == [[1], [5, 3], [6, 0, 4, 2]]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 100))
@settings(derandomize=True, deadline=None)
def test_length_buckets_hold_every_example_once_within_the_limit(lengths: list[int], max_tokens: int) -> None:
    buckets = length_buckets(lengths, max_tokens)
    assert sorted(i for bucket in buckets for i in bucket) == list(range(len(lengths)))
    for bucket in buckets:
        assert len(bucket) == 1 or len(bucket) * max(lengths[i] for i in bucket) <= max_tokens
    assert [lengths[i] for bucket in buckets for i in bucket] == sorted(lengths, reverse=True)


def test_make_batch_points_at_the_state_before_each_label() -> None:
    examples = [make_example([5, 6], [7, 8]), make_example([1], [2]), make_example([11, 12, 13], [14])]
    positions = [np.array([2, 3]), np.array([1]), np.array([3])]
    batch = make_batch([2, 0, 1], examples, positions, pad_id=99)
    assert batch.examples == (2, 0, 1)
    assert batch.input_ids.tolist() == [[11, 12, 13, 14], [5, 6, 7, 8], [1, 2, 99, 99]]
    assert batch.rows.tolist() == [0, 1, 1, 2]
    assert batch.columns.tolist() == [2, 1, 2, 0]
    assert batch.label_ids.tolist() == [14, 7, 8, 2]
    assert batch.tokens == 10
