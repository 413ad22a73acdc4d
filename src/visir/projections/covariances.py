"""Covariances of the differences between visible and infrared features, without listing their pairs."""

from __future__ import annotations

import numpy as np

from visir.core.types import IntArray
from visir.projections.base import DoubleArray, Labelled


def class_sums(features: DoubleArray, identity: IntArray, identities: IntArray) -> DoubleArray:
    """(n, d) features -> (C, d), the sum over the images of each of the ascending ``identities``."""
    places = np.searchsorted(identities, identity)
    sums = np.zeros((len(identities), features.shape[1]))
    np.add.at(sums, places, features)
    return sums


def difference_covariances(data: Labelled) -> tuple[DoubleArray, DoubleArray]:
    """Second moments of x - z over all pairs of a visible x and an infrared z.

    With n_c and m_c images of identity c and their sums s_c and t_c, the pairs of one identity give
    ``sum_c m_c sum_i x_i x_i' + n_c sum_j z_j z_j' - s_c t_c' - t_c s_c'``; all pairs likewise, and the rest are the
    pairs of different identities. Time and memory grow with the images, not with their pairs.

    Returns:
        (d, d) over the pairs of the same identity, and (d, d) over those of different ones, each divided by the number
        of its pairs; differences are taken to have mean zero, as in KISSME and XQDA.
    """
    shift = np.concatenate([data.visible, data.infrared]).mean(axis=0)  # differences do not see it, rounding does
    visible, infrared = data.visible - shift, data.infrared - shift
    identities = np.union1d(data.visible_identity, data.infrared_identity)
    places = [np.searchsorted(identities, who) for who in (data.visible_identity, data.infrared_identity)]
    n, m = (np.bincount(place, minlength=len(identities)).astype(np.float64) for place in places)
    s = class_sums(visible, data.visible_identity, identities)
    t = class_sums(infrared, data.infrared_identity, identities)
    crossed = s.T @ t
    same = (visible.T * m[places[0]]) @ visible + (infrared.T * n[places[1]]) @ infrared - crossed - crossed.T
    crossed = np.outer(s.sum(axis=0), t.sum(axis=0))
    everything = len(infrared) * (visible.T @ visible) + len(visible) * (infrared.T @ infrared) - crossed - crossed.T
    pairs, all_pairs = float(n @ m), float(len(visible) * len(infrared))
    same, different = same / pairs, (everything - same) / (all_pairs - pairs)
    return (same + same.T) / 2, (different + different.T) / 2
