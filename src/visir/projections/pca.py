"""Principal axes of features that may lie on disk and be larger than the memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from visir.core.errors import TrainingError
from visir.projections.base import DoubleArray, Features, signed

BLOCK_BYTES = 1 << 26  # of float64 features held at a time
EXACT_SIDE = 8192  # a symmetric matrix of this side is 512 MiB and takes minutes to decompose
NO_VARIANCE = 1e-10  # of the largest; float32 features have noise of about 1e-14
MORE_AXES = 100  # iterated beside the wanted ones, so that the last of those converge too
MOST_PASSES = 30
ENOUGH = 1e-5  # relative growth of the explained variance in one pass


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """Where features lie and along which axes they vary.

    Attributes:
        mean: (D,) float64.
        axes: (D, k) float64, orthonormal columns, most variance first; every column's largest entry is positive.
        variance: (k,) float64, along each axis, divided by n.
    """

    mean: DoubleArray
    axes: DoubleArray
    variance: DoubleArray

    def project(self, features: Features) -> DoubleArray:
        """(n, D), which may be memory-mapped -> (n, k) coordinates, block by block."""
        found = np.empty((len(features), self.axes.shape[1]))
        for rows in blocks(*features.shape):
            found[rows] = (np.asarray(features[rows], np.float64) - self.mean) @ self.axes
        return found


def pca(features: Features, *, dim: int, exact_side: int = EXACT_SIDE) -> PrincipalAxes:
    """The axes of most variance; min(dim, rank of the centred features) of them.

    Features are read in blocks of 64 MiB. Where n or D is at most ``exact_side`` the axes are exact (the smaller of the
    covariance and the Gram matrix is decomposed); where both are larger they come from subspace iteration (Halko,
    Martinsson and Tropp, SIAM Review 2011) from a fixed start, until the explained variance settles. The same features
    always give the same axes.

    Args:
        features: (n, D) floating point.
        dim: most axes.
        exact_side: see above.

    Raises:
        TrainingError: fewer than two features, values that are not finite, or features that are all equal.

    >>> found = pca(np.array([[0.0, 0.0], [2.0, 2.0], [4.0, 4.0]], np.float32), dim=2)
    >>> found.mean.tolist(), found.axes.round(4).tolist(), found.variance.round(4).tolist()
    ([2.0, 2.0], [[0.7071], [0.7071]], [5.3333])
    """
    if features.ndim != 2 or len(features) < 2 or not features.shape[1] or dim < 1:
        raise TrainingError(
            f"pca: expected features (n, D) with n of at least 2 and at least one axis, got {features.shape} and {dim}."
        )
    n, d = features.shape
    mean = np.zeros(d)
    for rows in blocks(n, d):
        mean += np.asarray(features[rows], np.float64).sum(axis=0)
    mean /= n
    if not np.isfinite(mean).all():
        raise TrainingError("pca: expected finite features, got NaN or infinity; look at what computed them.")
    if min(n, d) > exact_side:
        variance, axes = _iterated(features, mean, dim)
    elif d <= n:
        variance, axes = _by_covariance(features, mean)
    else:
        variance, axes = _by_gram(features, mean, dim)
    kept = variance > NO_VARIANCE * max(float(variance[0]), float(np.square(mean).max()) * NO_VARIANCE)
    kept[dim:] = False
    if not kept.any():
        raise TrainingError("pca: all features are equal; there is no axis along which they vary.")
    return PrincipalAxes(mean, signed(axes[:, : kept.size][:, kept]), variance[kept])


def blocks(n: int, d: int) -> Iterator[slice]:
    """Slices of n rows of d float64 numbers, each of at most 64 MiB."""
    step = max(1, BLOCK_BYTES // (8 * d))
    for first in range(0, n, step):
        yield slice(first, min(n, first + step))


def _falling(matrix: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1]


def _by_covariance(features: Features, mean: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    n, d = features.shape
    covariance = np.zeros((d, d))
    for rows in blocks(n, d):
        centred = np.asarray(features[rows], np.float64) - mean
        covariance += centred.T @ centred
    return _falling(covariance / n)


def _by_gram(features: Features, mean: DoubleArray, dim: int) -> tuple[DoubleArray, DoubleArray]:
    """For fewer features than dimensions; goes by blocks of columns, which the transposed problem sees as rows."""
    n, d = features.shape
    gram = np.zeros((n, n))
    for columns in blocks(d, n):
        centred = np.asarray(features[:, columns], np.float64) - mean[columns]
        gram += centred @ centred.T
    variance, vectors = _falling(gram / n)
    variance, vectors = variance[:dim], vectors[:, :dim]
    scaled = vectors / np.sqrt(np.maximum(n * variance, np.finfo(np.float64).tiny))
    axes = np.empty((d, len(variance)))
    for columns in blocks(d, n):
        axes[columns] = (np.asarray(features[:, columns], np.float64) - mean[columns]).T @ scaled
    return variance, axes


def _iterated(features: Features, mean: DoubleArray, dim: int) -> tuple[DoubleArray, DoubleArray]:
    n, d = features.shape
    start = np.random.default_rng(0).standard_normal((d, min(dim + MORE_AXES, n, d)))
    axes, _ = np.linalg.qr(start)
    explained = 0.0
    for _ in range(MOST_PASSES):
        spread = np.zeros_like(axes)  # covariance @ axes
        for rows in blocks(n, d):
            centred = np.asarray(features[rows], np.float64) - mean
            spread += centred.T @ (centred @ axes)
        spread /= n
        variance, turned = _falling(axes.T @ spread)
        now = float(variance[:dim].sum())
        if now - explained <= ENOUGH * now:
            break
        explained = now
        axes, _ = np.linalg.qr(spread)
    return variance, axes @ turned
