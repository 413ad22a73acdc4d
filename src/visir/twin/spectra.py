"""From surfaces to light: diffuse colour under sun and sky, reflected lamp light at 850 nm, and heat."""

from __future__ import annotations

import math

import numpy as np

from visir.core.types import FloatArray, IntArray
from visir.twin.backdrop import Light, backdrop
from visir.twin.cameras import Spectrum
from visir.twin.compiled import compiled
from visir.twin.figure import Figure
from visir.twin.people import Material, Person
from visir.twin.render import Surfaces, View
from visir.twin.scenes import Scene

MATERIAL_COLUMNS = 15


def material_table(person: Person, cold: float) -> FloatArray:
    """(slots, MATERIAL_COLUMNS) float32: five channels, five of the pattern, pattern, scale, gloss, folds, phase.

    ``cold``: warmth of the air, added to what shines through.
    """
    rows = [
        _material_row(material, cold, 0.37 * person.identity + slot) for slot, material in enumerate(person.materials)
    ]
    return np.array(rows, np.float32)


def _material_row(material: Material, cold: float, phase: float) -> tuple[float, ...]:
    warm = cold + (1 - cold) * material.warmth
    first = (*material.colour, material.near, warm)
    plain = material.pattern == 0
    second = first if plain else (*material.second, material.second_near, warm - 0.015)
    return (*first, *second, int(material.pattern), material.scale, material.gloss, material.folds, phase % 6.28)


@compiled
def _pattern(kind: int, scale: float, phase: float, u: float, v: float, w: float) -> float:
    """Share of the second colour at local coordinates in metres."""
    if kind == 1:
        t = v / scale + phase
        return 1.0 if t - math.floor(t) < 0.45 else 0.0
    if kind == 2:
        t = math.atan2(u, w) * 0.16 / scale + phase
        return 1.0 if t - math.floor(t) < 0.3 else 0.0
    if kind == 3:
        t, s = v / scale + phase, math.atan2(u, w) * 0.16 / scale
        return 0.5 * (t - math.floor(t) < 0.45) + 0.5 * (s - math.floor(s) < 0.45)
    if kind == 4:
        return 1.0 if v > scale else 0.0
    if kind == 5:
        t, s = v / scale + phase, math.atan2(u, w) * 0.16 / scale
        t, s = t - math.floor(t) - 0.5, s - math.floor(s) - 0.5
        return 1.0 if t * t + s * s < 0.075 else 0.0
    a, b = u * 9.0 / scale * 0.12, v * 9.0 / scale * 0.12
    wave = math.sin(1.3 * a + 2.1 * math.sin(0.8 * b + phase)) + math.sin(
        1.7 * b + 1.9 * math.sin(0.9 * a - phase) + w * 4
    )
    return 1.0 if wave > 0.25 else 0.0


@compiled
def _painted(
    features: FloatArray, detail: int, slot: int, size: float, u: float, v: float, w: float
) -> tuple[int, float]:
    """The material slot after painted details, and a factor on its reflectance."""
    shade = 1.0
    if detail == 1 and u > 0.3 * size:  # face: eyes and brows, a mouth, a little shade below the cheeks
        across, high = w / size, v / size
        eye = min(
            math.hypot((across - 0.42) * 1.1, (high - 1.05) * 2.2),
            math.hypot((across + 0.42) * 1.1, (high - 1.05) * 2.2),
        )
        if eye < 0.26:
            shade = 0.30
        elif abs(abs(across) - 0.44) < 0.34 and abs(high - 1.42) < 0.11:
            shade = 0.42
        elif abs(across) < 0.36 and abs(high + 0.25) < 0.13:
            shade = 0.62
    elif detail == 2:  # torso: open front, print, straps of a backpack, strap of a crossbody bag
        front = w > 0.0
        if front and features[0] > 0 and abs(u) < features[0] * (1.5 - 0.9 * v / 0.5):
            return 3, 1.0
        if features[0] > 0 and front and abs(u) < features[0] * (1.5 - 0.9 * v / 0.5) + 0.012:
            shade = 0.6
        if front and features[1] > 0 and abs(u) < features[1] and abs(v - features[3]) < features[1] * 0.8:
            return 3, 1.0
        if features[2] == 1 and front and abs(abs(u) - 0.105) < 0.022 and v > features[3] - 0.12:
            return 7, 0.9
        if features[2] == 2 and abs(u + 0.9 * (v - 0.22)) < 0.020:
            return 7, 0.9
        if v < 0.03:
            shade = 0.86
    elif detail == 3 and w > 0.45 * size:  # the edge of the sole
        shade = 0.5
    elif detail == 4:
        shade = 0.86 + 0.2 * math.sin(260.0 * (u + 0.6 * w)) * math.sin(40.0 * v + 90.0 * w)
    elif detail == 5 and abs(abs(v) - 0.045) < 0.006:
        shade = 0.6
    elif detail == 6 and features[2] == 1 and 0.06 < v < 0.105:
        return 7, 0.9
    elif detail == 7 and v > 0.53:
        shade = 0.8
    return slot, shade


