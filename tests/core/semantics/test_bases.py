import pytest
import torch
from torch import Tensor

from semfreeze_core.semantics.bases import cholesky_or_ridge, gram_and_mean, logit_z_targets, semantic_targets


def _head(n_rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(n_rows, width, generator=torch.Generator().manual_seed(seed))


def _unit_pseudoinverse_columns(head: Tensor) -> Tensor:
    """Columns of pinv(W) by singular values, one a row, scaled to unit length."""
    columns = torch.linalg.pinv(head.double(), rcond=1e-5).T
    return columns / columns.norm(dim=1, keepdim=True)


def _ones(head: Tensor) -> Tensor:
    return torch.ones(len(head), dtype=torch.int64)


def test_semantic_targets_equal_a_hand_computed_inverse() -> None:
    # W = [[2, 0], [1, 1]] has the inverse [[1/2, 0], [-1/2, 1]]: its columns point to (1, -1) and (0, 1).
    head = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    targets = semantic_targets(head, torch.tensor([1, 1]), gram_and_mean(head)[0])
    expected = torch.tensor([[0.5**0.5, -(0.5**0.5)], [0.0, 1.0]])
    torch.testing.assert_close(targets.vectors, expected)
    assert targets.factor is None


@pytest.mark.parametrize(("n_rows", "width"), [(40, 7), (97, 32), (16, 16)])
def test_semantic_targets_are_the_columns_of_the_pseudoinverse(n_rows: int, width: int) -> None:
    head = _head(n_rows, width)
    targets = semantic_targets(head, _ones(head), gram_and_mean(head)[0])
    expected = _unit_pseudoinverse_columns(head)
    torch.testing.assert_close(targets.vectors.double(), expected, atol=2e-6, rtol=0)


def test_semantic_targets_of_a_square_head_are_read_as_their_own_label_alone() -> None:
    head = _head(12, 12)
    logits = head @ semantic_targets(head, _ones(head), gram_and_mean(head)[0]).vectors.T
    off_diagonal = logits - torch.diag(logits.diagonal())
    assert float(off_diagonal.abs().max()) < 1e-4 * float(logits.diagonal().min())


def test_semantic_targets_take_the_rows_they_are_given_in_their_order() -> None:
    head = _head(40, 7)
    wanted = torch.tensor([31, 4])
    targets = semantic_targets(head[wanted], torch.tensor([1, 1]), gram_and_mean(head)[0])
    torch.testing.assert_close(targets.vectors.double(), _unit_pseudoinverse_columns(head)[wanted], atol=2e-6, rtol=0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("n_rows", "width"), [(5, 12), (15, 16)])
def test_semantic_targets_of_fewer_rows_than_dimensions_stay_near_the_pseudoinverse(
    n_rows: int, width: int, seed: int
) -> None:
    head = _head(n_rows, width, seed)
    targets = semantic_targets(head, _ones(head), gram_and_mean(head)[0])
    cosines = (targets.vectors.double() * _unit_pseudoinverse_columns(head)).sum(1)
    assert torch.isfinite(targets.vectors).all()
    assert float(cosines.min()) > 0.999


@pytest.mark.parametrize("seed", range(8))
def test_semantic_targets_of_a_head_blind_to_one_direction_stay_near_the_pseudoinverse(seed: int) -> None:
    head = _head(60, 16, seed)
    head[:, -1] = head[:, 0] + head[:, 1]  # rank 15, though there are more rows than dimensions
    targets = semantic_targets(head, _ones(head), gram_and_mean(head)[0])
    cosines = (targets.vectors.double() * _unit_pseudoinverse_columns(head)).sum(1)
    assert float(cosines.min()) > 0.999


def test_semantic_targets_average_by_counts() -> None:
    head = _head(40, 7)
    targets = semantic_targets(head[:2], torch.tensor([3, 1]), gram_and_mean(head)[0])
    torch.testing.assert_close(targets.null, (3 * targets.vectors[0] + targets.vectors[1]) / 4)


def test_logit_z_targets_equal_a_hand_computed_case() -> None:
    # Rows (2, 0), (-2, 0), (0, 1), (0, -1): mean 0, Gc = diag(8, 2), leverages 4/8 = 1/2 and 1/2.
    head = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    gram, mean = gram_and_mean(head)
    targets = logit_z_targets(head[[0, 2]], torch.tensor([1, 1]), gram, mean, 4)
    torch.testing.assert_close(targets.vectors, torch.tensor([[8**0.5, 0.0], [0.0, 2**0.5]]))
    assert targets.factor is not None
    torch.testing.assert_close(targets.factor, torch.tensor([[8**0.5, 0.0], [0.0, 2**0.5]]))
    torch.testing.assert_close(targets.null, torch.tensor([2**0.5, 0.5**0.5]))


def test_logit_z_targets_average_by_counts() -> None:
    head = _head(40, 7)
    targets = logit_z_targets(head[:2], torch.tensor([3, 1]), *gram_and_mean(head), 40)
    torch.testing.assert_close(targets.null, (3 * targets.vectors[0] + targets.vectors[1]) / 4)


@pytest.mark.parametrize(("n_rows", "width"), [(5, 12), (15, 16), (40, 7)])
def test_logit_z_targets_have_leverages_of_the_pseudoinverse(n_rows: int, width: int) -> None:
    head = _head(n_rows, width)
    gram, mean = gram_and_mean(head)
    targets = logit_z_targets(head, _ones(head), gram, mean, n_rows)
    centered = head.double() - head.double().mean(0)
    leverage = torch.einsum("vi,ij,vj->v", centered, torch.linalg.pinv(centered.T @ centered, rcond=1e-10), centered)
    expected = centered / leverage.sqrt()[:, None]
    torch.testing.assert_close(targets.vectors.double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gram_and_mean_are_the_same_in_chunks_of_any_size(dtype: torch.dtype) -> None:
    head = _head(100, 6).to(dtype)
    exact = head.double()
    for chunk in (1, 7, 100, 1000):
        gram, mean = gram_and_mean(head, chunk)
        assert gram.dtype == mean.dtype == torch.float64
        torch.testing.assert_close(gram, exact.T @ exact, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(mean, exact.mean(0), rtol=1e-12, atol=1e-12)


def test_cholesky_or_ridge_adds_nothing_to_a_matrix_of_full_rank() -> None:
    matrix = torch.tensor([[4.0, 2.0], [2.0, 5.0]], dtype=torch.float64)
    factor, ridged = cholesky_or_ridge(matrix)
    assert not ridged
    torch.testing.assert_close(factor, torch.tensor([[2.0, 0.0], [1.0, 2.0]], dtype=torch.float64))


@pytest.mark.parametrize("smallest", [0.0, 1e-12])
def test_cholesky_or_ridge_adds_a_millionth_of_the_mean_eigenvalue_when_rank_is_missing(smallest: float) -> None:
    matrix = torch.diag(torch.tensor([1.0, 3.0, smallest], dtype=torch.float64))
    factor, ridged = cholesky_or_ridge(matrix)
    assert ridged
    ridge = 1e-6 * (4 + smallest) / 3
    torch.testing.assert_close(factor @ factor.T, matrix + ridge * torch.eye(3, dtype=torch.float64))
