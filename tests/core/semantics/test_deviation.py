import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from semfreeze_core.semantics.bases import Targets, gram_and_mean, logit_z_targets, semantic_targets
from semfreeze_core.semantics.deviation import deviation, lens_loss_and_null, measured_length

N_ROWS, WIDTH = 50, 8


def _random(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def _targets(head: Tensor, labels: Tensor) -> tuple[Targets, Targets, Tensor]:
    """Both kinds of targets for the labels that occur, and each position's row in them."""
    unique, index, counts = labels.unique(return_inverse=True, return_counts=True)
    gram, mean = gram_and_mean(head)
    semantic = semantic_targets(head[unique], counts, gram)
    return semantic, logit_z_targets(head[unique], counts, gram, mean, len(head)), index


def _deviations(states: Tensor, targets: Targets, index: Tensor) -> Tensor:
    return deviation(states, targets.vectors[index], measured_length(states, targets.factor))


def test_deviation_equals_a_hand_computed_cosine() -> None:
    states = torch.tensor([[3.0, 4.0], [3.0, 4.0], [-5.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    values = deviation(states, targets, measured_length(states, None))
    torch.testing.assert_close(values, torch.tensor([1 - 3 / 5, 1 - 4 / 5, 2.0]))


def test_deviation_takes_one_target_for_all_states() -> None:
    states = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    values = deviation(states, torch.tensor([0.5, 0.25]), measured_length(states, None))
    torch.testing.assert_close(values, torch.tensor([1 - 2.5 / 5, 1 - 0.5 / 2]))


def test_measured_length_multiplies_by_the_factor() -> None:
    states = torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(measured_length(states, None), torch.tensor([5.0]))
    # (3, 4) [[2, 0], [1, 1]] = (10, 4)
    factor = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    torch.testing.assert_close(measured_length(states, factor), torch.tensor([116**0.5]))


@pytest.mark.parametrize("factor", [None, torch.eye(2)])
def test_measured_length_of_a_zero_state_is_nan_and_of_no_other(factor: Tensor | None) -> None:
    lengths = measured_length(torch.tensor([[0.0, 0.0], [0.0, 1e-3]]), factor)
    assert torch.isnan(lengths).tolist() == [True, False]


def test_measured_length_of_bfloat16_states_is_float32() -> None:
    states = _random(20, WIDTH)
    lengths = measured_length(states.bfloat16(), torch.eye(WIDTH).bfloat16())
    assert lengths.dtype == torch.float32
    torch.testing.assert_close(lengths, states.norm(dim=1), rtol=1e-2, atol=0)


def test_deviation_of_a_zero_state_is_nan_for_either_kind_of_target() -> None:
    head = _random(N_ROWS, WIDTH)
    semantic, logit_z, index = _targets(head, torch.tensor([3, 4]))
    states = torch.stack([torch.zeros(WIDTH), torch.ones(WIDTH)])
    for targets in (semantic, logit_z):
        assert torch.isnan(_deviations(states, targets, index)).tolist() == [True, False]


@pytest.mark.parametrize("kind", ["semantic", "logit_z"])
def test_deviation_lies_between_zero_and_two_and_reaches_both(kind: str) -> None:
    head = _random(N_ROWS, WIDTH)
    labels = torch.arange(N_ROWS)
    semantic, logit_z, index = _targets(head, labels)
    targets = semantic if kind == "semantic" else logit_z
    for scale in (1e-3, 1.0, 1e3):
        values = _deviations(scale * _random(N_ROWS, WIDTH, seed=1), targets, index)
        assert float(values.min()) >= 0
        assert float(values.max()) <= 2
    # A state is nearest where it points along the label's own direction: for logit_z, Gc^-1 (w_y - m).
    nearest = semantic.vectors
    if kind == "logit_z":
        centered = head.double() - head.double().mean(0)
        nearest = torch.linalg.solve(centered.T @ centered, centered.T).T.float()
    torch.testing.assert_close(_deviations(nearest, targets, index), torch.zeros(N_ROWS), atol=2e-6, rtol=0)
    torch.testing.assert_close(_deviations(-nearest, targets, index), torch.full((N_ROWS,), 2.0), atol=2e-6, rtol=0)


def test_logit_z_is_one_less_the_cosine_of_centered_logits() -> None:
    head = _random(N_ROWS, WIDTH) + 0.5  # off center, so that centring matters
    labels, states = torch.tensor([7, 7, 21, 49]), _random(4, WIDTH, seed=1)
    _, logit_z, index = _targets(head, labels)

    full = head.double()
    centered = full - full.mean(0)
    direction = torch.linalg.pinv(centered)[:, labels].T  # where the centered head reads the label most purely

    def centered_logits(u: Tensor) -> Tensor:
        logits = u.double() @ full.T
        return logits - logits.mean(1, keepdim=True)

    expected = 1 - torch.cosine_similarity(centered_logits(states), centered_logits(direction), dim=1)
    torch.testing.assert_close(_deviations(states, logit_z, index).double(), expected, atol=1e-6, rtol=0)


def test_logit_z_alone_is_unchanged_when_a_norm_gain_is_folded_into_the_head() -> None:
    head, states, labels = _random(N_ROWS, WIDTH), _random(30, WIDTH, seed=1), torch.arange(30)
    gain = torch.linspace(0.2, 3.0, WIDTH)
    plain = _targets(head, labels)
    folded = _targets(head * gain, labels)
    semantic, logit_z = (
        (_deviations(states, plain[i], plain[2]), _deviations(states / gain, folded[i], folded[2])) for i in (0, 1)
    )
    torch.testing.assert_close(*logit_z, atol=2e-6, rtol=0)
    assert float((semantic[0] - semantic[1]).abs().mean()) > 0.05


def test_lens_loss_and_null_equal_a_hand_computed_case() -> None:
    logits = torch.tensor([[0.0, math.log(3)]])
    loss, null = lens_loss_and_null(logits, torch.tensor([1]), torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(loss, torch.tensor([math.log(4 / 3)]))
    torch.testing.assert_close(null, torch.tensor([math.log(4) - 0.75 * math.log(3)]))


def test_lens_loss_is_the_cross_entropy_and_never_negative() -> None:
    logits, labels = 30 * _random(200, N_ROWS), torch.arange(200) % N_ROWS
    loss, _ = lens_loss_and_null(logits, labels, torch.full((N_ROWS,), 1 / N_ROWS))
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, labels, reduction="none"))
    assert float(loss.min()) >= 0


def _readings(head: Tensor, states: Tensor, labels: Tensor) -> dict[str, tuple[Callable[[Tensor], Tensor], Tensor]]:
    """For each deviation: a function of the labels (by position), and the closed form of its null."""
    semantic, logit_z, index = _targets(head, labels)
    unique = labels.unique()
    share = torch.bincount(labels, minlength=len(head)) / len(labels)
    logits = states @ head.T
    readings: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
        "lens_loss": (
            lambda order: lens_loss_and_null(logits, labels[order], share)[0],
            lens_loss_and_null(logits, labels, share)[1],
        )
    }
    for targets in (semantic, logit_z):
        length = measured_length(states, targets.factor)
        readings[targets.metric] = (
            lambda order, targets=targets: _deviations(states, targets, index[order]),
            deviation(states, targets.null, length),
        )
    assert len(unique) == len(semantic.vectors)
    return readings


@pytest.mark.parametrize("metric", ["semantic", "logit_z", "lens_loss"])
def test_label_null_is_the_exact_mean_over_all_permutations(metric: str) -> None:
    labels = torch.tensor([9, 9, 30, 41, 9])
    permuted, null = _readings(_random(N_ROWS, WIDTH), _random(5, WIDTH, seed=1), labels)[metric]
    every = torch.stack([permuted(torch.tensor(order)) for order in itertools.permutations(range(5))])
    torch.testing.assert_close(every.mean(0), null, atol=2e-6, rtol=1e-6)
    assert float(every.std(0).min()) > 0.01  # the labels do matter


@pytest.mark.parametrize("metric", ["semantic", "logit_z", "lens_loss"])
def test_label_null_agrees_with_random_permutations(metric: str) -> None:
    n, draws = 60, 3000
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, N_ROWS, (n,), generator=generator)
    permuted, null = _readings(_random(N_ROWS, WIDTH), _random(n, WIDTH, seed=1), labels)[metric]
    drawn = torch.stack([permuted(torch.randperm(n, generator=generator)) for _ in range(draws)])
    standard_error = drawn.std(0) / draws**0.5
    assert float(((drawn.mean(0) - null) / standard_error).abs().max()) < 4.5
    deviations = permuted(torch.arange(n))
    assert float(((deviations - null) / standard_error).abs().max()) > 20  # the true labels are not their own null


@pytest.mark.parametrize("metric", ["semantic", "logit_z", "lens_loss"])
def test_label_null_of_equal_labels_is_the_deviation_itself(metric: str) -> None:
    labels = torch.full((6,), 17)
    permuted, null = _readings(_random(N_ROWS, WIDTH), _random(6, WIDTH, seed=1), labels)[metric]
    torch.testing.assert_close(permuted(torch.arange(6)), null)
