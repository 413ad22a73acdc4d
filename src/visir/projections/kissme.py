"""KISSME: keep it simple and straightforward metric learning."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from visir.core.errors import TrainingError
from visir.core.types import IntArray
from visir.projections.base import DoubleArray, Features, Projection, labelled, projection, ridged, root
from visir.projections.covariances import difference_covariances


def kissme(
    visible: Features,
    visible_identity: IntArray,
    infrared: Features,
    infrared_identity: IntArray,
    *,
    dim: int = 100,
    ridge: float = 1e-3,
) -> Projection:
    """The likelihood ratio of two Gaussians of differences, made a metric (Koestinger et al., CVPR 2012, eq. 16).

    ``M = S_I^-1 - S_E^-1`` with the covariances of differences across the modalities, of the same (I) and of different
    (E) identities; negative eigenvalues are cut off.

    Args:
        visible: (n, d) features, after a PCA to about 100 dimensions.
        visible_identity: (n,).
        infrared: (m, d).
        infrared_identity: (m,).
        dim: k.
        ridge: added to the diagonal of both covariances.

    Raises:
        TrainingError: see :func:`visir.projections.base.labelled`; a covariance without an inverse; no direction in
            which identities differ more than an identity does.
    """
    data = labelled("kissme", visible, visible_identity, infrared, infrared_identity)
    same, different = difference_covariances(data)
    return projection(kissme_map(ridged(same, ridge), ridged(different, ridge)), dim=dim)


def kissme_map(same: DoubleArray, different: DoubleArray) -> DoubleArray:
    """From the covariances to the (d, r) map P with PP' = S_I^-1 - S_E^-1, less its negative eigenvalues.

    Args:
        same: (d, d) S_I, positive definite.
        different: (d, d) S_E, positive definite.

    Raises:
        TrainingError: a covariance that is not positive definite, or nothing left.

    >>> kissme_map(np.diag([1.0, 1.0]), np.diag([4.0, 0.25])).round(6).tolist()
    [[0.866025], [0.0]]
    """
    try:
        identity = np.eye(len(same))
        inverses = [scipy.linalg.cho_solve(scipy.linalg.cho_factor(matrix), identity) for matrix in (same, different)]
    except np.linalg.LinAlgError as error:
        raise TrainingError(
            "kissme: expected covariances of full rank; there are fewer images than dimensions, or constant features. "
            "Reduce the dimensions first, or raise the ridge."
        ) from error
    found = root(inverses[0] - inverses[1])
    if not found.shape[1]:
        raise TrainingError(
            "kissme: in no direction do identities differ more than the images of one identity; look at the features."
        )
    return found
