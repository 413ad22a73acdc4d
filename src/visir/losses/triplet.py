"""Triplet losses: an image is nearer to those of its identity than to others, by a margin, or softly."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from visir.core.errors import TrainingError

SQUARE_FLOOR = 1e-12  # under the square root, whose slope is infinite at zero

Reduction = Literal["mean", "sum"]


def euclidean(first: Tensor, second: Tensor | None = None) -> Tensor:
    """Euclidean distance of every row of ``first`` from every row of ``second``, or of ``first`` from each other.

    Squares are summed in float64: the difference of large numbers keeps its digits there, whatever the hardware makes
    of a float32 product (TF32).

    Args:
        first: (N, D).
        second: (M, D).

    Returns:
        (N, M) of the type of ``first``, at least 1e-6; the gradient at equal rows is 0.

    >>> import torch
    >>> euclidean(torch.tensor([[0.0, 0.0], [3.0, 4.0]])).round(decimals=4).tolist()
    [[0.0, 5.0], [5.0, 0.0]]
    """
    a = first.double()
    b = a if second is None else second.double()
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * (a @ b.T)
    if second is None:
        squares = squares.masked_fill(torch.eye(len(a), dtype=torch.bool, device=a.device), 0.0)
    return squares.clamp_min(SQUARE_FLOOR).sqrt().to(first.dtype)


def triplet_loss(features: Tensor, identities: Tensor, *, margin: float, reduction: Reduction = "mean") -> Tensor:
    """Hinge on the farthest image of an anchor's identity and the nearest of another, within one set.

    ``[margin + max_{y_j = y_i} D(i, j) - min_{y_k != y_i} D(i, k)]_+`` with the Euclidean D, averaged or summed over
    the anchors i. Batch-hard triplets (Hermans et al., In Defense of the Triplet Loss, 2017). The batch couples: on
    several ranks, gather the features first.

    Args:
        features: (N, D).
        identities: (N,) int64.
        margin: at least 0.
        reduction: over the anchors.

    Returns:
        Scalar, at least 0; an anchor without another identity in the set costs nothing, one without a second image
        of its identity has a farthest distance of 0.

    Raises:
        TrainingError: shapes that do not fit.

    >>> import torch
    >>> features, identities = torch.tensor([[0.0], [1.0], [1.2], [2.0]]), torch.tensor([0, 0, 1, 1])
    >>> round(float(triplet_loss(features, identities, margin=0.3)), 4)
    0.55
    """
    _check("triplet_loss", features, identities)
    return _reduced(_hinge(euclidean(features), same_identity(identities, identities), margin), reduction)


def cross_triplet_loss(
    anchors: Tensor,
    others: Tensor,
    anchor_identities: Tensor,
    other_identities: Tensor,
    *,
    margin: float,
    reduction: Reduction = "mean",
) -> Tensor:
    """:func:`triplet_loss` with the anchors in one set, and positives and negatives in another.

    Args:
        anchors: (N, D), for instance of visible images.
        others: (M, D), for instance of infrared images.
        anchor_identities: (N,) int64.
        other_identities: (M,) int64.
        margin: at least 0.
        reduction: over the anchors.

    Returns:
        Scalar, at least 0; an anchor without its identity, or without another one, among the others costs nothing.

    Raises:
        TrainingError: shapes that do not fit.

    >>> import torch
    >>> first, second, identities = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.5], [0.6]]), torch.tensor([0, 1])
    >>> round(float(cross_triplet_loss(first, second, identities, identities, margin=0.3)), 4)
    0.2
    """
    check_sets("cross_triplet_loss", anchors, others, anchor_identities, other_identities)
    same = same_identity(anchor_identities, other_identities)
    return _reduced(_hinge(euclidean(anchors, others), same, margin), reduction)


def two_way_triplet_loss(
    first: Tensor,
    second: Tensor,
    first_identities: Tensor,
    second_identities: Tensor,
    *,
    margin: float,
    reduction: Reduction = "mean",
) -> Tensor:
    """:func:`cross_triplet_loss` from the first set to the second, plus that from the second to the first.

    >>> import torch
    >>> first, second, identities = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.5], [0.6]]), torch.tensor([0, 1])
    >>> round(float(two_way_triplet_loss(first, second, identities, identities, margin=0.3)), 4)
    0.75
    """
    check_sets("two_way_triplet_loss", first, second, first_identities, second_identities)
    distance, same = euclidean(first, second), same_identity(first_identities, second_identities)
    forth = _reduced(_hinge(distance, same, margin), reduction)
    return forth + _reduced(_hinge(distance.T, same.T, margin), reduction)


def weighted_distances(distance: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """Of every anchor, a soft farthest distance of its identity and a soft nearest one of others.

    Positives are weighted by the softmax of their distance, negatives by that of its opposite. Gradients flow through
    the weights too.

    Args:
        distance: (N, M), anchor by other.
        same: (N, M) bool, whether the two show one identity.

    Returns:
        (N,) and (N,); 0 for an anchor without such others.
    """
    nothing = torch.full_like(distance, torch.finfo(distance.dtype).min)  # finite: a row without a kind stays a number
    positive = torch.where(same, distance, nothing).softmax(1) * same
    negative = torch.where(same, nothing, -distance).softmax(1) * ~same
    return (positive * distance).sum(1), (negative * distance).sum(1)


def weighted_triplet_loss(features: Tensor, identities: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Weighted regularised triplet loss: softplus of a soft farthest positive minus a soft nearest negative.

    ``log(1 + exp(sum_p w_p D(i, p) - sum_n w_n D(i, n)))`` over the anchors i, with w_p the softmax of D over the
    positives, i among them, and w_n the softmax of -D over the negatives; it needs no margin. AGW (Ye et al., Deep
    Learning for Person Re-identification: A Survey and Outlook, TPAMI 2021). The batch couples: on several ranks,
    gather the features first.

    Args:
        features: (N, D), not normalised.
        identities: (N,) int64.
        reduction: over the anchors.

    Returns:
        Scalar above 0; an anchor without another identity in the set only pulls.

    Raises:
        TrainingError: shapes that do not fit.

    >>> import torch
    >>> round(float(weighted_triplet_loss(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1]))), 6)
    0.148191
    """
    _check("weighted_triplet_loss", features, identities)
    positive, negative = weighted_distances(euclidean(features), same_identity(identities, identities))
    return _reduced(functional.softplus(positive - negative), reduction)


