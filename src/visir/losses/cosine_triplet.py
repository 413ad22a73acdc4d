"""Triplets by angle: an image points more towards those of its identity than towards others, by a margin.

Wang, Zhang, Cheng, Liu, Yang and Hou, RGB-Infrared Cross-Modality Person Re-Identification via Joint Pixel and Feature
Alignment (AlignGAN), ICCV 2019, compares made and real infrared images so, both ways.
"""

from __future__ import annotations

import math

from torch import Tensor

from visir.losses.ranking import unit
from visir.losses.triplet import check_sets, same_identity


def cosine_triplet_loss(
    anchors: Tensor, others: Tensor, anchor_identities: Tensor, other_identities: Tensor, *, margin: float
) -> Tensor:
    """Hinge on the least similar image of an anchor's identity and the most similar one of another.

    ``[margin - min_{y_j = y_i} cos(i, j) + max_{y_k != y_i} cos(i, k)]_+``, averaged over the anchors i; positives and
    negatives are among the others, which may be the anchors themselves. The batch couples: on several ranks, gather
    the features first.

    Args:
        anchors: (N, D), of any length.
        others: (M, D).
        anchor_identities: (N,) int64.
        other_identities: (M,) int64.
        margin: at least 0, of cosines.

    Returns:
        Scalar, 0 to margin + 2; an anchor without its identity, or without another one, among the others costs
        nothing.

    Raises:
        TrainingError: shapes that do not fit.

    >>> import torch
    >>> anchors, others = torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(float(cosine_triplet_loss(anchors, others, torch.tensor([0]), torch.tensor([0, 0, 1]), margin=1.0)), 4)
    0.4
    """
    check_sets("cosine_triplet_loss", anchors, others, anchor_identities, other_identities)
    return _hinges(unit(anchors) @ unit(others).T, same_identity(anchor_identities, other_identities), margin).mean()


def two_way_cosine_triplet_loss(
    first: Tensor, second: Tensor, first_identities: Tensor, second_identities: Tensor, *, margin: float
) -> Tensor:
    """:func:`cosine_triplet_loss` from the first set to the second, plus that from the second to the first.

    >>> import torch
    >>> first, second = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 4.0], [4.0, 3.0]])
    >>> round(float(two_way_cosine_triplet_loss(first, second, *[torch.tensor([0, 1])] * 2, margin=1.0)), 4)
    2.4
    """
    check_sets("two_way_cosine_triplet_loss", first, second, first_identities, second_identities)
    cosine, same = unit(first) @ unit(second).T, same_identity(first_identities, second_identities)
    return _hinges(cosine, same, margin).mean() + _hinges(cosine.T, same.T, margin).mean()


def _hinges(cosine: Tensor, same: Tensor, margin: float) -> Tensor:
    """(N, M) cosines -> the hinge of each of the N anchors; a missing side makes it 0."""
    least = cosine.masked_fill(~same, math.inf).amin(1)
    most = cosine.masked_fill(same, -math.inf).amax(1)
    return (margin - least + most).clamp_min(0.0)
