"""Triplet loss on a squared difference: a plainly wrong order costs more, a nearly right one less."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from visir.core.errors import TrainingError
from visir.losses.triplet import euclidean, weighted_distances


def squared_difference_loss(
    features: Tensor, identities: Tensor, *, sharpness: float = 1.0, gain: float = 1.0
) -> Tensor:
    """The weighted regularised triplet loss with its difference squared, its sign kept.

    ``log(1 + exp(phi(u_i)))`` averaged over the anchors i, with ``u_i = sum_p w_p D(i, p) - sum_n w_n D(i, n)``,
    ``phi(u) = gain u |u|``, w_p the softmax of ``sharpness D`` over the positives, i among them, and w_n that of
    ``-sharpness D`` over the negatives. The "enhanced channel-mixed learning" of CAJ (Ye et al., Channel Augmented
    Joint Learning for Visible-Infrared Recognition, ICCV 2021): the set mixes visible, channel-augmented and infrared
    images, so each anchor meets others of its own kind and of the other ones. The batch couples: on several ranks,
    gather the features first.

    Args:
        features: (N, D), not normalised.
        identities: (N,) int64 of at least two people.
        sharpness: above 0; how much the hardest of an anchor's distances weigh.
        gain: above 0; of the squared difference.

    Returns:
        Scalar, at least 0.

    Raises:
        TrainingError: shapes that do not fit.

    >>> import torch
    >>> features, identities = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])
    >>> round(float(squared_difference_loss(features, identities)), 6)
    0.064593
    """
    if features.dim() != 2 or identities.shape != features.shape[:1] or not features.numel():
        raise TrainingError(
            "squared_difference_loss: expected features (N, D) and identities (N,), "
            f"got {tuple(features.shape)} and {tuple(identities.shape)}."
        )
    same = identities[:, None] == identities
    positive, negative = weighted_distances(sharpness * euclidean(features), same)
    difference = (positive - negative) / sharpness
    return functional.softplus(gain * difference * difference.abs()).mean()
