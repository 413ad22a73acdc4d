"""The log-logistic loss of a metric over all pairs across the modalities, and accelerated proximal steps on it."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from visir.core.errors import TrainingError
from visir.core.types import IntArray
from visir.projections.base import DoubleArray, root

BLOCK_BYTES = 1 << 26  # of distances held at a time
FIRST_CURVATURE = 1 / 256
CURVATURE_GROWTH = 2.0
MOST_DOUBLINGS = 200
NOT_FINITE = "the loss of the metric is not finite; scale the features to about unit length."


@dataclass(frozen=True, eq=False)
class _Block:
    """Some visible ``rows`` against all infrared features: (b, m) mu - D, and the places of pairs of one identity."""

    rows: slice
    margin: DoubleArray
    same: tuple[IntArray, ...]


@dataclass(frozen=True, eq=False)
class PairLoss:
    """``sum_ij w_ij log(1 + exp(l_ij (D_M(x_i, z_j) - mu)))`` (Liao and Li, ICCV 2015, eqs. 2 to 4).

    ``D_M(x, z) = (x - z)' M (x - z)``; l is 1 for pairs of one identity and -1 for others; w is 1 / number of pairs of
    the kind, so that both kinds weigh the same.

    Attributes:
        visible_identity: (n,).
        infrared_identity: (m,).
        offset: mu.
    """

    visible_identity: IntArray
    infrared_identity: IntArray
    offset: float

    def value(self, metric: DoubleArray, visible: DoubleArray, infrared: DoubleArray) -> float:
        """The loss of (n, d) and (m, d) features under the (d, d) metric, in blocks of 64 MiB."""
        return sum(self._sum(block) for block in self._blocks(metric, visible, infrared))

    def value_and_gradient(
        self, metric: DoubleArray, visible: DoubleArray, infrared: DoubleArray
    ) -> tuple[float, DoubleArray]:
        """The loss and its (d, d) gradient ``sum_ij g_ij (x_i - z_j)(x_i - z_j)'``, g its slope by the distance."""
        d = visible.shape[1]
        total, gradient, crossed, columns = 0.0, np.zeros((d, d)), np.zeros((d, d)), np.zeros(len(infrared))
        for block in self._blocks(metric, visible, infrared):
            total += self._sum(block)
            slope, x = self._slope(block), visible[block.rows]
            gradient += (x.T * slope.sum(axis=1)) @ x
            crossed += x.T @ (slope @ infrared)
            columns += slope.sum(axis=0)
        gradient += (infrared.T * columns) @ infrared
        return total, gradient - crossed - crossed.T

    def slopes(self, metric: DoubleArray, visible: DoubleArray, infrared: DoubleArray) -> DoubleArray:
        """(n, m) derivatives of the loss by the distances, all at once: for class means."""
        return np.concatenate([self._slope(block) for block in self._blocks(metric, visible, infrared)])

    def _blocks(self, metric: DoubleArray, visible: DoubleArray, infrared: DoubleArray) -> Iterator[_Block]:
        turned = infrared @ metric
        lengths = self.offset - np.einsum("jd,jd->j", turned, infrared)
        step = max(1, BLOCK_BYTES // (8 * len(infrared)))
        for first in range(0, len(visible), step):
            rows = slice(first, first + step)
            x = visible[rows]
            margin = (2 * x) @ turned.T
            margin += lengths
            margin -= np.einsum("id,id->i", x @ metric, x)[:, None]
            yield _Block(rows, margin, np.nonzero(self.visible_identity[rows, None] == self.infrared_identity))

    def _sum(self, block: _Block) -> float:
        """The loss of a block; nearly all pairs are of different identities, so the others are put right afterwards."""
        same, different = self._weights
        own = block.margin[block.same]
        part = _softplus(block.margin).sum() - _softplus(own).sum()
        return float(different * part + same * _softplus(-own).sum())

    def _slope(self, block: _Block) -> DoubleArray:
        same, different = self._weights
        slope: DoubleArray = expit(block.margin)
        slope *= -different
        slope[block.same] = same * expit(-block.margin[block.same])
        return slope

    @functools.cached_property
    def _weights(self) -> tuple[float, float]:
        """1 / number of pairs of one identity, 1 / number of the others."""
        _, places = np.unique(np.concatenate([self.visible_identity, self.infrared_identity]), return_inverse=True)
        n, m = len(self.visible_identity), len(self.infrared_identity)
        counts = (np.bincount(part, minlength=int(places.max()) + 1) for part in (places[:n], places[n:]))
        pairs = int(next(counts) @ next(counts))
        return 1 / pairs, 1 / (n * m - pairs)


def _softplus(values: DoubleArray) -> DoubleArray:
    """log(1 + exp(values)) without overflow; quicker than ``np.logaddexp``."""
    found = np.abs(values)
    np.negative(found, out=found)
    np.exp(found, out=found)
    np.log1p(found, out=found)
    found += np.maximum(values, 0.0)
    return found


def mean_distance(visible: DoubleArray, infrared: DoubleArray) -> float:
    """Mean squared Euclidean distance over all pairs, from sums."""
    squares = np.square(visible).sum(axis=1).mean() + np.square(infrared).sum(axis=1).mean()
    return float(squares - 2 * visible.mean(axis=0) @ infrared.mean(axis=0))


class ProximalSteps:
    """Accelerated proximal gradient on positive semi-definite metrics, starting at the identity.

    (Beck and Teboulle, SIAM J. Imaging Sciences 2009; for metrics, Liao and Li, ICCV 2015, algorithm 1.) A step goes
    from an extrapolated point along the gradient and cuts negative eigenvalues off; its length is 1 / L with L from
    1 / 256 upwards, doubled until the quadratic model lies above the loss.
    """

    def __init__(self, dim: int) -> None:
        self.metric: DoubleArray = np.eye(dim)
        self._before = self.metric
        self._momentum, self._curvature = 1.0, FIRST_CURVATURE

    def step(self, loss: PairLoss, visible: DoubleArray, infrared: DoubleArray) -> float:
        """One step for features (n, d) and (m, d); gives the loss at the new ``metric``.

        Raises:
            TrainingError: the loss is not finite.
        """
        momentum = (1 + math.sqrt(1 + 4 * self._momentum**2)) / 2
        ahead = self.metric + (self._momentum - 1) / momentum * (self.metric - self._before)
        value, gradient = loss.value_and_gradient(ahead, visible, infrared)
        if not (math.isfinite(value) and np.isfinite(gradient).all()):
            raise TrainingError(NOT_FINITE)
        for _ in range(MOST_DOUBLINGS):
            factor = root(ahead - gradient / self._curvature)
            metric = factor @ factor.T
            moved = metric - ahead
            model = value + float((gradient * moved).sum()) + self._curvature / 2 * float(np.square(moved).sum())
            reached = loss.value(metric, visible, infrared)
            if reached <= model + 1e-12 * abs(model):
                self._before, self.metric, self._momentum = self.metric, metric, momentum
                return reached
            self._curvature *= CURVATURE_GROWTH
        raise TrainingError(NOT_FINITE)
