"""Compiled scoring of one query after the other: ranks of the right images by counting, never by sorting a gallery.

CMC, average precision and inverse negative penalty depend on the ranks of the right images alone, and the rank of an
image is one more than the number of images before it. Counting those is a plain comparison of neighbouring numbers,
which processors do many at a time; a sort does not come near it until the right images are hundreds.

Order everywhere: by distance, and at equal distances by place in the trial's gallery (a stable sort).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

TILE = 4096  # distances compared at a time: they stay in the first-level cache
GLANCE = 64  # distances looked over at once for any that is near enough
SORT_FROM = 512  # from this number of right images on, one sort is cheaper than counting for each

Array = npt.NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    """``function`` as machine code that lets other threads run. No fast mathematics: infinity is in use."""
    return cast("F", njit(cache=True, nogil=True)(function))


@_compiled
def _count_four(tile: Array, values: Array, count: Array) -> None:
    """count[m] += numbers of ``tile`` up to values[m], for four values: one load serves four comparisons."""
    u, v, w, x = values[0], values[1], values[2], values[3]
    a, b, c, d = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for k in range(tile.shape[0]):
        near = tile[k]
        a += np.int32(near <= u)
        b += np.int32(near <= v)
        c += np.int32(near <= w)
        d += np.int32(near <= x)
    count[0] += a
    count[1] += b
    count[2] += c
    count[3] += d


@_compiled
def _count_upto(row: Array, values: Array, found: int, count: Array) -> None:
    """count[m]: numbers of ``row`` up to values[m], for the first ``found``; both arrays have room for three more."""
    values[found : found + 3] = values[found - 1]
    count[: found + 3] = 0
    for start in range(0, row.shape[0], TILE):
        tile = row[start : start + TILE]
        for m in range(0, found, 4):
            _count_four(tile, values[m : m + 4], count[m : m + 4])


@_compiled
def _mark_shared(row: Array, right: Array, values: Array, count: Array, lower: Array, shared: Array) -> int:
    """shared[j] for the columns ``right``: whether any other column has exactly that distance. Return how many see."""
    found = 0
    for j in right:
        if row[j] < np.inf:
            values[found] = row[j]
            found += 1
    if found == 0 or found >= SORT_FROM:
        return found
    _count_upto(row, values, found, count)
    for m in range(found):
        values[m] = np.nextafter(values[m], -values.dtype.type(np.inf))
    _count_upto(row, values, found, lower)
    found = 0
    for j in right:
        if row[j] < np.inf:
            shared[j] = count[found] - lower[found] > 1
            found += 1
    return found


@_compiled
def _settle_tie(row: Array, found: int, place: Array, m: int, rank: Array) -> int:
    """Correct rank[m] for equal distances: the earlier place first. Return 1 if a wrong image is among the equals."""
    wanted, equal, right = row[place[m]], 0, 0
    for k in range(row.shape[0]):
        if row[k] == wanted:
            equal += 1
            if k > place[m]:
                rank[m] -= 1
    for other in range(found):
        if row[place[other]] == wanted:
            right += 1
    return 1 if right < equal else 0


@_compiled
def _rank_by_sorting(row: Array, found: int, place: Array, rank: Array) -> int:
    """Ranks from 1 of the images at ``place`` by one stable sort; return how many of them tie with a wrong one."""
    order = np.argsort(row, kind="mergesort")
    index = np.full(row.shape[0], -1, np.int32)
    for m in range(found):
        index[place[m]] = m
    ties, start = 0, 0
    while start < order.shape[0]:
        end, right = start, 0
        while end < order.shape[0] and row[order[end]] == row[order[start]]:
            if index[order[end]] >= 0:
                rank[index[order[end]]] = end + 1
                right += 1
            end += 1
        if right < end - start:
            ties += right
        start = end
    return ties


@_compiled
def _identities_before(row: Array, identity: Array, place: int, images: int, seen: Array, stamp: int) -> int:
    """How many identities own the ``images`` images ranked before the one at ``place``."""
    wanted, left, count = row[place], images, 0
    for start in range(0, row.shape[0], GLANCE):
        if left == 0:
            break
        glance, near = row[start : start + GLANCE], np.int32(0)
        for k in range(glance.shape[0]):
            near += np.int32(glance[k] <= wanted)
        if near == 0:
            continue
        for k in range(start, start + glance.shape[0]):
            if row[k] < wanted or (row[k] == wanted and k < place):
                left -= 1
                if seen[identity[k]] != stamp:
                    seen[identity[k]] = stamp
                    count += 1
    return count


@_compiled
def visible_row(product: Array, scale: Array, shift: Array, hidden: Array, row: Array) -> None:
    """``row`` = product * scale + shift, infinite where hidden. An empty ``hidden`` hides nothing."""
    for j in range(row.shape[0]):
        row[j] = product[j] * scale[j] + shift[j]
    for j in range(hidden.shape[0]):
        if hidden[j]:
            row[j] = np.inf


@_compiled
def _right_places(row: Array, column: Array, group: Array, place: Array) -> int:
    """Fill ``place`` with those gallery places of ``group`` that the query sees; return how many."""
    found = 0
    for k in group:
        if row[column[k]] < np.inf:
            place[found] = k
            found += 1
    return found


@_compiled
def _taken(row: Array, own: Array, room: Array) -> Array:
    """row[own], at the start of ``room``."""
    for k in range(own.shape[0]):
        room[k] = row[own[k]]
    return room[: own.shape[0]]


@_compiled
def _precision(rank: Array) -> float:
    """Average precision from the sorted ranks of the right images: the mean of j / rank of the j-th."""
    total = 0.0
    for m in range(rank.shape[0]):
        total += (m + 1) / rank[m]
    return total / len(rank)


@_compiled
def _rank_right(
    gallery: Array, own: Array, shared: Array, found: int, place: Array, values: Array, rank: Array, sort: bool
) -> int:
    """Ranks from 1 of the ``found`` right images at ``place``; return how many of them tie with a wrong one."""
    if sort:
        return _rank_by_sorting(gallery, found, place, rank)
    for m in range(found):
        values[m] = gallery[place[m]]
    _count_upto(gallery, values, found, rank)
    ties = 0
    for m in range(found):
        if shared[own[place[m]]]:
            ties += _settle_tie(gallery, found, place, m, rank)
    return ties


@_compiled
def _first_rank(
    gallery: Array, names: Array, place: Array, rank: Array, identity_level: bool, seen: Array, stamp: int
) -> int:
    """Rank from 1 of the nearest right image, or of its identity."""
    best = np.argmin(rank)
    before = rank[best] - 1
    if identity_level and before > 0:
        before = _identities_before(gallery, names, place[best], before, seen, stamp)
    return int(before + 1)


@_compiled
def score_rows(
    product: Array,
    scale: Array,
    shift: Array,
    hidden: Array,
    query_identity: Array,
    asked: Array,
    column: Array,
    identity: Array,
    by_identity: Array,
    offset: Array,
    start: Array,
    right: Array,
    right_start: Array,
    identity_level: Array,
    first: Array,
    precision: Array,
    inp: Array,
    ties: Array,
) -> None:
    """Score b queries in T trials whose galleries are slices of the same G columns.

    Args:
        product, scale, shift: (b, G), (G,), (G,) float; column j has the distance ``product * scale[j] + shift[j]``.
        hidden: (b, G) bool, or (b, 0) when nothing is.
        query_identity: (b,) int32 identity codes 0..I-1.
        asked: (T, b) bool, whether the trial has that query.
        column, identity: gallery columns of all trials, each in gallery order, and their identity codes; int32.
        by_identity: places in each trial's gallery, grouped by identity, int32.
        offset: (T + 1,) int64 starts of the trials in the three flat arrays.
        start: (T, I + 1) int32 starts of the groups inside the trial's part of ``by_identity``.
        right, right_start: (G,) int32 columns grouped by identity code, (I + 1,) int32 starts of the groups.
        identity_level: (T,) bool, whether ``first`` counts identities instead of images.
        first, ties: (T, b) int32 out: rank of the first right image or identity, 0 for none; right images at exactly
            the distance of a wrong one.
        precision, inp: (T, b) float64 out: average precision; right images / rank of the last.
    """
    trials, room = asked.shape[0], np.max(right_start[1:] - right_start[:-1]) + 3
    row, kept = np.empty(product.shape[1], product.dtype), np.empty(np.max(offset[1:] - offset[:-1]), product.dtype)
    values, shared = np.empty(room, product.dtype), np.zeros(product.shape[1], np.bool_)
    place, rank, spare = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    seen = np.full(start.shape[1], -1, np.int64)
    for i in range(product.shape[0]):
        wanted = query_identity[i]
        visible_row(product[i], scale, shift, hidden[i], row)
        visible = _mark_shared(row, right[right_start[wanted] : right_start[wanted + 1]], values, rank, spare, shared)
        for t in range(trials):
            if not asked[t, i] or visible == 0:
                continue
            own = column[offset[t] : offset[t + 1]]
            found = _right_places(row, own, by_identity[offset[t] :][start[t, wanted] : start[t, wanted + 1]], place)
            if found == 0:
                continue
            gallery = _taken(row, own, kept)
            ties[t, i] = _rank_right(gallery, own, shared, found, place, values, rank, sort=visible >= SORT_FROM)
            counted, stamp = identity_level[t], i * trials + t
            first[t, i] = _first_rank(gallery, identity[offset[t] :], place, rank[:found], counted, seen, stamp)
            rank[:found].sort()
            precision[t, i], inp[t, i] = _precision(rank[:found]), found / rank[found - 1]


@_compiled
def best_columns(
    product: Array, scale: Array, shift: Array, hidden: Array, column: Array, hits: Array, distance: Array
) -> None:
    """The nearest k gallery places of each of b queries, nearest first, equal ones in gallery order.

    Args:
        product: (b, G) float, with ``scale``, ``shift`` and ``hidden`` as in :func:`score_rows`.
        scale: (G,) float.
        shift: (G,) float.
        hidden: (b, G) bool or (b, 0).
        column: (g,) int32 gallery columns in gallery order.
        hits: (b, k) int64 out: places 0..g-1, -1 where fewer than k are visible.
        distance: (b, k) float out: their distances, infinite for the padding.
    """
    row = np.empty(product.shape[1], product.dtype)
    hits[:] = -1
    distance[:] = np.inf
    last = hits.shape[1] - 1
    for i in range(product.shape[0]):
        visible_row(product[i], scale, shift, hidden[i], row)
        for k in range(column.shape[0]):
            near = row[column[k]]
            if not near < distance[i, last]:
                continue
            m = last
            while m > 0 and near < distance[i, m - 1]:
                distance[i, m], hits[i, m] = distance[i, m - 1], hits[i, m - 1]
                m -= 1
            distance[i, m], hits[i, m] = near, k
