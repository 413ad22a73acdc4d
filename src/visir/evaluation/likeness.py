"""How like pictures are to the truth: picture by picture where both show the same moment, and as two whole sets.

The first three compare one picture with its truth: (H, W) or (H, W, C), both uint8, which count to 255, or both
floating point in 0..1. All channels count alike: of a made-up colour picture the colour is the question, and of three
equal channels the result is that of one.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from visir.core.errors import EvaluationError

Doubles = npt.NDArray[np.float64]

WINDOW, SIGMA = 11, 1.5  # pixels
LUMINANCE, CONTRAST = 0.01**2, 0.03**2  # the constants C1 and C2 for values in 0..1


def mean_absolute_error(made: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """Mean |made - truth| over pixels and channels, as a share of the full scale, 0 (equal) to 1.

    >>> mean_absolute_error(np.full((2, 2), 51, np.uint8), np.zeros((2, 2), np.uint8))
    0.2

    Raises:
        EvaluationError: pictures of different shapes or types, or values out of range.
    """
    a, b = _checked(made, truth)
    return float(np.abs(a - b).mean())


def psnr(made: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in decibels, 10 log10(1 / mean squared error of 0..1); infinite for equal pictures.

    >>> psnr(np.full((2, 2), 0.1), np.zeros((2, 2)))
    20.0

    Raises:
        EvaluationError: as :func:`mean_absolute_error`.
    """
    a, b = _checked(made, truth)
    squared = float(np.square(a - b).mean())
    return 10.0 * math.log10(1.0 / squared) if squared else math.inf


def ssim(made: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """Mean structural similarity, -1 to 1 (equal): Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 2004, equation 13.

    Means, variances and the covariance are weighted by a circular Gaussian window of 11 x 11 pixels and deviation 1.5,
    at every place where the window lies inside the picture; C1 = 0.01 ** 2, C2 = 0.03 ** 2 of values in 0..1. The mean
    goes over places and channels.

    Raises:
        EvaluationError: as :func:`mean_absolute_error`, or pictures smaller than the window.
    """
    a, b = _checked(made, truth)
    if min(a.shape[:2]) < WINDOW:
        raise EvaluationError(
            f"structural similarity: expected pictures of at least {WINDOW} x {WINDOW} pixels, got {a.shape[:2]}."
        )
    mean_a, mean_b = _windowed(a), _windowed(b)
    variance_a = _windowed(a * a) - mean_a * mean_a
    variance_b = _windowed(b * b) - mean_b * mean_b
    covariance = _windowed(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + LUMINANCE) / (mean_a * mean_a + mean_b * mean_b + LUMINANCE)
    return float((light * (2 * covariance + CONTRAST) / (variance_a + variance_b + CONTRAST)).mean())


def _windowed(values: Doubles) -> Doubles:
    """(H, W[, C]) -> (H - 10, W - 10[, C]): weighted means of all windows inside."""
    edge = WINDOW // 2
    blurred = np.asarray(cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA), np.float64)
    return blurred.reshape(values.shape)[edge:-edge, edge:-edge]  # OpenCV drops a last axis of one


def _checked(made: npt.NDArray[Any], truth: npt.NDArray[Any]) -> tuple[Doubles, Doubles]:
    """Both pictures in 0..1."""
    if made.shape != truth.shape or made.ndim not in (2, 3) or not made.size:
        raise EvaluationError(
            f"likeness: expected two pictures of one size, (H, W) or (H, W, C), got {made.shape} and {truth.shape}."
        )
    whole = {np.dtype(np.uint8) == picture.dtype for picture in (made, truth)}
    if whole == {True}:
        return made / 255.0, truth / 255.0
    if whole == {True, False} or not all(np.issubdtype(p.dtype, np.floating) for p in (made, truth)):
        raise EvaluationError(
            f"likeness: expected two pictures of uint8 or two of floating point, got {made.dtype} and {truth.dtype}."
        )
    if not all(float(picture.min()) >= 0 and float(picture.max()) <= 1 for picture in (made, truth)):
        raise EvaluationError("likeness: expected values of floating point in 0..1, got others; uint8 counts to 255.")
    return made.astype(np.float64), truth.astype(np.float64)


