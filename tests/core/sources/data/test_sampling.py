"""The draw of rows: by share, complete, seeded, and never just the first ones."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semfreeze_core.sources.data.sampling import sample_rows, stratified_sample

LABELS = st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=80)


@st.composite
def draws(draw):
    labels = draw(LABELS)
    return labels, draw(st.integers(0, len(labels))), draw(st.integers(0, 5))


@settings(deadline=None)
@given(draws())
def test_stratified_sample_draws_n_different_rows_by_share(case):
    labels, n, seed = case
    sample = stratified_sample(labels, n, seed)
    assert len(sample) == len(set(sample)) == n
    assert set(sample) <= set(range(len(labels)))
    sizes, drawn = Counter(labels), Counter(labels[i] for i in sample)
    quotas = {label: Fraction(n * size, len(labels)) for label, size in sizes.items()}
    if n >= len(sizes):
        assert set(drawn) == set(sizes)
    if n < len(sizes) or min(quotas.values()) >= 1:
        assert all(abs(drawn[label] - quota) < 1 for label, quota in quotas.items())
    else:  # places for the rare labels come from the common ones
        assert all(drawn[label] == 1 for label, quota in quotas.items() if quota < 1)
        assert all(drawn[label] < quota + 1 for label, quota in quotas.items() if quota >= 1)


@settings(deadline=None)
@given(draws())
def test_stratified_sample_depends_on_nothing_but_its_arguments(case):
    labels, n, seed = case
    assert stratified_sample(labels, n, seed) == stratified_sample(list(labels), n, seed)


def test_stratified_sample_gives_the_shares_worked_out_by_hand():
    # quotas of 10 rows: 5.5, 3.3, 1.2 -> 5 + 3 + 1, and the place left over goes to the largest fraction (.5)
    labels = ["a"] * 55 + ["b"] * 33 + ["c"] * 12
    assert Counter(labels[i] for i in stratified_sample(labels, 10, seed=1)) == {"a": 6, "b": 3, "c": 1}
    # the rare labels take 2 of 10 places, the other 8 are shared 70 : 28 = 5.71 : 2.29
    labels = ["a"] * 70 + ["b"] * 28 + ["c", "d"]
    assert Counter(labels[i] for i in stratified_sample(labels, 10, seed=1)) == {"a": 6, "b": 2, "c": 1, "d": 1}


def test_stratified_sample_breaks_ties_by_the_seed_and_not_by_the_alphabet():
    labels = [label for label in "abcdefgh" for _ in range(4)]
    kinds = {frozenset(labels[i] for i in stratified_sample(labels, 2, seed)) for seed in range(20)}
    assert len(kinds) > 5


def test_stratified_sample_refuses_more_rows_than_there_are():
    with pytest.raises(ValueError, match=r"n must be in 0\.\.2, found 3"):
        stratified_sample(["a", "b"], 3, seed=0)
    assert stratified_sample([], 0, seed=0) == []


@pytest.mark.parametrize("labels", [[None] * 1000, ["a", "b"] * 500, [str(i) for i in range(1000)]])
def test_sample_rows_never_takes_the_first_rows(labels):
    drawn, _ = sample_rows(labels, 50, seed=0)
    assert len(set(drawn)) == 50
    assert max(drawn) > 800
    assert drawn != sorted(drawn)
    assert drawn == sample_rows(labels, 50, seed=0)[0]
    assert drawn != sample_rows(labels, 50, seed=1)[0]


@pytest.mark.parametrize("n", [None, 6, 7])
def test_sample_rows_takes_all_in_seeded_order(n):
    drawn, notes = sample_rows(["a"] * 3 + ["b"] * 3, n, seed=3)
    assert sorted(drawn) == list(range(6))
    assert notes == (["All 6 usable examples are taken; up to 7 could be used."] if n == 7 else [])


def test_sample_rows_says_how_it_drew():
    assert sample_rows([None] * 10, 4, seed=0)[1] == []
    assert sample_rows(["a", "b"] * 5, 4, seed=0)[1] == [
        "4 of 10 usable rows are drawn, each of 2 labels by its share."
    ]
    (note,) = sample_rows(["a", "b", "c", "d", "e", *"aaaaa"], 4, seed=0)[1]
    assert note.startswith("The labels are treated as free text, not as classes: 5 different ones in 10 rows.")


def test_sample_rows_counts_classes_without_the_missing_label():
    labels = ["a"] * 6 + [None] * 4
    drawn, _ = sample_rows(labels, 5, seed=0)
    assert Counter(labels[i] for i in drawn) == {"a": 3, None: 2}
