"""Free checks of a task, on examples small enough to count by hand."""

import numpy as np
import pytest

from semfreeze_core.gains.task_checks import (
    answer_tag_share,
    bigram_coverage,
    check_task,
    completion_bigrams,
    loss_variation,
)
from semfreeze_core.records.examples import TokenizedExample


def example(*stretches):
    """Stretches of token ids, by turns context and target tokens."""
    flags = [i % 2 == 1 for i, ids in enumerate(stretches) for _ in ids]
    ids = [token for ids in stretches for token in ids]
    return TokenizedExample(np.array(ids, dtype=np.int64), np.array(flags), None, 0)


def test_pairs_stand_within_one_stretch_of_target_tokens():
    assert completion_bigrams(example([9, 8], [1, 2, 3])) == [(1, 2), (2, 3)]
    assert completion_bigrams(example([9], [1, 2], [7], [3, 4, 3])) == [(1, 2), (3, 4), (4, 3)]
    assert completion_bigrams(example([9], [1])) == []


def test_coverage_counts_every_place_of_a_pair():
    train = [example([9], [1, 2, 3]), example([9], [5, 6])]
    evaluation = [example([8], [1, 2, 1, 2]), example([8], [6, 5])]
    # pairs: 12, 21, 12, 65; known: 12, 23, 56
    assert bigram_coverage(train, evaluation) == pytest.approx(2 / 4)
    assert bigram_coverage(evaluation, evaluation) == 1
    assert bigram_coverage(train, [example([9], [1])]) is None


def test_an_answer_tag_is_what_most_prompts_end_in():
    tagged = [example([3, 4, 7, 8], [1]), example([5, 7, 8], [2, 1])]
    others = [example([3, 7, 9], [1]), example([7], [1])]
    assert answer_tag_share([*tagged, *others]) == (pytest.approx(2 / 3), 3)
    assert answer_tag_share([example([7], [1])]) == (None, 0)
    # the prompt of a chat is all before its last answer
    assert answer_tag_share([example([1, 2], [3], [5, 7, 8], [4]), tagged[0]]) == (1.0, 2)


def test_variation_is_the_standard_deviation_over_the_mean():
    assert loss_variation(np.array([1.0, 2.0, 3.0])) == pytest.approx(0.5)
    assert loss_variation(np.array([2.0])) is None
    assert loss_variation(np.zeros(3)) is None


def test_coverage_takes_eighty_completions_and_needs_them():
    train = [example([9, 9], [n, n + 1]) for n in range(100)]
    evaluation = [example([9, 9], [n, n + 1]) for n in range(72, 88)]
    checks = check_task(train, evaluation)
    assert checks.bigram_coverage == pytest.approx(8 / 16), "of 72..87 the first 80 know 72..79"
    assert (checks.n_train_completions, checks.n_eval_completions) == (80, 16)
    assert (checks.answer_tag_share, checks.n_prompts) == (1.0, 116)
    assert check_task(train[:79], evaluation).bigram_coverage is None
    assert check_task(train, evaluation[:15]).bigram_coverage is None
