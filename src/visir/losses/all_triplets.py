"""Triplets across two sets without mining: every positive with every negative of an anchor."""

from __future__ import annotations

from torch import Tensor

from visir.losses.triplet import check_sets, euclidean, same_identity


def two_way_all_triplets_loss(
    first: Tensor, second: Tensor, first_identities: Tensor, second_identities: Tensor, *, margin: float
) -> Tensor:
    """Hinge of an anchor, an image of its identity and one of another in the other set; both sets are anchors in turn.

    ``mean over (i, p, n) of [margin + D(i, p) - D(i, n)]_+`` with y_p = y_i, y_n != y_i and the Euclidean D, from the
    first set to the second, plus the same back: what triplets drawn at random cost on average. For cmGAN (Dai et al.,
    Cross-Modality Person Re-Identification with Generative Adversarial Training, IJCAI 2018) the sets are the spectra.
    The batch couples: on several ranks, gather the features first.

    Args:
        first: (N, D).
        second: (M, D).
        first_identities: (N,) int64.
        second_identities: (M,) int64.
        margin: at least 0.

    Returns:
        Scalar, at least 0; 0 where there are no triplets.

    Raises:
        TrainingError: shapes that do not fit.

    >>> import torch
    >>> first, second, identities = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.5], [0.6]]), torch.tensor([0, 1])
    >>> round(float(two_way_all_triplets_loss(first, second, identities, identities, margin=0.3)), 4)
    0.75
    """
    check_sets("two_way_all_triplets_loss", first, second, first_identities, second_identities)
    distance, same = euclidean(first, second), same_identity(first_identities, second_identities)
    return _mean_hinge(distance, same, margin) + _mean_hinge(distance.T, same.T, margin)


def _mean_hinge(distance: Tensor, same: Tensor, margin: float) -> Tensor:
    """(N, M) distances of anchors to others -> scalar."""
    triplets = same[:, :, None] & ~same[:, None, :]
    hinges = (margin + distance[:, :, None] - distance[:, None, :]).clamp_min(0.0)
    return (hinges * triplets).sum() / triplets.sum().clamp_min(1)