def same_identity(first: Tensor, second: Tensor) -> Tensor:
    """(N,) and (M,) identities -> (N, M) bool, pairs of one identity."""
    return first[:, None] == second


def _hinge(distance: Tensor, same: Tensor, margin: float) -> Tensor:
    """(N, M) distances -> the hinge of each of the N anchors; a missing side makes it 0."""
    farthest = distance.masked_fill(~same, -torch.inf).amax(1)
    nearest = distance.masked_fill(same, torch.inf).amin(1)
    return (margin + farthest - nearest).clamp_min(0.0)


def _reduced(terms: Tensor, reduction: Reduction) -> Tensor:
    return terms.sum() if reduction == "sum" else terms.mean()


def _check(loss: str, features: Tensor, identities: Tensor) -> None:
    if features.dim() != 2 or identities.shape != features.shape[:1] or not features.numel():
        raise TrainingError(
            f"{loss}: expected features (N, D) and identities (N,), "
            f"got {tuple(features.shape)} and {tuple(identities.shape)}."
        )


def check_sets(loss: str, first: Tensor, second: Tensor, identities: Tensor, others: Tensor) -> None:
    """Raise TrainingError unless the shapes are (N, D), (M, D), (N,) and (M,), and nothing is empty."""
    fits = first.dim() == second.dim() == 2 and first.shape[1] == second.shape[1] and first.numel() and second.numel()
    if not fits or identities.shape != first.shape[:1] or others.shape != second.shape[:1]:
        raise TrainingError(
            f"{loss}: expected features (N, D) and (M, D) with identities (N,) and (M,), got "
            f"{', '.join(str(tuple(t.shape)) for t in (first, second, identities, others))}."
        )
