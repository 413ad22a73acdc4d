"""Contrastive loss: pairs of one identity near, other pairs at least a margin apart."""

from __future__ import annotations

import torch
from torch import Tensor

from visir.core.errors import TrainingError
from visir.losses.ranking import row_distances, unit


def contrastive_loss(first: Tensor, second: Tensor, same: Tensor, *, margin: float) -> Tensor:
    """Contrastive loss of L2-normalised features, half the mean over the pairs.

    ``1/2 mean( y d^2 + (1 - y) [margin - d]_+^2 )`` with the Euclidean distance d, 0 to 2. The verification loss of
    TONE (Ye, Lan, Li and Yuen, Hierarchical Discriminative Learning for Visible Thermal Person Re-identification, AAAI
    2018). Every feature is divided by its own length.

    Args:
        first: (N, D) features.
        second: (N, D); row i makes a pair with row i of ``first``.
        same: (N,) bool, whether a pair is of one identity (y).
        margin: 0.5 in TONE.

    Returns:
        Scalar, at least 0.

    Raises:
        TrainingError: shapes that do not fit.

    >>> first, second = torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 3.0], [1.0, 0.0]])
    >>> round(float(contrastive_loss(first, second, torch.tensor([True, False]), margin=0.5)), 5)  # (2 + 0.25) / 4
    0.5625
    """
    if first.shape != second.shape or first.dim() != 2 or same.shape != first.shape[:1] or not first.numel():
        raise TrainingError(
            "contrastive_loss: expected features (N, D) and (N, D) and their labels (N,), got "
            f"{tuple(first.shape)}, {tuple(second.shape)} and {tuple(same.shape)}."
        )
    apart = row_distances(unit(first), unit(second))
    return torch.where(same, apart, (margin - apart).clamp_min(0)).square().mean() / 2
