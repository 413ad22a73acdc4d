"""The places: walls and grounds painted once per world in five channels, with light and a camera's character.

Channels of a texture are red, green, blue and near-infrared reflectance (linear, 0..1) and warmth (share of the way
from the air's to the skin's temperature).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from visir.core.seeds import generator
from visir.core.types import FloatArray
from visir.twin.people import linear

TEXEL = 0.02  # metres
WALL = (190, 600)  # texels: 3.8 m high, 12 m wide
GROUND = (520, 600)  # from 3 m before the person to 7.4 m behind


@dataclass(frozen=True, eq=False)
class Scene:
    """A place.

    Attributes:
        wall, ground: (h, w, 5) float32 textures; row 0 of the wall is its foot, row 0 of the ground is nearest.
        wall_distance: metres behind the person.
        sun: (3,) unit vector towards the main light, y up, camera at negative z.
        sun_colour, sky_colour: linear light of the main light and of everything else.
        air: how warm the place is in a thermal picture, 0..1.
    """

    wall: FloatArray
    ground: FloatArray
    wall_distance: float
    sun: FloatArray
    sun_colour: FloatArray
    sky_colour: FloatArray
    air: float


def _paint(
    rng: np.random.Generator, colour: tuple[int, int, int], near: float | None = None, warm: float = 0.0
) -> FloatArray:
    """Five channels of one paint; near-infrared is drawn apart from the colour unless given."""
    reflect = float(rng.uniform(0.15, 0.6)) if near is None else near
    shade = np.clip(np.asarray(colour) * rng.normal(1.0, 0.06) + rng.normal(0, 1.5, 3), 4, 250)
    return np.array([*linear((shade[0], shade[1], shade[2])), reflect, warm + rng.normal(0, 0.015)], np.float32)


def _noise(rng: np.random.Generator, shape: tuple[int, int], grain: float) -> FloatArray:
    """Smooth noise of unit deviation with blobs of ``grain`` texels."""
    coarse = (max(2, int(shape[0] / grain) + 2), max(2, int(shape[1] / grain) + 2))
    field = cv2.resize(rng.standard_normal(coarse).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)


def _weather(rng: np.random.Generator, texture: FloatArray, strength: float) -> FloatArray:
    """Stains, unevenness and grain over everything."""
    shape = texture.shape[:2]
    change = 0.6 * _noise(rng, shape, 60) + 0.5 * _noise(rng, shape, 14) + 0.35 * _noise(rng, shape, 3)
    texture[..., :4] *= np.clip(1 + strength * change, 0.3, 1.9)[..., None]
    texture[..., 4] += 0.012 * change
    return np.clip(texture, 0.0, 1.0)


def _plain(shape: tuple[int, int], paint: FloatArray) -> FloatArray:
    return np.broadcast_to(paint, (*shape, 5)).astype(np.float32)


def _joints(texture: FloatArray, rows: int, columns: int, dark: float, stagger: bool = False) -> None:
    """Grooves between tiles, bricks or slabs of ``rows`` x ``columns`` texels."""
    texture[::rows, :, :4] *= dark
    for number, top in enumerate(range(0, texture.shape[0], rows)):
        shift = columns // 2 if stagger and number % 2 else 0
        texture[top : top + rows, shift::columns, :4] *= dark


def _panels(rng: np.random.Generator, texture: FloatArray, rows: int, columns: int, spread: float) -> None:
    """Every tile a little different."""
    shape = (-(-texture.shape[0] // rows), -(-texture.shape[1] // columns))
    change = np.clip(1 + spread * rng.standard_normal(shape), 0.5, 1.5).astype(np.float32)
    grown = np.repeat(np.repeat(change, rows, 0), columns, 1)[: texture.shape[0], : texture.shape[1]]
    texture[..., :4] *= grown[..., None]


def _room(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    tone = [(206, 202, 192), (188, 196, 198), (204, 190, 168)][int(rng.integers(3))]
    wall = _plain(WALL, _paint(rng, tone, 0.5))
    wall[:50] = _paint(rng, (150, 140, 124))  # wainscot
    wall[:6] = _paint(rng, (74, 66, 60))
    wall[50:53] *= 0.8
    for left in rng.choice(np.arange(10, 560, 92), 4, replace=False):
        kind = rng.random()
        if kind < 0.4:  # a door with its frame
            wall[:106, left : left + 50] = _paint(rng, (96, 84, 74))
            wall[2:102, left + 4 : left + 46] = _paint(rng, (132, 98, 66))
            wall[52:56, left + 38 : left + 42] = _paint(rng, (210, 208, 200))
        elif kind < 0.75:  # a window
            wall[60:140, left : left + 70] = _paint(rng, (120, 120, 122))
            wall[64:136, left + 4 : left + 34] = _paint(rng, (196, 212, 222), 0.5)
            wall[64:136, left + 38 : left + 66] = _paint(rng, (190, 208, 220), 0.5)
        else:  # a notice board
            wall[66:120, left : left + 64] = _paint(rng, (122, 92, 62))
            for sheet in range(5):
                column = left + 4 + 12 * sheet
                wall[74 + 4 * (sheet % 3) : 98, column : column + 9] = _paint(rng, (226, 224, 214))
    ground = _plain(GROUND, _paint(rng, (150, 146, 138)))
    _panels(rng, ground, 30, 30, 0.05)
    _joints(ground, 30, 30, 0.78)
    return _weather(rng, wall, 0.04), _weather(rng, ground, 0.05)


def _gate(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    wall = _plain(WALL, _paint(rng, (160, 124, 104)))
    _panels(rng, wall, 4, 12, 0.10)
    _joints(wall, 4, 12, 0.72, stagger=True)
    for left in (70, 330):  # fence between the pillars, trees behind it
        wall[:, left : left + 150] = _paint(rng, (112, 128, 106), 0.6)
        leaves = _noise(rng, (WALL[0], 150), 7)
        wall[:, left : left + 150, :4] *= np.clip(1 + 0.35 * leaves, 0.3, 1.8)[..., None]
        wall[110:, left : left + 150] = _paint(rng, (200, 210, 220), 0.4, -0.12)
        wall[:26, left : left + 150] = _paint(rng, (128, 124, 118))
        for bar in range(left + 4, left + 150, 11):
            wall[:118, bar : bar + 2] = _paint(rng, (38, 42, 44), 0.2)
        wall[112:116, left : left + 150] = _paint(rng, (38, 42, 44), 0.2)
    ground = _plain(GROUND, _paint(rng, (138, 134, 128)))
    _panels(rng, ground, 20, 40, 0.07)
    _joints(ground, 20, 40, 0.75, stagger=True)
    return _weather(rng, wall, 0.07), _weather(rng, ground, 0.07)


def _garden(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    wall = _plain(WALL, _paint(rng, (66, 88, 48), 0.62, -0.04))
    leaves = 0.5 * _noise(rng, WALL, 9) + 0.5 * _noise(rng, WALL, 3.5)
    wall[..., :4] *= np.clip(1 + 0.42 * leaves, 0.2, 2.2)[..., None]
    edge = (118 + 10 * _noise(rng, (1, WALL[1]), 24)[0]).astype(int)
    sky = np.arange(WALL[0])[:, None] > edge[None]
    wall[sky] = _paint(rng, (196, 208, 220), 0.45, -0.12)
    for left in rng.integers(0, 560, 4):  # trunks and a crown
        width = int(rng.integers(8, 18))
        wall[:150, left : left + width] = _paint(rng, (82, 66, 50), 0.45)
        wall[:150, left : left + width // 3, :4] *= 0.7
    ground = _plain(GROUND, _paint(rng, (156, 148, 132)))
    ground[..., :4] *= np.clip(1 + 0.16 * _noise(rng, GROUND, 2.2), 0.4, 1.7)[..., None]
    lawn = np.arange(GROUND[0])[:, None] > 210 + 10 * _noise(rng, (1, GROUND[1]), 40)
    grass = _plain(GROUND, _paint(rng, (88, 108, 58), 0.6, -0.03))
    grass[..., :4] *= np.clip(1 + 0.3 * _noise(rng, GROUND, 3), 0.3, 1.9)[..., None]
    ground[lawn] = grass[lawn]
    return _weather(rng, wall, 0.08), _weather(rng, ground, 0.08)


def _passage(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    wall = _plain(WALL, _paint(rng, (168, 166, 158), 0.42))
    _panels(rng, wall, 38, 60, 0.06)
    _joints(wall, 38, 60, 0.7)
    wall[:40] = _paint(rng, (98, 106, 112), 0.3)
    for left in range(int(rng.integers(20, 80)), 600, 150):  # pillars
        wall[:, left : left + 26] = _paint(rng, (186, 182, 172), 0.5)
        wall[:, left : left + 5, :4] *= 0.75
    left = int(rng.integers(100, 450))
    wall[55:115, left : left + 46] = _paint(rng, (64, 92, 140), 0.25)
    wall[62:108, left + 6 : left + 40] = _paint(rng, (220, 214, 198), 0.6)
    ground = _plain(GROUND, _paint(rng, (120, 120, 118), 0.33))
    _panels(rng, ground, 40, 40, 0.05)
    _joints(ground, 40, 40, 0.8)
    return _weather(rng, wall, 0.06), _weather(rng, ground, 0.06)


def _street(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    wall = _plain(WALL, _paint(rng, (158, 152, 142)))
    _panels(rng, wall, 64, 100, 0.12)
    for left in range(12, 580, 98):  # shop windows
        wall[24:104, left : left + 76] = _paint(rng, (58, 64, 70), 0.25, 0.05)
        wall[28:100, left + 4 : left + 72] = _paint(rng, tuple(rng.integers(50, 130, 3)), None, 0.06)
        glint = np.linspace(0.75, 1.35, 68, dtype=np.float32)
        wall[28:100, left + 4 : left + 72, :4] *= glint[None, :, None]
    wall[112:126] = _paint(rng, tuple(rng.integers(40, 190, 3)))
    ground = _plain(GROUND, _paint(rng, (112, 112, 114)))
    ground[..., :4] *= np.clip(1 + 0.12 * _noise(rng, GROUND, 2), 0.5, 1.5)[..., None]
    ground[230:] = _paint(rng, (142, 136, 128))
    ground[222:230] = _paint(rng, (176, 174, 168))
    return _weather(rng, wall, 0.07), _weather(rng, ground, 0.07)


_KINDS: dict[str, Callable[[np.random.Generator], tuple[FloatArray, FloatArray]]] = {
    "room": _room,
    "gate": _gate,
    "garden": _garden,
    "passage": _passage,
    "street": _street,
}
_OUTSIDE = frozenset({"gate", "garden", "street"})


@lru_cache(maxsize=32)
def scene(seed: int, kind: str, place: int) -> Scene:
    """Paint the place ``place`` of a world; the same for every camera that looks at it."""
    rng = generator(seed, "scene", place)
    wall, ground = _KINDS[kind](rng)
    wall, ground = (cv2.GaussianBlur(texture, (0, 0), spread) for texture, spread in ((wall, 1.6), (ground, 1.2)))
    outside = kind in _OUTSIDE
    sun = np.array([rng.uniform(0.25, 0.9) * rng.choice([-1, 1]), rng.uniform(0.7, 1.3), rng.uniform(-0.9, 0.1)])
    sunny = float(rng.uniform(0.35, 1.0)) if outside else 0.45
    strength = 0.85 * sunny
    return Scene(
        wall=np.ascontiguousarray(wall, np.float32),
        ground=np.ascontiguousarray(ground, np.float32),
        wall_distance=float(rng.uniform(3.2, 5.0) if outside else rng.uniform(1.8, 3.2)),
        sun=(sun / np.linalg.norm(sun)).astype(np.float32),
        sun_colour=(strength * np.array([1.0, 0.94, 0.84])).astype(np.float32),
        sky_colour=((0.62 - 0.22 * sunny) * np.array([0.94, 0.98, 1.06] if outside else [1.02, 1.0, 0.95])).astype(
            np.float32
        ),
        air=float(rng.uniform(0.16, 0.26)),
    )
