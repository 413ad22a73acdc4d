"""Made-up features of people in two modalities, and how well a projection finds who is who."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from visir.core.types import IntArray, Modality
from visir.projections.base import DoubleArray, Projection


@dataclass(frozen=True, eq=False)
class People:
    """Features and identities; the people of ``test`` are others than those of ``train``."""

    visible: DoubleArray
    visible_identity: IntArray
    infrared: DoubleArray
    infrared_identity: IntArray

    def all(self) -> tuple[DoubleArray, IntArray, DoubleArray, IntArray]:
        return self.visible, self.visible_identity, self.infrared, self.infrared_identity


def people(*, count: int, dim: int = 12, own: int = 5, images: int = 6, turn: float = 0.0, seed: int = 0) -> People:
    """``own`` dimensions tell who it is; the others vary three times as much from image to image.

    The number of images differs from person to person. With ``turn``, infrared features are turned by about
    this angle in every plane, and lie elsewhere.
    """
    fixed = np.random.default_rng(7)
    mixing, _ = np.linalg.qr(fixed.standard_normal((dim, dim)))
    skew = fixed.standard_normal((dim, dim))
    turning = scipy.linalg.expm(turn * (skew - skew.T) / np.sqrt(2 * dim))
    rng = np.random.default_rng(seed)
    identity = np.arange(count)
    latent = rng.standard_normal((count, own))
    sides = []
    for modality in Modality:
        rows = np.repeat(identity, rng.integers(2, images + 1, count))
        features = np.concatenate(
            [
                latent[rows] + 0.25 * rng.standard_normal((len(rows), own)),
                3 * rng.standard_normal((len(rows), dim - own)),
            ],
            axis=1,
        )
        features = features @ mixing / 3
        if turn and modality == Modality.INFRARED:
            features = features @ turning + 0.5
        order = rng.permutation(len(rows))
        sides.append((features[order], rows[order].astype(np.int64)))
    return People(*sides[0], *sides[1])


def rank1(projection: Projection | None, data: People) -> float:
    """Share of infrared images whose nearest visible image shows the same person; None for the features as they are."""
    visible, infrared = data.visible, data.infrared
    distance = "euclidean"
    if projection is not None:
        visible = projection.apply(visible, Modality.VISIBLE)
        infrared = projection.apply(infrared, Modality.INFRARED)
        distance = projection.distance
    if distance == "cosine":
        visible, infrared = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (visible, infrared))
    apart = np.square(infrared[:, None] - visible).sum(-1)
    return float((data.visible_identity[apart.argmin(1)] == data.infrared_identity).mean())
