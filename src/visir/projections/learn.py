"""From the raw features of all training images to one linear map of each modality: principal axes, then a metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from visir.core.types import IntArray, Modality
from visir.projections.base import Features, Projection
from visir.projections.cca import cca
from visir.projections.hcml import hcml
from visir.projections.kissme import kissme
from visir.projections.lfda import lfda
from visir.projections.mlapg import mlapg
from visir.projections.pca import PrincipalAxes, pca
from visir.projections.xqda import xqda

Metric = Literal["cca", "lfda", "xqda", "kissme", "mlapg", "hcml"]
METRICS: Mapping[Metric, Callable[..., Projection]] = {
    "cca": cca,
    "lfda": lfda,
    "xqda": xqda,
    "kissme": kissme,
    "mlapg": mlapg,
    "hcml": hcml,
}


def learn(
    features: Features, identity: IntArray, modality: IntArray, *, metric: Metric, principal: int, dim: int
) -> Projection:
    """Mean subtraction and PCA over both modalities together, then a metric on the coordinates.

    Args:
        features: (n, D) of all training images; may be memory-mapped, larger than the memory.
        identity: (n,).
        modality: (n,), values of :class:`visir.core.types.Modality`.
        metric: which of this package.
        principal: most principal axes.
        dim: k of the projection.

    Returns:
        a projection of the raw features.

    Raises:
        TrainingError: see :func:`visir.projections.pca.pca`, :func:`visir.projections.base.labelled` and the metric.
    """
    axes = pca(features, dim=principal)
    coordinates = axes.project(features)
    seen, hidden = (np.flatnonzero(modality == kind) for kind in Modality)
    found = METRICS[metric](coordinates[seen], identity[seen], coordinates[hidden], identity[hidden], dim=dim)
    return behind(axes, found)


def behind(axes: PrincipalAxes, projection: Projection) -> Projection:
    """The projection of (D,) features that is a projection of their coordinates."""
    means = (projection.visible_mean, projection.infrared_mean)
    return Projection(
        (axes.axes @ projection.visible).astype(np.float32),
        (axes.axes @ projection.infrared).astype(np.float32),
        (axes.mean + axes.axes @ means[0]).astype(np.float32),
        (axes.mean + axes.axes @ means[1]).astype(np.float32),
        projection.distance,
    )
