"""CCA: two maps under which the mean features of an identity in both spectra correlate most."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from visir.core.types import IntArray
from visir.projections.base import DoubleArray, Features, Projection, labelled, projection, relative_ridge, signs
from visir.projections.covariances import class_sums


def cca(
    visible: Features,
    visible_identity: IntArray,
    infrared: Features,
    infrared_identity: IntArray,
    *,
    dim: int = 200,
    ridge: float = 1e-3,
) -> Projection:
    """Regularised canonical correlation (Hotelling, Biometrika 1936) of class means, compared by cosine.

    With S the covariances of the class means x (visible) and z (infrared), the maps are
    ``(S_xx + r I)^-1/2 U`` and ``(S_zz + r I)^-1/2 V`` for the top singular vectors U, V of
    ``(S_xx + r I)^-1/2 S_xz (S_zz + r I)^-1/2``. Each modality is centred at its own mean.

    Args:
        visible: (n, d) features.
        visible_identity: (n,).
        infrared: (m, d).
        infrared_identity: (m,).
        dim: k; min(k, identities - 1, d) directions are found.
        ridge: r as a share of the mean variance tr(S) / d.

    Raises:
        TrainingError: see :func:`visir.projections.base.labelled`.
    """
    data = labelled("cca", visible, visible_identity, infrared, infrared_identity)
    common = data.common()
    x = _means(data.visible, data.visible_identity, common)
    z = _means(data.infrared, data.infrared_identity, common)
    centres = (x.mean(axis=0), z.mean(axis=0))
    x, z = x - centres[0], z - centres[1]
    count = len(common)
    white = [_inverse_root(relative_ridge(side.T @ side / count, ridge)) for side in (x, z)]
    left, _, right = scipy.linalg.svd(white[0] @ (x.T @ z / count) @ white[1])
    found = min(dim, count - 1, data.dim)
    maps = white[0] @ left[:, :found], white[1] @ right[:found].T
    sign = signs(maps[0])  # both sides of a canonical pair turn together
    return projection(maps[0] * sign, maps[1] * sign, dim=dim, means=centres, distance="cosine")


def _means(features: DoubleArray, identity: IntArray, common: IntArray) -> DoubleArray:
    kept = np.isin(identity, common)
    _, counts = np.unique(identity[kept], return_counts=True)
    return class_sums(features[kept], identity[kept], common) / counts[:, None]


def _inverse_root(matrix: DoubleArray) -> DoubleArray:
    """The symmetric inverse square root; directions without any variance, as in constant features, stay out."""
    values, vectors = scipy.linalg.eigh(matrix)
    safe = values > 0
    inverse = np.where(safe, 1 / np.sqrt(np.where(safe, values, 1.0)), 0.0)
    found: DoubleArray = (vectors * inverse) @ vectors.T
    return found
