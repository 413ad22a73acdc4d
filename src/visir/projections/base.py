"""What every projection has in common: its result, what it asks of its input, signs that do not depend on chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from visir.core.errors import TrainingError
from visir.core.types import FloatArray, IntArray, Modality

Distance = Literal["cosine", "euclidean"]
DoubleArray = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map of each modality; the distance of mapped features is the learnt metric.

    A feature x of a visible image becomes ``(x - visible_mean) @ visible``, one of an infrared image likewise.

    Attributes:
        visible: (d, k) float32; columns that were not needed are zero, which changes no comparison.
        infrared: (d, k) float32, equal to ``visible`` where the method has one map.
        visible_mean: (d,) float32, subtracted first.
        infrared_mean: (d,) float32.
        distance: how mapped features are compared.
    """

    visible: FloatArray
    infrared: FloatArray
    visible_mean: FloatArray
    infrared_mean: FloatArray
    distance: Distance = "euclidean"

    @property
    def directions(self) -> int:
        """Number of columns that are not zero."""
        return int((self.visible != 0).any(axis=0).sum())

    def apply(self, features: Features, modality: Modality) -> DoubleArray:
        """(n, d) features of one modality -> (n, k)."""
        if modality == Modality.VISIBLE:
            mean, matrix = self.visible_mean, self.visible
        else:
            mean, matrix = self.infrared_mean, self.infrared
        mapped: DoubleArray = (np.asarray(features, np.float64) - mean) @ matrix.astype(np.float64)
        return mapped


def projection(
    visible: DoubleArray,
    infrared: DoubleArray | None = None,
    *,
    dim: int,
    means: tuple[DoubleArray, DoubleArray] | None = None,
    distance: Distance = "euclidean",
) -> Projection:
    """A projection to ``dim`` dimensions from the directions that were found.

    Args:
        visible: (d, k'), best direction first; more than ``dim`` are cut off, fewer are filled with zeros.
        infrared: the same for infrared features; None for one common map.
        dim: k.
        means: (d,) each; None for zeros.
        distance: see :class:`Projection`.
    """
    d = len(visible)
    first = filled(visible, dim)
    second = first if infrared is None else filled(infrared, dim)
    zeros = np.zeros(d, np.float32)
    own = (zeros, zeros) if means is None else tuple(mean.astype(np.float32) for mean in means)
    return Projection(first, second, own[0], own[1], distance)


def filled(matrix: DoubleArray, dim: int) -> FloatArray:
    """(d, k') -> (d, dim) float32: the first columns, then zeros."""
    found = np.zeros((len(matrix), dim), np.float32)
    kept = min(dim, matrix.shape[1])
    found[:, :kept] = matrix[:, :kept]
    return found


def signed(columns: DoubleArray) -> DoubleArray:
    """Eigenvectors have no sign of their own: every column's largest entry is made positive.

    >>> signed(np.array([[1.0, 0.5], [-2.0, 3.0]])).tolist()
    [[-1.0, 0.5], [2.0, 3.0]]
    """
    return columns * signs(columns)


def signs(columns: DoubleArray) -> DoubleArray:
    """(d, k) -> (k,) of 1 and -1, the sign of every column's largest entry."""
    largest = np.abs(columns).argmax(axis=0)
    return np.where(columns[largest, np.arange(columns.shape[1])] < 0, -1.0, 1.0)


def ridged(matrix: DoubleArray, ridge: float) -> DoubleArray:
    """``matrix + ridge * I``."""
    return matrix + ridge * np.eye(len(matrix))


def relative_ridge(matrix: DoubleArray, ridge: float) -> DoubleArray:
    """``matrix + ridge * trace / d * I``: the same strength whatever the scale of the features."""
    return ridged(matrix, ridge * float(np.trace(matrix)) / len(matrix))


def root(metric: DoubleArray) -> DoubleArray:
    """(d, d) symmetric -> (d, r) P with PP' its nearest positive semi-definite matrix, strongest direction first."""
    values, vectors = np.linalg.eigh((metric + metric.T) / 2)
    order = np.argsort(-values, kind="stable")
    values, vectors = values[order], vectors[:, order]
    kept = values > max(float(values[0]), 0.0) * 1e-12
    factor: DoubleArray = signed(vectors[:, kept]) * np.sqrt(values[kept])
    return factor


@dataclass(frozen=True, eq=False)
class Labelled:
    """Features of both modalities with their identities, checked and in float64."""

    visible: DoubleArray
    visible_identity: IntArray
    infrared: DoubleArray
    infrared_identity: IntArray

    @property
    def dim(self) -> int:
        """d."""
        return int(self.visible.shape[1])

    def common(self) -> IntArray:
        """Identities that are seen in both modalities, ascending."""
        return np.intersect1d(self.visible_identity, self.infrared_identity)


def labelled(
    name: str, visible: Features, visible_identity: IntArray, infrared: Features, infrared_identity: IntArray
) -> Labelled:
    """The input of a projection.

    Args:
        name: of the method, for the message.
        visible: (n, d).
        visible_identity: (n,), any integers.
        infrared: (m, d).
        infrared_identity: (m,), in the same numbering.

    Raises:
        TrainingError: shapes that do not fit, values that are not finite, or fewer than two identities that are seen
            in both modalities.
    """
    shapes = [np.shape(a) for a in (visible, visible_identity, infrared, infrared_identity)]
    sizes_fit = (
        [len(shape) for shape in shapes] == [2, 1, 2, 1]
        and shapes[0][0] == shapes[1][0]
        and shapes[2][0] == shapes[3][0]
        and shapes[0][1] == shapes[2][1]
    )
    if not sizes_fit:
        raise TrainingError(
            f"{name}: expected features (n, d) with identities (n,) of visible images, then (m, d) and (m,) of "
            f"infrared ones, got {', '.join(map(str, shapes))}."
        )
    found = Labelled(
        np.asarray(visible, np.float64),
        np.asarray(visible_identity, np.int64),
        np.asarray(infrared, np.float64),
        np.asarray(infrared_identity, np.int64),
    )
    if not (np.isfinite(found.visible).all() and np.isfinite(found.infrared).all()):
        raise TrainingError(f"{name}: expected finite features, got NaN or infinity; look at what computed them.")
    if len(found.common()) < 2:
        raise TrainingError(
            f"{name}: expected at least two identities with images of both modalities, got {len(found.common())}; "
            "there is nothing to tell apart."
        )
    return found
