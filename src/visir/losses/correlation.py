"""Correlation loss: who resembles whom should be the same in both spectra."""

from __future__ import annotations

import torch
from torch import Tensor

from visir.losses.shapes import check_pairs

DENOMINATOR_FLOOR = 1e-12


def pearson(features: Tensor) -> Tensor:
    """Pearson correlation of every two rows, over the dimensions (DFE, eqs. 9 to 11).

    Args:
        features: (N, D).

    Returns:
        (N, N) in [-1, 1], symmetric, 1 on the diagonal; 0 in the row and column of a constant feature.

    >>> import torch
    >>> pearson(torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])).round(decimals=6).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    centred = features - features.mean(dim=1, keepdim=True)
    norm = torch.linalg.vector_norm(centred, dim=1)
    correlation: Tensor = (centred @ centred.T) / (norm.unsqueeze(1) * norm).clamp_min(DENOMINATOR_FLOOR)
    return correlation


def correlation_loss(visible: Tensor, infrared: Tensor) -> Tensor:
    """Squared Frobenius distance of the two correlation matrices, divided by the number of pairs.

    ``1/N sum_j ||C_V[:, j] - C_I[:, j]||^2``. DFE (Hao et al., ACM MM 2019), eq. 12. Gradients flow into both halves.
    The pairs of a batch couple: on several ranks, gather the features first.

    Args:
        visible: (N, D) features of N visible images.
        infrared: (N, D) of infrared images; row j shows the same identity as visible row j.

    Returns:
        Scalar, at least 0; 0 for a single pair, which resembles only itself.

    Raises:
        TrainingError: shapes that differ or do not have two dimensions.

    >>> import torch
    >>> visible = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    >>> infrared = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    >>> round(float(correlation_loss(visible, infrared)), 5)
    4.0
    """
    check_pairs("correlation_loss", visible, infrared, "(N, D)")
    return (pearson(visible) - pearson(infrared)).square().sum() / len(visible)
