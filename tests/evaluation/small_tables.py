"""Small tables, features and protocols, and the figures of a trial by loops; several tests share them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from slow_ranking import slow_scores

from visir.core.types import ImageTable
from visir.evaluation.protocol import Protocol, Trial

DIMENSIONS = 300  # above product.EXACT_DIMENSIONS: float32


def make_table(queries=40, gallery=60, people=7, seed=0):
    rng = np.random.default_rng(seed)
    identity = rng.integers(0, people, queries + gallery)
    camera = rng.integers(1, 4, queries + gallery)
    infrared = np.arange(queries + gallery) < queries
    names = tuple(f"{'ir' if i < queries else 'rgb'}/{i:03d}.jpg" for i in range(queries + gallery))
    return ImageTable(Path("root"), names, identity, camera, infrared.astype(np.int64))


def make_features(table, dimensions=DIMENSIONS, seed=1):
    """Identity clusters of few small whole numbers: products are exact, and there are true ties."""
    rng = np.random.default_rng(seed)
    features = np.zeros((len(table), dimensions), np.float32)
    centres = rng.integers(-1, 2, (int(table.identity.max()) + 1, 5))
    features[:, 1:6] = centres[table.identity] + rng.integers(-1, 2, (len(table), 5))
    features[:, 0] = 1
    return features


def one_way(table):
    trial = Trial("1", np.flatnonzero(table.modality == 1), np.flatnonzero(table.modality == 0))
    return Protocol("one way", lambda _: [trial], cmc="image")


def assert_same(reports, others, tolerance=1e-12):
    for one, other in zip(reports, others, strict=True):
        assert one.protocol == other.protocol
        assert [t["trial"] for t in one.trials] == [t["trial"] for t in other.trials]
        for name in one.trials[0].keys() - {"trial"}:
            np.testing.assert_allclose([t[name] for t in one.trials], [t[name] for t in other.trials], atol=tolerance)
        np.testing.assert_allclose(one.curve, other.curve, atol=tolerance)


def slow_report(features, table, protocol, distance):
    """Figures of the first trial by loops in float64."""
    trial = protocol.trials(table)[0]
    query, gallery = table.take(trial.query), table.take(trial.gallery)
    a, b = (features[rows].astype(np.float64) for rows in (trial.query, trial.gallery))
    if distance == "cosine":
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        values = -(a[:, None] * b[None]).sum(-1)  # a matrix product would round equal columns differently
    elif distance == "euclidean":
        values = ((a[:, None] - b[None]) ** 2).sum(-1)
    else:
        values = np.abs(a[:, None] - b[None]).sum(-1)
    slow = slow_scores(values, query.identity, gallery.identity, protocol.hidden(query, gallery))
    kept = [s for s in slow if s.image_rank]
    ranks = np.array([s.identity_rank if protocol.cmc == "identity" else s.image_rank for s in kept])
    precision, inp = (float(np.mean([getattr(s, name) for s in kept])) for name in ("precision", "inp"))
    return {
        "rank1": (ranks <= 1).mean(),
        "rank5": (ranks <= 5).mean(),
        "mAP": precision,
        "mINP": inp,
        "scored": len(kept),
    }
