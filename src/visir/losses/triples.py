"""Triplet losses of the two disentangling systems: triples that are given, or the hardest ones by Manhattan distance.

Jambigi, slides on disentanglement for RGB-infrared person re-identification, 25 May 2020: Approach 0 compares squared
Euclidean distances, Approach 1 sums of absolute differences. Margins are choices; the slides give none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from visir.core.errors import TrainingError
from visir.losses.triplet import check_sets, same_identity


def squared_triplet_loss(anchors: Tensor, positives: Tensor, negatives: Tensor, *, margin: float) -> Tensor:
    """``[margin + ||a - p||^2 - ||a - n||^2]_+`` of row i of each, averaged over the rows.

    Args:
        anchors: (N, D); Approach 0 compares rows of length 1.
        positives: (N, D), of the anchors' identities.
        negatives: (N, D), of others.
        margin: 0.3 in Approach 0 here.

    Returns:
        Scalar, at least 0.

    Raises:
        TrainingError: shapes that are not one (N, D), or nothing in them.

    >>> import torch
    >>> a, p, n = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.5]])
    >>> float(squared_triplet_loss(a, p, n, margin=1.0))
    0.75
    """
    _check("squared_triplet_loss", anchors, positives, negatives)
    near, far = ((anchors - other).square().sum(1) for other in (positives, negatives))
    return (margin + near - far).clamp_min(0.0).mean()


def manhattan_triplet_loss(anchors: Tensor, positives: Tensor, negatives: Tensor, *, margin: float) -> Tensor:
    """``[margin + ||a - p||_1 - ||a - n||_1]_+`` of row i of each, averaged over the rows; differences are summed.

    Args:
        anchors: (N, D).
        positives: (N, D), of the anchors' identities.
        negatives: (N, D), of others.
        margin: 1 in Approach 1 here.

    Returns:
        Scalar, at least 0.

    Raises:
        TrainingError: shapes that are not one (N, D), or nothing in them.

    >>> import torch
    >>> a, p = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[1.0, 1.0, 2.0]])
    >>> float(manhattan_triplet_loss(a, p, torch.tensor([[0.0, 2.0, 2.0]]), margin=3.0))
    1.0
    """
    _check("manhattan_triplet_loss", anchors, positives, negatives)
    near, far = ((anchors - other).abs().sum(1) for other in (positives, negatives))
    return (margin + near - far).clamp_min(0.0).mean()


def hardest_manhattan_loss(
    anchors: Tensor, others: Tensor, anchor_identities: Tensor, other_identities: Tensor, *, margin: float
) -> Tensor:
    """:func:`manhattan_triplet_loss` with the farthest of an anchor's identity and the nearest of another identity.

    Anchors are of one set, for instance visible; positives and negatives of the other. The batch couples: on several
    ranks, gather codes and identities first.

    Args:
        anchors: (N, D).
        others: (M, D).
        anchor_identities: (N,) int64.
        other_identities: (M,) int64.
        margin: 1 in Approach 1 here.

    Returns:
        Scalar, at least 0; an anchor without its identity, or without another one, among the others costs nothing.

    Raises:
        TrainingError: shapes that do not fit.

    >>> import torch
    >>> first, second, people = torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [1.5]]), torch.tensor([0, 1])
    >>> float(hardest_manhattan_loss(first, second, people, people, margin=1.0))  # [1 + 1 - 1.5]_+, [1 + 2.5 - 3]_+
    0.5
    """
    check_sets("hardest_manhattan_loss", anchors, others, anchor_identities, other_identities)
    distance, same = torch.cdist(anchors, others, p=1), same_identity(anchor_identities, other_identities)
    farthest = distance.masked_fill(~same, -torch.inf).amax(1)
    nearest = distance.masked_fill(same, torch.inf).amin(1)
    return (margin + farthest - nearest).clamp_min(0.0).mean()


def _check(loss: str, *rows: Tensor) -> None:
    shapes = [tuple(tensor.shape) for tensor in rows]
    if len(set(shapes)) > 1 or rows[0].dim() != 2 or not rows[0].numel():
        raise TrainingError(
            f"{loss}: expected anchors, positives and negatives of one shape (N, D) with something in them, got "
            f"{', '.join(map(str, shapes))}."
        )
