"""The official evaluation as loops that anyone can check by eye; the tests compare everything fast with it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Slow(NamedTuple):
    """One query: first rank over images and over identities, average precision, INP, ties; zeros without a match."""

    image_rank: int
    identity_rank: int
    precision: float
    inp: float
    ties: int


def slow_query(distances, wanted, identities, hidden) -> Slow:
    """Sort what is seen by (distance, place), walk down the list."""
    seen = [(d, place) for place, d in enumerate(distances) if not hidden[place]]
    ranked = [place for _, place in sorted(seen)]
    hits = [n for n, place in enumerate(ranked, 1) if identities[place] == wanted and wanted >= 0]
    if not hits:
        return Slow(0, 0, 0.0, 0.0, 0)
    unique = list(dict.fromkeys(int(identities[place]) for place in ranked))
    precision = sum(j / n for j, n in enumerate(hits, 1)) / len(hits)
    wrong = {distances[place] for place in ranked if identities[place] != wanted}
    ties = sum(distances[ranked[n - 1]] in wrong for n in hits)
    return Slow(hits[0], unique.index(wanted) + 1, precision, len(hits) / hits[-1], ties)


def slow_scores(distances, query_identity, gallery_identity, hidden) -> list[Slow]:
    """Every query of a (q, g) matrix."""
    rows = zip(np.asarray(distances).tolist(), query_identity, np.asarray(hidden).tolist(), strict=True)
    return [slow_query(row, int(wanted), gallery_identity, mask) for row, wanted, mask in rows]


def assert_equal(found, slow: list[Slow], cmc: str) -> None:
    """QueryScores against the loops."""
    assert found.first.tolist() == [s.image_rank if cmc == "image" else s.identity_rank for s in slow]
    np.testing.assert_allclose(found.average_precision, [s.precision for s in slow], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.inp, [s.inp for s in slow], rtol=0, atol=1e-12)
    assert found.ties.tolist() == [s.ties for s in slow]
