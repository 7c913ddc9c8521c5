"""Deviations of latent states from the ground truth: one function each, and the label null in closed form."""

import torch
from torch import Tensor


def measured_length(states: Tensor, factor: Tensor | None) -> Tensor:
    """Length of each state in a target's geometry, |u F| (|u| without F), float32 (..., n).

    The product runs in the states' own dtype (bfloat16 rounding of single entries averages out in a length). NaN where
    a state is zero: it then points nowhere.

    Args:
        states: normalized states u, (..., n, d).
        factor: F in the states' dtype, (d, d), or None.
    """
    length = torch.linalg.vector_norm(states if factor is None else states @ factor, dim=-1, dtype=torch.float32)
    return torch.where(length > 0, length, torch.nan)


def deviation(states: Tensor, target: Tensor, length: Tensor) -> Tensor:
    """How far states are from a target: 1 - u.t / |u|_M, float32 (..., n), in [0, 2] for a label's target.

    Given each state's own label target it is the deviation; given the mean target of all supervised positions it is
    the label null: the deviation is linear in the target, so this is its exact expectation when labels are permuted.

    Args:
        states: normalized states u, float32 (..., n, d).
        target: float32 (n, d), one a state, or (d,), one for all.
        length: |u|_M from `measured_length`, float32 (..., n).

    Source: with semantic targets, Gu et al. 2025 (SALF, arXiv 2406.11753); logit_z and the null are our derivation.
    """
    away: Tensor = 1 - torch.linalg.vecdot(states, target) / length
    return away


def lens_loss_and_null(logits: Tensor, label_ids: Tensor, label_share: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats when the whole head reads a state, and its expectation under permuted labels.

    null = logsumexp(logits) - sum_v share_v logits_v, again exact by linearity in the label.

    Args:
        logits: float32 (n, V), bias, scale and soft-cap applied.
        label_ids: token id to be read, int64 (n,).
        label_share: share of supervised positions with each token, float32 (V,), summing to 1.
    """
    normalizer = torch.logsumexp(logits, dim=-1)
    label_logits = logits.gather(-1, label_ids[:, None]).squeeze(-1)
    return normalizer - label_logits, normalizer - logits @ label_share
