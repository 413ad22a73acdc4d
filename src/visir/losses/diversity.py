"""What keeps generated embeddings apart from their originals and from one another, and useful across the spectra.

DEEN (Zhang and Wang, Diverse Embedding Expansion Network and Low-Light Cross-Modality Benchmark for Visible-Infrared
Person Re-identification, CVPR 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from visir.core.errors import TrainingError
from visir.losses.triplet import SQUARE_FLOOR, euclidean


def center_mining_loss(
    visible: Tensor,
    infrared: Tensor,
    from_visible: Tensor,
    from_infrared: Tensor,
    identities: Tensor,
    *,
    margin: float,
) -> Tensor:
    """Centre-guided pair mining (DEEN, eqs. 3 to 5), over the centres c of every identity j and every branch i.

    ``[D(c_n^j, c_v+^ij) - D(c_v^j, c_v+^ij) - min_k D(c_v^j, c_v^k) + margin]_+`` for what was generated from visible
    images (v+), and the same with the spectra exchanged: a generated centre is drawn to the other spectrum and pushed
    from its own, until the identities are far enough from one another. Averaged over the identities, summed over
    branches and spectra. The paper leaves open which other identity k is meant; here it is the nearest one. The batch
    couples: on several ranks, gather the features first.

    Args:
        visible: (N, D) original features of visible images.
        infrared: (N, D) of infrared images; row j shows the same identity as visible row j.
        from_visible: (N, K, D), K generated features of every visible image.
        from_infrared: (N, K, D), of every infrared image.
        identities: (N,) int64 of the rows.
        margin: at least 0.

    Returns:
        Scalar, at least 0; 0 where the batch shows one identity.

    Raises:
        TrainingError: shapes that do not fit.

    >>> visible, infrared = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [6.0]])
    >>> from_visible, from_infrared = torch.tensor([[[0.0]], [[1.0]]]), torch.tensor([[[2.0]], [[5.0]]])
    >>> identities = torch.tensor([0, 1])
    >>> round(float(center_mining_loss(visible, infrared, from_visible, from_infrared, identities, margin=0.2)), 4)
    2.7
    """
    _check_generated(visible, infrared, from_visible, from_infrared, identities)
    same = identities[:, None] == identities
    counts = same.sum(1)
    mean = same.to(visible.dtype) / counts[:, None]
    seen, hidden = mean @ visible, mean @ infrared  # the centre of a row's identity, in every row
    weight = 1 / counts.to(visible.dtype)  # an identity of many rows counts once
    weight = weight / weight.sum()
    total = visible.new_zeros(())
    for own, other, made in ((seen, hidden, from_visible), (hidden, seen, from_infrared)):
        generated = torch.einsum("nm,mkd->nkd", mean, made)
        nearest = euclidean(own).masked_fill(same, torch.inf).amin(1)
        apart = _between(other[:, None], generated) - _between(own[:, None], generated) - nearest[:, None] + margin
        total = total + (weight[:, None] * apart.clamp_min(0.0)).sum()
    return total


def orthogonal_loss(generated: Tensor) -> Tensor:
    """Inner products of what different branches made of an image (DEEN, eq. 6): the branches should not overlap.

    ``sum_{m < n} |f_m . f_n|`` of unit vectors, averaged over the images. The unit length keeps the term from shrinking
    the features; the absolute value changes nothing for features behind a ReLU, as in the paper, and otherwise keeps
    the minimum where vectors are orthogonal.

    Args:
        generated: (N, K, D), K generated features of every image.

    Returns:
        Scalar from 0 to K (K - 1) / 2; 0 for a single branch.

    Raises:
        TrainingError: another shape.

    >>> round(float(orthogonal_loss(torch.tensor([[[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]]))), 4)
    1.4
    """
    if generated.dim() != 3 or not generated.numel():
        raise TrainingError(f"orthogonal_loss: expected generated features (N, K, D), got {tuple(generated.shape)}.")
    unit = functional.normalize(generated, dim=2)
    products = (unit @ unit.transpose(1, 2)).abs().triu(1)
    return products.sum((1, 2)).mean()


def _between(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distance of vectors that belong together, over the last dimension; the gradient at 0 is 0."""
    return (first - second).square().sum(-1).clamp_min(SQUARE_FLOOR).sqrt()


def _check_generated(
    visible: Tensor, infrared: Tensor, from_visible: Tensor, from_infrared: Tensor, identities: Tensor
) -> None:
    originals = visible.dim() == 2 and visible.shape == infrared.shape and visible.numel()
    made = from_visible.dim() == 3 and from_visible.shape == from_infrared.shape and from_visible.numel()
    if originals and made and from_visible[:, 0].shape == visible.shape and identities.shape == visible.shape[:1]:
        return
    shapes = (tuple(t.shape) for t in (visible, infrared, from_visible, from_infrared, identities))
    raise TrainingError(
        "center_mining_loss: expected visible and infrared features (N, D), what was generated from them (N, K, D) "
        f"each, and identities (N,), got {', '.join(map(str, shapes))}."
    )
