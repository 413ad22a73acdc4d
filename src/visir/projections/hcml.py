"""HCML: hierarchical cross-modality metric learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from visir.core.types import IntArray
from visir.projections.base import DoubleArray, Features, Labelled, Projection, labelled, projection, root
from visir.projections.covariances import class_sums
from visir.projections.proximal import PairLoss, ProximalSteps, mean_distance

MOST_HALVINGS = 60


def hcml(
    visible: Features,
    visible_identity: IntArray,
    infrared: Features,
    infrared_identity: IntArray,
    *,
    dim: int = 600,
    within: float = 0.2,
    rate: float = 0.1,
    decay: float = 0.95,
    iterations: int = 300,
    tolerance: float = 1e-6,
) -> Projection:
    """A map of each modality and a metric behind them (Ye et al., AAAI 2018).

    Minimises, over the maps V, T and the metric M = PP', the loss of
    :class:`visir.projections.proximal.PairLoss` between the mean features of identities, mapped by V and T, plus
    ``within`` times, for each modality, the mean over its images of ``log(1 + exp(||V'(x - c)||^2))``, c the mean of
    its identity. Every iteration takes an accelerated proximal step on M, then a gradient step on V, then one on T.
    The result maps by V P and T P.

    Args:
        visible: (n, d) features, on any scale.
        visible_identity: (n,).
        infrared: (m, d).
        infrared_identity: (m,).
        dim: k, the most directions; the metric's strongest are kept.
        within: weight of the pull within each modality.
        rate: first step length on V and T; halved, in one step, while that step would raise the objective.
        decay: factor on ``rate`` for every iteration.
        iterations: at most.
        tolerance: ends when the objective changes by a smaller share.

    Raises:
        TrainingError: see :func:`visir.projections.base.labelled`; a loss that is not finite.
    """
    data = labelled("hcml", visible, visible_identity, infrared, infrared_identity)
    sides = [_Side.of(data, infrared=infrared_side) for infrared_side in (False, True)]
    seen, hidden = (side.means for side in sides)
    loss = PairLoss(sides[0].identities, sides[1].identities, mean_distance(seen, hidden))
    maps = [np.eye(data.dim), np.eye(data.dim)]
    steps = ProximalSteps(data.dim)

    def objective(maps: list[DoubleArray]) -> float:
        pulls = sum(side.pull(own) for side, own in zip(sides, maps, strict=True))
        return loss.value(steps.metric, seen @ maps[0], hidden @ maps[1]) + within * pulls

    before = objective(maps)
    for iteration in range(iterations):
        steps.step(loss, seen @ maps[0], hidden @ maps[1])
        now = objective(maps)
        for place in (0, 1):
            gradient = _gradient(loss, steps.metric, sides, maps, place, within)
            maps, now = _descended(objective, maps, place, gradient, length=rate * decay**iteration, now=now)
        if abs(before - now) < tolerance * before:
            break
        before = now
    factor = root(steps.metric)
    return projection(maps[0] @ factor, maps[1] @ factor, dim=dim)


def _descended(
    objective: Callable[[list[DoubleArray]], float],
    maps: list[DoubleArray],
    place: int,
    gradient: DoubleArray,
    *,
    length: float,
    now: float,
) -> tuple[list[DoubleArray], float]:
    """One map moved against its gradient, by ``length``, halved until the objective is at most ``now``."""
    for _ in range(MOST_HALVINGS):
        tried = [own - length * gradient if k == place else own for k, own in enumerate(maps)]
        reached = objective(tried)
        if reached <= now:
            return tried, reached
        length /= 2
    return maps, now


@dataclass(frozen=True, eq=False)
class _Side:
    """One modality: the mean of each identity, and what is left of every image."""

    identities: IntArray
    means: DoubleArray
    residual: DoubleArray

    @classmethod
    def of(cls, data: Labelled, *, infrared: bool) -> _Side:
        features = data.infrared if infrared else data.visible
        identity = data.infrared_identity if infrared else data.visible_identity
        identities, places, counts = np.unique(identity, return_inverse=True, return_counts=True)
        means = class_sums(features, identity, identities) / counts[:, None]
        return cls(identities, means, features - means[places])

    def pull(self, own: DoubleArray) -> float:
        """Mean log(1 + exp(squared distance to the mean of the identity)) under the map."""
        squared = np.square(self.residual @ own).sum(axis=1)
        return float(np.logaddexp(0.0, squared).mean())

    def pull_gradient(self, own: DoubleArray) -> DoubleArray:
        """(d, d), by the map."""
        mapped = self.residual @ own
        slope = expit(np.square(mapped).sum(axis=1)) / len(mapped)
        found: DoubleArray = 2 * (self.residual.T * slope) @ mapped
        return found


def _gradient(
    loss: PairLoss, metric: DoubleArray, sides: list[_Side], maps: list[DoubleArray], place: int, within: float
) -> DoubleArray:
    """(d, d) gradient of the objective by the map of one side.

    With g_ij the derivative of the loss by D_ij, that of D_ij by V is ``2 x_i (V' x_i - T' z_j)' M``.
    """
    seen, hidden = (side.means for side in sides)
    slope = loss.slopes(metric, seen @ maps[0], hidden @ maps[1])
    crossed = seen.T @ slope @ hidden
    if place == 0:
        pairs = (seen.T * slope.sum(axis=1)) @ seen @ maps[0] - crossed @ maps[1]
    else:
        pairs = (hidden.T * slope.sum(axis=0)) @ hidden @ maps[1] - crossed.T @ maps[0]
    found: DoubleArray = 2 * pairs @ metric + within * sides[place].pull_gradient(maps[place])
    return found