class Moments:
    """Mean and covariance of features that come in batches; the memory does not grow with their number.

    Sums are kept about the running mean (Chan, Golub and LeVeque, 1979), so that large means cost no digits.

    Args:
        dim: D, the length of a feature.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean: Doubles = np.zeros(dim)
        self._scatter: Doubles = np.zeros((dim, dim))
        self._known: tuple[int, Doubles] | None = None  # the factor of the covariance, of how many features

    def add(self, features: npt.NDArray[Any]) -> None:
        """Take in (n, D) features.

        Raises:
            EvaluationError: another length, or values that are not finite.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise EvaluationError(f"features: expected (n, {len(self.mean)}), got {features.shape}.")
        if not np.isfinite(features).all():
            raise EvaluationError("features: expected finite values, got NaN or infinite ones.")
        if not len(features):
            return
        values = features.astype(np.float64)
        mean = values.mean(0)
        about, apart = values - mean, mean - self.mean
        total = self.count + len(values)
        self._scatter += about.T @ about + np.outer(apart, apart) * (self.count * len(values) / total)
        self.mean = self.mean + apart * (len(values) / total)
        self.count = total

    def covariance(self) -> Doubles:
        """(D, D), unbiased (divided by n - 1).

        Raises:
            EvaluationError: fewer than two features.
        """
        if self.count < 2:
            raise EvaluationError(f"Fréchet distance: expected at least two features of each set, got {self.count}.")
        return self._scatter / (self.count - 1)

    def distance(self, other: Moments) -> float:
        """Fréchet distance between the Gaussians of both; see :func:`frechet_distance`."""
        if len(self.mean) != len(other.mean):
            raise EvaluationError(
                f"Fréchet distance: expected features of one length, got {len(self.mean)} and {len(other.mean)}."
            )
        ours, theirs = self._factor(), other._factor()
        common = np.linalg.svd(ours.T @ theirs, compute_uv=False).sum()
        apart = float(np.square(self.mean - other.mean).sum())
        return max(0.0, apart + float(np.square(ours).sum() + np.square(theirs).sum() - 2.0 * common))

    def _factor(self) -> Doubles:
        """(D, r) with the covariance as its square F F': its r axes that are not zero, times their deviations."""
        if self._known is None or self._known[0] != self.count:
            sizes, axes = np.linalg.eigh(self.covariance())
            kept = sizes > len(sizes) * np.finfo(np.float64).eps * sizes.max(initial=0.0)
            self._known = (self.count, axes[:, kept] * np.sqrt(sizes[kept]))
        return self._known[1]


def frechet_distance(features_a: npt.NDArray[Any], features_b: npt.NDArray[Any]) -> float:
    """Squared Fréchet distance between Gaussians fitted to two sets, (n, D) and (m, D) of any features; 0 for equal.

    |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)): Dowson and Landau, 1982; for images Heusel et al., NeurIPS
    2017, equation 6, who take features of an Inception network. Nothing here is that network: values of other features
    say nothing beside published ones. They also grow as sets shrink, so compare only values of equally large sets.

    With C = F F' from a symmetric eigendecomposition of each, the trace of the root is the sum of the singular values
    of F_a' F_b. So covariances of too few samples, which are singular, lose no digits.

    >>> round(frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]])), 9)
    9.0

    Raises:
        EvaluationError: fewer than two features in a set, different lengths, or values that are not finite.
    """
    if features_a.ndim != 2:
        raise EvaluationError(f"features: expected (n, D), got {features_a.shape}.")
    ours, theirs = Moments(features_a.shape[1]), Moments(features_a.shape[1])
    ours.add(features_a)
    theirs.add(features_b)
    return ours.distance(theirs)
