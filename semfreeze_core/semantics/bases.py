"""Semantic bases: where in latent space the head reads each label most purely.

For a head W (V x d) the basis of label v is pinv(W) e_v = (W'W)^-1 w_v. Only the d x d Gram matrix and the rows of the
labels that occur are needed. Source: Gu et al. 2024, vocabulary-defined semantics, arXiv 2401.16184.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from semfreeze_core.device import has_float64

MetricName = Literal["semantic", "logit_z"]


@dataclass(frozen=True)
class Targets:
    """One deviation's fixed side: a target vector a label, and the length a state is measured in.

    Every deviation here is 1 - u.t_y / |u|_M with |u|_M = |u F|; `semantic` measures plainly (F is None).

    Attributes:
        metric: name of the deviation.
        vectors: float32 (n_labels, d), the target of each label that occurs.
        null: float32 (d,), mean target over all supervised positions; by linearity u.null / |u| is the exact
            expectation of u.t / |u| when labels are permuted over positions.
        factor: float32 (d, d) F, or None for the identity.
    """

    metric: MetricName
    vectors: Tensor
    null: Tensor
    factor: Tensor | None


@torch.no_grad()
def gram_and_mean(weight: Tensor, chunk: int = 4096) -> tuple[Tensor, Tensor]:
    """W'W (d, d) and the mean row (d,), both float64 on the CPU, added up over chunks of rows.

    Multiplied in float64: float32 would round directions the head cannot see to about 1e-7 of the largest, as large as
    the ridge that is to keep them quiet.
    """
    device = weight.device if has_float64(weight.device) else torch.device("cpu")
    gram = torch.zeros(weight.shape[1], weight.shape[1], dtype=torch.float64, device=device)
    total = torch.zeros(weight.shape[1], dtype=torch.float64, device=device)
    for rows in torch.split(weight, chunk):
        block = rows.to(device).double()
        gram.addmm_(block.T, block)
        total += block.sum(0)
    return gram.cpu(), total.cpu() / len(weight)


def cholesky_or_ridge(matrix: Tensor) -> tuple[Tensor, bool]:
    """Lower Cholesky factor of a symmetric positive matrix (d, d), and whether a ridge had to be added.

    When the matrix is not of full rank (its smallest pivot is below 1e-10 of the largest), 1e-6 tr/d is added to the
    diagonal: directions the head cannot see then get no weight worth speaking of.
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    pivots = factor.diagonal()
    if int(failed) == 0 and float(pivots.min() / pivots.max()) > 1e-5:
        return factor, False
    ridge = 1e-6 * matrix.trace() / len(matrix)
    return torch.linalg.cholesky(matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype)), True


@torch.no_grad()
def semantic_targets(rows: Tensor, counts: Tensor, gram: Tensor) -> Targets:
    """Targets of the paper's deviation, 1 - cos(u, basis_y).

    Args:
        rows: head rows of the labels that occur, (n_labels, d).
        counts: supervised positions of each label, (n_labels,).
        gram: W'W over the real rows, float64 (d, d).
    """
    factor, _ = cholesky_or_ridge(gram)
    bases = torch.cholesky_solve(rows.cpu().double().T, factor).T
    unit = bases / bases.norm(dim=1, keepdim=True)
    return Targets("semantic", unit.float(), _weighted_mean(unit, counts), None)


@torch.no_grad()
def logit_z_targets(rows: Tensor, counts: Tensor, gram: Tensor, mean: Tensor, n_rows: int) -> Targets:
    """Targets of our standardized-logit deviation, 1 - cos of centered logits with the centered logits of basis_y.

    With Gc = W'W - n m m' the centered head's Gram matrix, |centered logits of u| = sqrt(u'Gc u), and the label's
    target is (w_y - m) / sqrt(leverage_y), leverage_y = (w_y - m)' Gc^-1 (w_y - m). Unchanged when a norm gain is
    folded into the head, which the plain cosine is not. Our derivation, not the paper's. Uses the linear part of the
    head only.

    Args:
        rows: head rows of the labels that occur, (n_labels, d).
        counts: supervised positions of each label, (n_labels,).
        gram: W'W over the real rows, float64 (d, d).
        mean: mean real row m, float64 (d,).
        n_rows: number of real rows n.
    """
    factor, _ = cholesky_or_ridge(gram - n_rows * torch.outer(mean, mean))
    centered = rows.cpu().double() - mean
    leverage = torch.linalg.solve_triangular(factor, centered.T, upper=False).square().sum(0)
    vectors = centered / leverage.sqrt()[:, None]
    return Targets("logit_z", vectors.float(), _weighted_mean(vectors, counts), factor.float())


def _weighted_mean(vectors: Tensor, counts: Tensor) -> Tensor:
    weights = counts.cpu().double() / counts.sum().cpu()
    return (weights @ vectors).float()
