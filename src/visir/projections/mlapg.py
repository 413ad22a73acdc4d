"""MLAPG: metric learning by accelerated proximal gradient."""

from __future__ import annotations

from visir.core.types import IntArray
from visir.projections.base import Features, Projection, labelled, projection, root
from visir.projections.proximal import PairLoss, ProximalSteps, mean_distance


def mlapg(
    visible: Features,
    visible_identity: IntArray,
    infrared: Features,
    infrared_identity: IntArray,
    *,
    dim: int = 600,
    iterations: int = 300,
    tolerance: float = 1e-4,
) -> Projection:
    """One metric for both modalities, from all pairs across them (Liao and Li, ICCV 2015).

    Minimises :class:`visir.projections.proximal.PairLoss` with mu the mean squared distance of all pairs, by
    :class:`visir.projections.proximal.ProximalSteps`. Pairs are visited in blocks: memory grows with the images, time
    with n * m * d, two to three times an iteration.

    Args:
        visible: (n, d) features.
        visible_identity: (n,).
        infrared: (m, d).
        infrared_identity: (m,).
        dim: k, the most directions; the metric's strongest are kept.
        iterations: at most.
        tolerance: ends when the loss changes by a smaller share.

    Raises:
        TrainingError: see :func:`visir.projections.base.labelled`; a loss that is not finite.
    """
    data = labelled("mlapg", visible, visible_identity, infrared, infrared_identity)
    loss = PairLoss(data.visible_identity, data.infrared_identity, mean_distance(data.visible, data.infrared))
    steps = ProximalSteps(data.dim)
    before = loss.value(steps.metric, data.visible, data.infrared)
    for _ in range(iterations):
        now = steps.step(loss, data.visible, data.infrared)
        if abs(before - now) < tolerance * before:
            break
        before = now
    return projection(root(steps.metric), dim=dim)
