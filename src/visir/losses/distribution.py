"""Distribution loss: the part features of an image are samples of a Gaussian; the two spectra should agree on it."""

from __future__ import annotations

from torch import Tensor

from visir.losses.shapes import check_pairs

VARIANCE_FLOOR = 1e-12  # under the square root, whose slope is infinite at zero


def moments(parts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population deviation over the parts, for each dimension apart (DFE, eqs. 7 and 8, divided by K).

    Args:
        parts: (N, K, d), K part features of N images.

    Returns:
        (N, d) means and (N, d) deviations, the latter at least 1e-6.

    >>> import torch
    >>> mean, deviation = moments(torch.tensor([[[1.0, 0.0], [3.0, 2.0]]]))
    >>> mean.tolist(), deviation.tolist()
    ([[2.0, 1.0]], [[1.0, 1.0]])
    """
    mean = parts.mean(dim=1)
    variance = (parts - mean.unsqueeze(1)).square().mean(dim=1)
    return mean, (variance + VARIANCE_FLOOR).sqrt()


def distribution_loss(visible: Tensor, infrared: Tensor) -> Tensor:
    """Half the mean over pairs of the squared distances of their means and of their deviations.

    ``1/(2N) sum_j ||mu^V_j - mu^I_j||^2 + ||sigma^V_j - sigma^I_j||^2``, squared norms being sums over the d
    dimensions. DFE (Hao et al., ACM MM 2019), eq. 14 with the sum running over the N pairs.

    Args:
        visible: (N, K, d) part features of N visible images.
        infrared: (N, K, d) of infrared images; row j shows the same identity as visible row j.

    Returns:
        Scalar, at least 0, and 0 where the moments agree.

    Raises:
        TrainingError: shapes that differ or do not have three dimensions.

    >>> import torch
    >>> visible = torch.tensor([[[1.0, 0.0], [3.0, 2.0]]])
    >>> infrared = torch.tensor([[[0.0, 0.0], [2.0, 4.0]]])
    >>> round(float(distribution_loss(visible, infrared)), 6)
    1.5
    """
    check_pairs("distribution_loss", visible, infrared, "(N, K, d)")
    visible_mean, visible_deviation = moments(visible)
    infrared_mean, infrared_deviation = moments(infrared)
    apart = (visible_mean - infrared_mean).square() + (visible_deviation - infrared_deviation).square()
    return apart.sum(dim=1).mean() / 2
