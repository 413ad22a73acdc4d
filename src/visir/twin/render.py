"""Sphere tracing of a figure: which solid, facing where, at which of its own coordinates, for every sub-pixel.

The picture is cut into tiles; a tile marches only through the solids that can touch it. Solids of one group melt into
each other (polynomial smooth minimum), groups meet in plain edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from visir.core.types import FloatArray, IntArray
from visir.twin.compiled import Scalar, compiled
from visir.twin.figure import Figure

TILE = 8
REACH = 0.05  # metres beyond a solid within which it still darkens its neighbours
COLUMNS = 30


@dataclass(frozen=True, eq=False)
class View:
    """A camera looking at the spot where the person stands, and the window it cuts out.

    Attributes:
        position: (3,) metres; the person stands at the origin, y is up, the camera on the side of negative z.
        axes: (3, 3) rows right, up, forward.
        window: left, right, bottom, top in the plane at distance one.
    """

    position: FloatArray
    axes: FloatArray
    window: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Surfaces:
    """What each of h x w sub-pixels sees.

    Attributes:
        solid: (h, w) int64 row of the figure, -1 for none.
        normal: (h, w, 3) float32 in camera axes.
        local: (h, w, 3) float32 metres across, along and out of the solid.
        openness: (h, w) float32 share of the surroundings not covered by nearby solids.
    """

    solid: IntArray
    normal: FloatArray
    local: FloatArray
    openness: FloatArray


def packed(figure: Figure, view: View, heading: float) -> FloatArray:
    """(n, COLUMNS) float32: the solids of ``figure``, turned by ``heading``, in camera coordinates."""
    cos, sin = math.cos(heading), math.sin(heading)
    # heading 0 faces the camera, which is on the side of negative z
    turn = np.array([[-cos, 0, -sin], [0, 1, 0], [sin, 0, -cos]], np.float32)
    to_camera = (view.axes @ turn).astype(np.float32)
    shift = -view.axes @ view.position
    start = figure.start @ to_camera.T + shift
    box = figure.box == 1
    end = np.where(box[:, None], figure.end @ to_camera.T, figure.end @ to_camera.T + shift)
    axis = np.where(box[:, None], end, end - start)
    unit = axis / np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-6)
    across = figure.across @ to_camera.T
    across = across - (across * unit).sum(1, keepdims=True) * unit
    across = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    normal = figure.cut[:, :3] @ to_camera.T
    table = np.zeros((len(start), COLUMNS), np.float32)
    table[:, 0:3], table[:, 3:6], table[:, 6:9] = start, axis, across
    table[:, 9] = 1.0 / np.maximum((axis * axis).sum(1), 1e-8)
    table[:, 10:14] = figure.size
    table[:, 14] = 1.0 - 1.0 / figure.stretch
    table[:, 15:18] = normal
    table[:, 18] = figure.cut[:, 3] + normal @ shift
    table[:, 19] = (figure.cut[:, :3] != 0).any(1)
    table[:, 20], table[:, 21], table[:, 22] = figure.box, figure.group, figure.melt
    table[:, 23:26] = unit
    table[:, 26] = figure.origin
    table[:, 27] = figure.stretch
    return table


# The kernels below work on up to LANES points at once: the inner loops over `k` become vector instructions. Rows of the
# scratch array `lane` (ROWS, LANES): the points, and the running results of `_field`.
LANES = TILE * TILE
X, Y, Z, BEST, INNER, EACH, LEAST, RAY_X, RAY_Y, DEPTH, NORMAL_X, NORMAL_Y, NORMAL_Z = range(13)
ROWS = 13


@compiled
def _box(solid: FloatArray, n: int, xs: FloatArray, ys: FloatArray, zs: FloatArray, out: FloatArray) -> None:
    """Distances of ``n`` points to a rounded box."""
    zero = np.float32(0.0)
    cx, cy, cz, vx, vy, vz = solid[0], solid[1], solid[2], solid[3], solid[4], solid[5]
    ux, uy, uz = solid[6], solid[7], solid[8]
    wx, wy, wz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    hu, hv, hw, rounding = solid[10], solid[11], solid[12], solid[13]
    for k in range(n):
        px, py, pz = xs[k] - cx, ys[k] - cy, zs[k] - cz
        qx = abs(px * ux + py * uy + pz * uz) - hu
        qy = abs(px * vx + py * vy + pz * vz) - hv
        qz = abs(px * wx + py * wy + pz * wz) - hw
        inside = min(max(qx, max(qy, qz)), zero)
        qx, qy, qz = max(qx, zero), max(qy, zero), max(qz, zero)
        out[k] = np.sqrt(qx * qx + qy * qy + qz * qz) + inside - rounding


@compiled
def _capsule(solid: FloatArray, n: int, xs: FloatArray, ys: FloatArray, zs: FloatArray, out: FloatArray) -> None:
    """Distances of ``n`` points to a tapered, swollen capsule that is stretched across; the true ones or less."""
    zero, one, four = np.float32(0.0), np.float32(1.0), np.float32(4.0)
    cx, cy, cz, ax, ay, az = solid[0], solid[1], solid[2], solid[3], solid[4], solid[5]
    ux, uy, uz = solid[6], solid[7], solid[8]
    inverse, first, more, swell, squeeze = solid[9], solid[10], solid[11] - solid[10], solid[12], solid[14]
    for k in range(n):
        px, py, pz = xs[k] - cx, ys[k] - cy, zs[k] - cz
        side = (px * ux + py * uy + pz * uz) * squeeze
        share = min(max((px * ax + py * ay + pz * az) * inverse, zero), one)
        px -= ux * side + share * ax
        py -= uy * side + share * ay
        pz -= uz * side + share * az
        radius = first + more * share + swell * four * share * (one - share)
        out[k] = np.sqrt(px * px + py * py + pz * pz) - radius
    if solid[19] > zero:
        ex, ey, ez, edge = solid[15], solid[16], solid[17], solid[18]
        for k in range(n):
            out[k] = max(out[k], xs[k] * ex + ys[k] * ey + zs[k] * ez - edge)


@compiled
def _field(table: FloatArray, near: IntArray, count: int, n: int, lane: FloatArray) -> None:
    """Distance of the first ``n`` points of ``lane`` to the nearest surface, into its row BEST."""
    xs, ys, zs, best, inner, each = lane[X], lane[Y], lane[Z], lane[BEST], lane[INNER], lane[EACH]
    best[:n] = np.float32(1e9)
    group = np.float32(-1.0)
    for place in range(count):
        solid = table[near[place]]
        fresh = solid[21] != group
        out = inner if fresh else each
        if fresh:
            group = solid[21]
        if solid[20] > np.float32(0.5):
            _box(solid, n, xs, ys, zs, out)
        else:
            _capsule(solid, n, xs, ys, zs, out)
        if not fresh:
            melt, quarter = solid[22], np.float32(0.25) / solid[22]
            for k in range(n):
                overlap = max(melt - abs(inner[k] - each[k]), np.float32(0.0))
                inner[k] = min(inner[k], each[k]) - overlap * overlap * quarter
        if place == count - 1 or table[near[place + 1], 21] != group:
            for k in range(n):
                best[k] = min(best[k], inner[k])


@compiled
def _nearest(table: FloatArray, near: IntArray, count: int, n: int, lane: FloatArray, which: IntArray) -> None:
    """The solid that each of the first ``n`` points lies on: the nearest of the group that is nearest."""
    xs, ys, zs, each, best, inner = lane[X], lane[Y], lane[Z], lane[EACH], lane[BEST], lane[INNER]
    group_best = lane[LEAST]
    inside = np.empty(LANES, np.int64)
    best[:n] = np.float32(1e9)
    group = np.float32(-1.0)
    for place in range(count):
        solid = table[near[place]]
        if solid[20] > np.float32(0.5):
            _box(solid, n, xs, ys, zs, each)
        else:
            _capsule(solid, n, xs, ys, zs, each)
        fresh = solid[21] != group
        group = solid[21]
        melt = solid[22]
        for k in range(n):
            if fresh:
                inner[k] = group_best[k] = each[k]
                inside[k] = near[place]
            else:
                if each[k] < group_best[k]:
                    group_best[k], inside[k] = each[k], near[place]
                overlap = max(melt - abs(inner[k] - each[k]), np.float32(0.0))
                inner[k] = min(inner[k], each[k]) - overlap * overlap / (np.float32(4.0) * melt)
            if inner[k] < best[k]:
                best[k], which[k] = inner[k], inside[k]


@compiled
def _tile_solids(table: FloatArray, x: Scalar, y: Scalar, half: Scalar, near: IntArray) -> tuple[int, Scalar, Scalar]:
    """Solids whose outline comes within ``half`` of (x, y) in the plane at distance one, and the depths to march."""
    count, first, last = 0, np.float32(1e9), np.float32(0.0)
    for i in range(table.shape[0]):
        z0 = table[i, 2]
        if table[i, 20] > 0.5:
            reach = math.sqrt(table[i, 10] ** 2 + table[i, 11] ** 2 + table[i, 12] ** 2) + table[i, 13]
            z1, ex, ey = z0, np.float32(0.0), np.float32(0.0)
        else:
            reach = (max(table[i, 10], table[i, 11]) + max(table[i, 12], np.float32(0.0))) * table[i, 27]
            z1 = z0 + table[i, 5]
            ex, ey = table[i, 0] + table[i, 3], table[i, 1] + table[i, 4]
        sx, sy = table[i, 0] / z0, table[i, 1] / z0
        dx, dy = np.float32(0.0), np.float32(0.0)
        if table[i, 20] < 0.5:
            dx, dy = ex / z1 - sx, ey / z1 - sy
        share = ((x - sx) * dx + (y - sy) * dy) / max(dx * dx + dy * dy, np.float32(1e-12))
        share = min(max(share, np.float32(0.0)), np.float32(1.0))
        ox, oy = x - sx - share * dx, y - sy - share * dy
        away = math.sqrt(ox * ox + oy * oy)
        nearest = min(z0, z1) - reach
        if away < half + (reach + REACH) / max(nearest, np.float32(0.1)):
            near[count] = i
            count += 1
            first, last = min(first, nearest - np.float32(0.02)), max(last, max(z0, z1) + reach)
    return count, first, last


@compiled
def _empty_until(
    table: FloatArray,
    near: IntArray,
    count: int,
    x: Scalar,
    y: Scalar,
    half: Scalar,
    depths: tuple[Scalar, Scalar],
    lane: FloatArray,
) -> Scalar:
    """Depth before which no ray of the tile can meet anything: a march with a cone as wide as the tile."""
    z, last = np.float32(depths[0]), depths[1]
    slant = np.float32(math.sqrt(x * x + y * y + np.float32(1.0)))
    while z <= last:
        lane[X, 0], lane[Y, 0], lane[Z, 0] = x * z, y * z, z
        _field(table, near, count, 1, lane)
        free = lane[BEST, 0] - half * z
        if free < np.float32(0.004):
            return z
        z += np.float32(0.92) * free / (slant + half)
    return z


@compiled
def _march(
    table: FloatArray, near: IntArray, count: int, last: Scalar, n: int, lane: FloatArray, pixel: IntArray
) -> int:
    """March the first ``n`` rays of ``lane``; those that hit something end up first in it. Returns their number."""
    hits = 0
    for _ in range(44):
        for k in range(hits, n):
            lane[X, k - hits] = lane[RAY_X, k] * lane[DEPTH, k]
            lane[Y, k - hits] = lane[RAY_Y, k] * lane[DEPTH, k]
            lane[Z, k - hits] = lane[DEPTH, k]
        _field(table, near, count, n - hits, lane)
        kept, first = hits, hits
        for k in range(first, n):
            distance = lane[BEST, k - first]
            rx, ry, z, at = lane[RAY_X, k], lane[RAY_Y, k], lane[DEPTH, k], pixel[k]
            if distance < np.float32(0.0015):  # swap to the front
                for row in range(RAY_X, DEPTH + 1):
                    lane[row, kept] = lane[row, hits]
                pixel[kept] = pixel[hits]
                lane[RAY_X, hits], lane[RAY_Y, hits], lane[DEPTH, hits], pixel[hits] = rx, ry, z, at
                hits += 1
                kept += 1
                continue
            z += np.float32(0.92) * distance / np.sqrt(rx * rx + ry * ry + np.float32(1.0))
            if z <= last:
                lane[RAY_X, kept], lane[RAY_Y, kept], lane[DEPTH, kept], pixel[kept] = rx, ry, z, at
                kept += 1
        n = kept
        if n == hits:
            break
    return hits


@compiled
def _probe(
    table: FloatArray,
    near: IntArray,
    count: int,
    n: int,
    lane: FloatArray,
    dx: Scalar,
    dy: Scalar,
    dz: Scalar,
    scale: Scalar,
) -> None:
    """`_field` at the hit points moved by (dx, dy, dz) plus ``scale`` along their normals."""
    for k in range(n):
        z = lane[DEPTH, k]
        lane[X, k] = lane[RAY_X, k] * z + dx + scale * lane[NORMAL_X, k]
        lane[Y, k] = lane[RAY_Y, k] * z + dy + scale * lane[NORMAL_Y, k]
        lane[Z, k] = z + dz + scale * lane[NORMAL_Z, k]
    _field(table, near, count, n, lane)


@compiled
def _record(
    table: FloatArray,
    near: IntArray,
    count: int,
    n: int,
    lane: FloatArray,
    pixel: IntArray,
    seen: tuple[IntArray, FloatArray, FloatArray, FloatArray],
) -> None:
    """Solid, normal, local coordinates and openness of ``n`` hit points, to their pixels of flat arrays."""
    solid, normal, local, openness = seen
    zero, step, away = np.float32(0.0), np.float32(0.003), np.float32(0.045)
    lane[NORMAL_X : NORMAL_Z + 1, :n] = zero
    which = np.zeros(LANES, np.int64)
    here = np.empty(LANES, np.float32)
    _probe(table, near, count, n, lane, zero, zero, zero, zero)
    here[:n] = lane[BEST, :n]
    _nearest(table, near, count, n, lane, which)
    gradient = np.empty((3, LANES), np.float32)
    for axis in range(3):
        move = step * np.float32(axis == 0), step * np.float32(axis == 1), step * np.float32(axis == 2)
        _probe(table, near, count, n, lane, move[0], move[1], move[2], zero)
        for k in range(n):
            gradient[axis, k] = lane[BEST, k] - here[k]
    for k in range(n):
        nx, ny, nz = gradient[0, k], gradient[1, k], gradient[2, k]
        scale = np.float32(1.0) / max(np.sqrt(nx * nx + ny * ny + nz * nz), np.float32(1e-9))
        lane[NORMAL_X, k], lane[NORMAL_Y, k], lane[NORMAL_Z, k] = nx * scale, ny * scale, nz * scale
    _probe(table, near, count, n, lane, zero, zero, zero, away)
    for k in range(n):
        at, i, z = pixel[k], which[k], lane[DEPTH, k]
        px, py, pz = lane[RAY_X, k] * z - table[i, 0], lane[RAY_Y, k] * z - table[i, 1], z - table[i, 2]
        ux, uy, uz = table[i, 6], table[i, 7], table[i, 8]
        vx, vy, vz = table[i, 23], table[i, 24], table[i, 25]
        solid[at] = i
        for axis in range(3):
            normal[at, axis] = lane[NORMAL_X + axis, k]
        local[at, 0] = px * ux + py * uy + pz * uz
        local[at, 1] = table[i, 26] + px * vx + py * vy + pz * vz
        local[at, 2] = px * (uy * vz - uz * vy) + py * (uz * vx - ux * vz) + pz * (ux * vy - uy * vx)
        openness[at] = min(max(lane[BEST, k] / away, zero), np.float32(1.0))


@compiled
def _trace(
    table: FloatArray,
    window: tuple[float, float, float, float],
    height: int,
    width: int,
    seen: tuple[IntArray, FloatArray, FloatArray, FloatArray],
) -> None:
    """Fill the flat arrays ``seen`` with what ``height`` x ``width`` rays through ``window`` meet."""
    left, right, bottom, top = window
    dx, dy = (right - left) / width, (top - bottom) / height
    near, pixel = np.empty(table.shape[0], np.int64), np.empty(LANES, np.int64)
    lane = np.zeros((ROWS, LANES), np.float32)
    half = np.float32(0.5 * TILE * math.sqrt(dx * dx + dy * dy))
    for row in range(0, height, TILE):
        for column in range(0, width, TILE):
            x = np.float32(left + (column + 0.5 * TILE) * dx)
            y = np.float32(top - (row + 0.5 * TILE) * dy)
            count, first, last = _tile_solids(table, x, y, half, near)
            if count == 0:
                continue
            first = _empty_until(table, near, count, x, y, half, (first, last), lane)
            if first > last:
                continue
            n = 0
            for r in range(row, min(row + TILE, height)):
                for c in range(column, min(column + TILE, width)):
                    lane[RAY_X, n], lane[RAY_Y, n] = left + (c + 0.5) * dx, top - (r + 0.5) * dy
                    lane[DEPTH, n], pixel[n] = first, r * width + c
                    n += 1
            n = _march(table, near, count, last, n, lane, pixel)
            if n:
                _record(table, near, count, n, lane, pixel, seen)


def surfaces(table: FloatArray, view: View, height: int, width: int) -> Surfaces:
    """Trace the packed solids on a grid of ``height`` x ``width`` sub-pixels."""
    count = height * width
    solid = np.full(count, -1, np.int64)
    normal, local = np.zeros((count, 3), np.float32), np.zeros((count, 3), np.float32)
    openness = np.ones(count, np.float32)
    _trace(table, view.window, height, width, (solid, normal, local, openness))
    shape = (height, width)
    return Surfaces(solid.reshape(shape), normal.reshape(*shape, 3), local.reshape(*shape, 3), openness.reshape(shape))


def outline(table: FloatArray) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of the solids in the plane at distance one."""
    box = table[:, 20] > 0.5
    extent = np.linalg.norm(table[:, 10:13], axis=1) + table[:, 13]
    ends = np.where(box[:, None], table[:, 0:3], table[:, 0:3] + table[:, 3:6])
    along = np.abs(table[:, 6:9]) * (table[:, 27:28] - 1) + 1  # stretched sideways only
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for point, radius in ((table[:, 0:3], table[:, 10]), (ends, table[:, 11])):
        reach = np.where(box, extent * 0.75, radius)[:, None] * along[:, :2]
        low = np.minimum(low, ((point[:, :2] - reach) / point[:, 2:3]).min(0))
        high = np.maximum(high, ((point[:, :2] + reach) / point[:, 2:3]).max(0))
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])
