"""Cross-modal ranking of BDTR, CE2L and eBDTR: who is nearest in the other spectrum should be of one's own identity.

All distances are Euclidean ones of L2-normalised features, 0 to 2. An anchor is compared with the images of the other
spectrum; those of its identity are its positives, all others its negatives. Images of the batch couple: on several
ranks, gather the features of each spectrum first.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from visir.losses.triplet import SQUARE_FLOOR, Reduction, check_sets, euclidean, same_identity

Directions = Literal["both", "v2t"]

NORM_FLOOR = 1e-6


def unit(features: Tensor) -> Tensor:
    """(B, D) -> (B, D), every row divided by its length; a row of zeros stays."""
    return functional.normalize(features, dim=1, eps=NORM_FLOOR)


def row_distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distance of each row to the same row of the other: (N, D), (N, D) -> (N,), at least 1e-6."""
    return (first - second).square().sum(1).clamp_min(SQUARE_FLOOR).sqrt()


def cross_hinges(cross: Tensor, same: Tensor, *, margin: float, reduction: Reduction = "mean") -> Tensor:
    """The top-ranking hinge of every pair of one identity, for one direction.

    ``[D(i, j) - min over k of another identity of D(i, k) + margin]_+`` over all pairs (i, j) of one identity.

    Args:
        cross: (N, M) distances of N anchors to M images of the other spectrum.
        same: (N, M) bool, pairs of one identity.
        margin: by which the nearest negative should be farther than any positive.
        reduction: the mean over the pairs, or their sum as the paper prints it.

    Returns:
        Scalar, at least 0; 0 for anchors without a positive or without a negative.

    >>> cross = torch.tensor([[0.4, 0.7], [0.9, 0.6]])
    >>> round(float(cross_hinges(cross, torch.eye(2, dtype=torch.bool), margin=0.5)), 5)
    0.2
    """
    nearest = cross.masked_fill(same, math.inf).amin(dim=1, keepdim=True)
    return _over_pairs(cross - nearest + margin, same, reduction)


def intra_hinges(
    cross: Tensor, within: Tensor, same: Tensor, *, margin: float, reduction: Reduction = "mean"
) -> Tensor:
    """The intra-modality hinge of every pair of one identity, for one direction.

    ``[margin - D(j, k(i))]_+`` over all pairs (i, j) of one identity, where k(i) is the nearest negative of anchor i:
    two images of the other spectrum and of different identities that stand close to one anchor.

    Args:
        cross: (N, M) distances of N anchors to M images of the other spectrum; it chooses k and gets no gradient.
        within: (M, M) distances of these M images.
        same: (N, M) bool, pairs of one identity.
        margin: by which j and k should be apart.
        reduction: the mean over the pairs, or their sum as the paper prints it.

    Returns:
        Scalar, at least 0; 0 for anchors without a positive or without a negative.

    >>> cross, within = torch.tensor([[0.4, 0.7], [0.9, 0.6]]), torch.tensor([[0.0, 0.05], [0.05, 0.0]])
    >>> round(float(intra_hinges(cross, within, torch.eye(2, dtype=torch.bool), margin=0.1)), 5)
    0.05
    """
    nearest = cross.detach().masked_fill(same, math.inf).argmin(dim=1)
    negatives = (~same).any(dim=1, keepdim=True)  # without any, k would be a positive
    return _over_pairs(torch.where(negatives, margin - within[nearest], -math.inf), same, reduction)


