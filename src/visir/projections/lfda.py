"""LFDA: a Fisher discriminant that keeps together only what is near."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from visir.core.errors import TrainingError
from visir.core.types import IntArray
from visir.projections.base import DoubleArray, Features, Projection, labelled, projection, relative_ridge, signed

NO_SPREAD = 1e-12  # of all scatter: what rounding leaves


def lfda(
    visible: Features,
    visible_identity: IntArray,
    infrared: Features,
    infrared_identity: IntArray,
    *,
    dim: int = 100,
    neighbours: int = 7,
    ridge: float = 1e-3,
) -> Projection:
    """Local Fisher discriminant analysis (Sugiyama, JMLR 2007) over the images of both modalities together.

    The directions w of the largest ``w' S_b w / w' S_w w``, with ``w' S_w w = 1``.

    Args:
        visible: (n, d) features.
        visible_identity: (n,).
        infrared: (m, d).
        infrared_identity: (m,).
        dim: k.
        neighbours: the scale of an image is the distance to this neighbour of its own identity.
        ridge: added to S_w, as a share of its mean variance tr / d.

    Raises:
        TrainingError: see :func:`visir.projections.base.labelled`; all images of an identity are equal, for all.
    """
    data = labelled("lfda", visible, visible_identity, infrared, infrared_identity)
    features = np.concatenate([data.visible, data.infrared])
    identity = np.concatenate([data.visible_identity, data.infrared_identity])
    between, within = local_scatters(features, identity, neighbours=neighbours)
    if np.trace(within) <= NO_SPREAD * np.trace(between + within):
        raise TrainingError("lfda: no image of an identity differs from its others; look at the features.")
    _, vectors = scipy.linalg.eigh(between, relative_ridge(within, ridge))
    return projection(signed(vectors[:, ::-1]), dim=dim)


def local_scatters(features: DoubleArray, identity: IntArray, *, neighbours: int) -> tuple[DoubleArray, DoubleArray]:
    """The (d, d) local between-class and within-class scatter matrices (eqs. 9 to 13 of the paper).

    ``1/2 sum_ij W_ij (x_i - x_j)(x_i - x_j)'`` with the affinity A: within, W = A_ij / n_c for pairs of class c;
    between, W = A_ij (1/n - 1/n_c) for those and 1/n for all other pairs. Other pairs are all pairs less those of one
    class, so only distances within a class are computed.

    Args:
        features: (n, d).
        identity: (n,).
        neighbours: see :func:`affinity`.
    """
    count, d = features.shape
    centred = features - features.mean(axis=0)
    mixture = centred.T @ centred  # 1/2 sum of all (x_i - x_j)(x_i - x_j)' / n
    within = np.zeros((d, d))
    for who in np.unique(identity):
        own = centred[identity == who]
        near = affinity(own, neighbours=neighbours)
        within += _pair_scatter(own, near / len(own))
        mixture += _pair_scatter(own, (near - 1) / count)
    return mixture - within, within


def affinity(features: DoubleArray, *, neighbours: int) -> DoubleArray:
    """(n, d) -> (n, n): exp(-d_ij^2 / (s_i s_j)), s_i the distance of i to its ``neighbours``-th neighbour.

    (Zelnik-Manor and Perona, NIPS 2004.) With fewer others, s_i is the distance to the farthest; an image that has as
    many duplicates is near to nothing else.
    """
    lengths = np.square(features).sum(axis=1)
    squared = np.maximum(lengths[:, None] + lengths - 2 * features @ features.T, 0)
    np.fill_diagonal(squared, 0)
    place = min(neighbours, len(features) - 1)
    scale = np.sqrt(np.partition(squared, place, axis=1)[:, place])
    scales = np.outer(scale, scale)
    near = np.where(scales > 0, np.exp(-squared / np.where(scales > 0, scales, 1.0)), squared == 0)
    found: DoubleArray = near.astype(np.float64)
    return found


def _pair_scatter(features: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """1/2 sum_ij W_ij (x_i - x_j)(x_i - x_j)' for a symmetric W, as X' (D - W) X."""
    scatter = (features.T * weights.sum(axis=1)) @ features - features.T @ weights @ features
    found: DoubleArray = (scatter + scatter.T) / 2
    return found
