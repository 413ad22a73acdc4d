"""XQDA: cross-view quadratic discriminant analysis."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from visir.core.errors import TrainingError
from visir.core.types import IntArray
from visir.projections.base import DoubleArray, Features, Projection, labelled, projection, ridged, signed
from visir.projections.covariances import difference_covariances


def xqda(
    visible: Features,
    visible_identity: IntArray,
    infrared: Features,
    infrared_identity: IntArray,
    *,
    dim: int = 600,
    ridge: float = 1e-3,
) -> Projection:
    """A subspace and the KISSME metric in it, learnt together (Liao et al., CVPR 2015, eqs. 6 to 8).

    Args:
        visible: (n, d) features.
        visible_identity: (n,).
        infrared: (m, d).
        infrared_identity: (m,).
        dim: k, the most directions; how many there are follows from the data.
        ridge: added to the diagonal of S_I.

    Raises:
        TrainingError: see :func:`visir.projections.base.labelled` and :func:`xqda_map`.
    """
    data = labelled("xqda", visible, visible_identity, infrared, infrared_identity)
    same, different = difference_covariances(data)
    return projection(xqda_map(ridged(same, ridge), different), dim=dim)


def xqda_map(same: DoubleArray, different: DoubleArray) -> DoubleArray:
    """From the covariances S_I (same identity) and S_E (different ones) to the (d, r) map.

    The eigenvectors W of S_I^-1 S_E with eigenvalues L above 1 are scaled to W' S_I W = I, so that W' S_E W = L and the
    metric ``(W' S_I W)^-1 - (W' S_E W)^-1`` is I - L^-1, which is positive: the map is ``W sqrt(I - L^-1)``, the
    largest eigenvalue first.

    Args:
        same: (d, d), positive definite.
        different: (d, d), symmetric.

    Raises:
        TrainingError: S_I is not positive definite, or no eigenvalue is above 1.

    >>> found = xqda_map(np.diag([1.0, 1.0]), np.diag([4.0, 0.25]))
    >>> (found @ found.T).round(6).tolist()
    [[0.75, 0.0], [0.0, 0.0]]
    """
    try:
        values, vectors = scipy.linalg.eigh(different, same)
    except np.linalg.LinAlgError as error:
        raise TrainingError(
            "xqda: expected a covariance of full rank; there are fewer images than dimensions, or constant features. "
            "Reduce the dimensions first, or raise the ridge."
        ) from error
    kept = np.flatnonzero(values > 1)[::-1]
    if not len(kept):
        raise TrainingError(
            "xqda: in no direction do identities differ more than the images of one identity; look at the features."
        )
    found: DoubleArray = signed(vectors[:, kept]) * np.sqrt(1 - 1 / values[kept])
    return found