def top_ranking_loss(
    visible: Tensor,
    infrared: Tensor,
    visible_identities: Tensor,
    infrared_identities: Tensor,
    *,
    margin: float,
    directions: Directions = "both",
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-modal top-ranking: every positive nearer than the nearest negative, by a margin.

    Ye, Wang, Lan and Yuen, Visible Thermal Person Re-identification via Dual-Constrained Top-Ranking (BDTR), IJCAI
    2018, and the cross-class loss of CE2L (ICPR 2020): :func:`cross_hinges` of visible anchors, plus that of infrared
    ones. The mean is over the pairs of one identity, so it does not grow with the batch.

    Args:
        visible: (N, D) features; they are normalised here.
        infrared: (M, D).
        visible_identities: (N,) int64.
        infrared_identities: (M,) int64.
        margin: 0.5 in BDTR.
        directions: anchors of both spectra, or visible ones only ("v2t").
        reduction: "sum" is the printed form.

    Returns:
        Scalar, at least 0.

    Raises:
        TrainingError: shapes that do not fit.

    >>> visible, infrared = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    >>> people = torch.tensor([0, 1])
    >>> round(float(top_ranking_loss(visible, infrared, people, people, margin=0.5)), 5)
    0.84961
    """
    check_sets("top_ranking_loss", visible, infrared, visible_identities, infrared_identities)
    cross, same = euclidean(unit(visible), unit(infrared)), same_identity(visible_identities, infrared_identities)
    loss = cross_hinges(cross, same, margin=margin, reduction=reduction)
    return loss if directions == "v2t" else loss + cross_hinges(cross.T, same.T, margin=margin, reduction=reduction)


def intra_ranking_loss(
    visible: Tensor,
    infrared: Tensor,
    visible_identities: Tensor,
    infrared_identities: Tensor,
    *,
    margin: float,
    directions: Directions = "both",
    reduction: Reduction = "mean",
) -> Tensor:
    """The intra-modality constraint of BDTR: a positive and the nearest negative of one anchor stand apart.

    :func:`intra_hinges` of visible anchors, plus that of infrared ones; see :func:`top_ranking_loss` for the papers,
    the arguments and the errors. The margin is 0.1 in BDTR.

    >>> visible, infrared = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    >>> people = torch.tensor([0, 1])
    >>> round(float(intra_ranking_loss(visible, infrared, people, people, margin=1.0)), 5)  # 2 (1 - 0.89443)
    0.21115
    """
    check_sets("intra_ranking_loss", visible, infrared, visible_identities, infrared_identities)
    seen, unseen = unit(visible), unit(infrared)
    cross, same = euclidean(seen, unseen), same_identity(visible_identities, infrared_identities)
    loss = intra_hinges(cross, euclidean(unseen), same, margin=margin, reduction=reduction)
    if directions == "v2t":
        return loss
    return loss + intra_hinges(cross.T, euclidean(seen), same.T, margin=margin, reduction=reduction)


def center_ranking_loss(
    visible: Tensor,
    infrared: Tensor,
    visible_identities: Tensor,
    infrared_identities: Tensor,
    *,
    margin: float,
    directions: Directions = "both",
) -> Tensor:
    """Both constraints of BDTR in one hinge around the centre of the anchor's identity in the other spectrum.

    ``mean over anchors a of [margin + D(a, c) - min(min_k D(a, x_k), min_k D(c, x_k))]_+``, where c is the normalised
    centre of the features of a's identity in the other spectrum, and the x_k are those of other identities there.
    Experimental: a reading of the description of eBDTR (Ye, Lan, Wang and Yuen, Bi-directional Center-Constrained
    Top-Ranking for Visible Thermal Person Re-identification, IEEE TIFS 2020), of which no code is public.

    Arguments and errors are those of :func:`top_ranking_loss`.

    Returns:
        Scalar, at least 0; anchors without a positive do not count.

    >>> visible, infrared = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    >>> people = torch.tensor([0, 1])
    >>> round(float(center_ranking_loss(visible, infrared, people, people, margin=0.5)), 5)
    1.08764
    """
    check_sets("center_ranking_loss", visible, infrared, visible_identities, infrared_identities)
    seen, unseen, same = unit(visible), unit(infrared), same_identity(visible_identities, infrared_identities)
    loss = _center_hinges(seen, unseen, same, margin)
    return loss if directions == "v2t" else loss + _center_hinges(unseen, seen, same.T, margin)


def _center_hinges(anchors: Tensor, others: Tensor, same: Tensor, margin: float) -> Tensor:
    """One direction: (N, D) anchors and (M, D) images of the other spectrum, both normalised."""
    positives = same.sum(dim=1, keepdim=True)
    centers = unit(same.to(others.dtype) @ others / positives.clamp_min(1))
    pulled = row_distances(anchors, centers)
    pushed = torch.minimum(euclidean(anchors, others), euclidean(centers, others))
    hinges = (margin + pulled - pushed.masked_fill(same, math.inf).amin(dim=1)).clamp_min(0)
    counted = positives.squeeze(1) > 0
    return torch.where(counted, hinges, 0).sum() / counted.sum().clamp_min(1)


def _over_pairs(terms: Tensor, same: Tensor, reduction: Reduction) -> Tensor:
    total = torch.where(same, terms.clamp_min(0), 0).sum()
    return total if reduction == "sum" else total / same.sum().clamp_min(1)