@compiled
def _lit(
    table: FloatArray,
    colours: FloatArray,
    lighting: FloatArray,
    features: FloatArray,
    kinds: IntArray,
    first_channel: int,
    channels: int,
    normal: FloatArray,
    local: FloatArray,
    openness: float,
    i: int,
    ray: FloatArray,
    out: FloatArray,
) -> None:
    """Light that one sub-pixel of solid ``i`` sends to the camera, ``channels`` numbers into ``out``."""
    u, v, w = local[0], local[1], local[2]
    slot, shade = _painted(features, kinds[i, 1], kinds[i, 0], max(table[i, 10], table[i, 11]), u, v, w)
    base = colours[slot]
    share = _pattern(int(base[10]), base[11], base[14], u, v, w) if base[10] > 0.5 else 0.0
    fold = 0.0
    if base[13] > 0:
        angle = math.atan2(u, w)
        fold = math.sin(21.0 * v + 2.5 * angle + base[14]) * math.sin(9.0 * v - 1.7 * angle + 2 * base[14])
        fold += 0.5 * math.sin(46.0 * v - 3.0 * angle)
    nx, ny, nz = normal[0], normal[1], normal[2]
    facing = -(nx * ray[0] + ny * ray[1] + nz * ray[2])
    if first_channel == 4:
        heat = base[4] + share * (base[9] - base[4])
        heat = heat - kinds[i, 2] * 0.001 * max(heat - lighting[6], 0.0) + 0.03 * base[13] * fold
        out[0] = (heat - lighting[6]) * (0.80 + 0.20 * max(facing, 0.0)) * (1.06 - 0.06 * openness) + lighting[6]
        if kinds[i, 1] == 1:
            out[0] -= 0.06 * (1.0 - shade)
        return
    relief = shade * (1.0 + 0.13 * base[13] * fold)
    sun = max(nx * lighting[0] + ny * lighting[1] + nz * lighting[2], 0.0) * (0.35 + 0.65 * openness)
    sky = (0.62 + 0.38 * (nx * lighting[3] + ny * lighting[4] + nz * lighting[5])) * (0.30 + 0.70 * openness)
    dot = nx * lighting[0] + ny * lighting[1] + nz * lighting[2]
    mirror = 2.0 * dot * facing + lighting[0] * ray[0] + lighting[1] * ray[1] + lighting[2] * ray[2]
    shine = base[12] * max(mirror, 0.0) ** 12
    for k in range(channels):
        c = first_channel + k
        reflectance = (base[c] + share * (base[5 + c] - base[c])) * relief
        out[k] = reflectance * (sun * lighting[7 + k] + sky * lighting[10 + k]) + shine * lighting[7 + k] * 0.5


@compiled
def _compose(
    table: FloatArray,
    colours: FloatArray,
    lighting: FloatArray,
    features: FloatArray,
    kinds: IntArray,
    first_channel: int,
    window: tuple[float, float, float, float],
    solid: IntArray,
    normal: FloatArray,
    local: FloatArray,
    openness: FloatArray,
    out: FloatArray,
) -> None:
    """Put the person over the background in ``out`` (h, w, channels), averaging the sub-pixels of each pixel."""
    height, width, channels = out.shape
    fine = solid.shape[0] // height
    left, right, bottom, top = window
    dx, dy = (right - left) / solid.shape[1], (top - bottom) / solid.shape[0]
    light, total, ray = np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    for r in range(height):
        for c in range(width):
            covered = 0
            total[:] = 0.0
            for a in range(r * fine, (r + 1) * fine):
                for b in range(c * fine, (c + 1) * fine):
                    i = solid[a, b]
                    if i < 0:
                        continue
                    covered += 1
                    x, y = left + (b + 0.5) * dx, top - (a + 0.5) * dy
                    length = 1.0 / math.sqrt(x * x + y * y + 1.0)
                    ray[0], ray[1], ray[2] = x * length, y * length, length
                    _lit(
                        table, colours, lighting, features, kinds, first_channel, channels,
                        normal[a, b], local[a, b], openness[a, b], i, ray, light,
                    )  # fmt: skip
                    for k in range(channels):
                        total[k] += light[k]
            if covered:
                for k in range(channels):
                    out[r, c, k] = (out[r, c, k] * (fine * fine - covered) + total[k]) / (fine * fine)


CHANNEL: dict[Spectrum, tuple[int, int]] = {"visible": (0, 3), "near-infrared": (3, 1), "thermal": (4, 1)}


def _features(person: Person) -> FloatArray:
    """Numbers for the painted details: opening, print, straps (1 two, 2 one across), height of the chest."""
    straps = {"backpack": 1.0, "crossbody": 2.0}.get(person.clothes.bag, 0.0)
    chest = (0.735 - person.clothes.hem) * person.body.height
    return np.array([person.clothes.opening, person.clothes.logo, straps, chest], np.float32)


def radiance(
    person: Person,
    figure: Figure,
    table: FloatArray,
    seen: Surfaces,
    view: View,
    scene: Scene,
    spectrum: Spectrum,
    spot: tuple[float, float],
    shape: tuple[int, int],
) -> FloatArray:
    """What reaches the lens.

    Args:
        table, seen: the packed solids and their traced surfaces; ``view`` the camera; ``spot`` metres aside and behind
            the usual place at which the person stands in ``scene``. shape: (h, w) of the picture.

    Returns:
        (h, w, 3) float32 linear light for the visible, (h, w, 1) otherwise; thermal values are warmth, 0..1.
    """
    first, channels = CHANNEL[spectrum]
    light = Light.of(scene, view, spectrum)
    out = backdrop(table, view, scene, light, spot, figure, (*shape, channels), first)
    kinds = np.stack([figure.slot, figure.detail, np.rint(figure.heat * 1000).astype(np.int64)], axis=1)
    _compose(
        table, material_table(person, scene.air), light.numbers, _features(person), kinds, first, view.window,
        seen.solid, seen.normal, seen.local, seen.openness, out,
    )  # fmt: skip
    return out
