"""The closed-form stage that several methods end in: principal axes, then a metric, behind given features."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from visir.methods.base import Sample
from visir.nets.projected import Projected
from visir.projections.learn import Metric, learn


def fit_projection(encoder: Projected, sample: Sample, *, metric: Metric, principal: int) -> Mapping[str, float]:
    """Learn the metric and put it behind the encoder's features; gives the number of its directions.

    Raises:
        TrainingError: features from which it cannot be learnt; see :func:`visir.projections.learn.learn`.
    """
    found = learn(
        sample.features,
        sample.identity,
        sample.modality,
        metric=metric,
        principal=principal,
        dim=encoder.projected_dim,
    )
    encoder.set(np.stack([found.visible_mean, found.infrared_mean]), found.visible, found.infrared)
    return {"directions": float(found.directions)}
