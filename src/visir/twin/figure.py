"""A dressed person as a few dozen smooth solids: tapered limbs, garments with hems, hair, hats and bags."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypedDict

import numpy as np

from visir.core.types import FloatArray, IntArray
from visir.twin.people import Person, Slot
from visir.twin.pose import Joints

LATERAL = np.array([1, 0, 0], np.float32)
FORWARD = np.array([0, 0, 1], np.float32)
UP = np.array([0, 1, 0], np.float32)
NOWHERE = np.zeros(3, np.float32)


class Detail(IntEnum):
    """What the shading paints on a solid beside its material."""

    NONE = 0
    FACE = 1
    TORSO = 2
    SHOE = 3
    HAIR = 4
    BAG = 5
    YOKE = 6
    CUFF = 7


@dataclass(frozen=True, eq=False)
class Figure:
    """n solids as columns; lengths in metres.

    Attributes:
        start, end: (n, 3) axis of a tapered capsule; of a box the centre and a unit axis.
        across: (n, 3) direction in which a solid is stretched by ``stretch`` (n,) >= 1.
        size: (n, 4) radius at start, radius at end, swelling in between, 0; of a box half sizes along across, axis and
            their normal, and the rounding.
        cut: (n, 4) half-space n.p < c that is kept, all 0 where nothing is cut.
        group: (n,) int64, ascending: solids of a group melt into each other over ``melt`` (n,) metres.
        slot, detail: (n,) int64. box: (n,) int64, 1 for a rounded box. origin: (n,) height of ``start`` in the pattern.
        heat: (n,) share by which a solid is colder than its material.
    """

    start: FloatArray
    end: FloatArray
    across: FloatArray
    stretch: FloatArray
    size: FloatArray
    cut: FloatArray
    melt: FloatArray
    origin: FloatArray
    heat: FloatArray
    group: IntArray
    slot: IntArray
    detail: IntArray
    box: IntArray


class _Shape(TypedDict, total=False):
    """Options that several solids share."""

    across: FloatArray
    stretch: float
    detail: Detail


class _Builder:
    """Collects solids; a group is a run of solids that melt together."""

    def __init__(self) -> None:
        self.rows: list[tuple[object, ...]] = []
        self._group, self._melt = -1, 0.0

    def group(self, melt: float) -> None:
        self._group += 1
        self._melt = melt

    def add(
        self,
        slot: Slot,
        start: FloatArray,
        end: FloatArray,
        radii: tuple[float, float] | tuple[float, float, float] | tuple[float, float, float, float],
        *,
        across: FloatArray = LATERAL,
        stretch: float = 1.0,
        cut: tuple[FloatArray, FloatArray] | None = None,
        detail: Detail = Detail.NONE,
        origin: float = 0.0,
        heat: float = 0.0,
        box: bool = False,
    ) -> None:
        """``cut``: a point and the direction, away from the kept side, of the plane that ends the solid."""
        normal = NOWHERE if cut is None else cut[1] / np.linalg.norm(cut[1])
        offset = 0.0 if cut is None else float(normal @ cut[0])
        size = (*radii, *(0.0,) * (4 - len(radii)))
        numbers = (stretch, self._melt, origin, heat)
        kinds = (self._group, int(slot), int(detail), int(box))
        self.rows.append((start, end, across, size, (*normal, offset), numbers, kinds))

    def figure(self) -> Figure:
        start, end, across, size, cut, numbers, kinds = zip(*self.rows, strict=True)
        stacked = np.array(numbers, np.float32)
        whole = np.array(kinds, np.int64)
        return Figure(
            np.array(start, np.float32),
            np.array(end, np.float32),
            np.array(across, np.float32),
            stacked[:, 0],
            np.array(size, np.float32),
            np.array(cut, np.float32),
            *stacked[:, 1:].T,
            *whole.T,
        )


def _between(a: FloatArray, b: FloatArray, share: float) -> FloatArray:
    return a + np.float32(share) * (b - a)


def _head(build: _Builder, person: Person, at: Joints) -> None:
    size = person.body.height * person.body.head
    up, ahead, skull = at["up"], at["ahead"], at["skull"]
    build.group(0.022 * size)
    jaw = skull - 0.036 * size * up + 0.014 * size * ahead
    crown = skull + 0.020 * size * up - 0.006 * size * ahead
    build.add(
        Slot.SKIN,
        jaw,
        crown,
        (0.028 * size, 0.043 * size, 0.003 * size),
        across=ahead,
        stretch=1.22,
        detail=Detail.FACE,
    )
    nose = skull + 0.057 * size * ahead - 0.012 * size * up
    build.add(Slot.SKIN, nose + 0.016 * size * up - 0.004 * size * ahead, nose, (0.004 * size, 0.0065 * size))
    girth = 0.031 * person.body.height * person.body.build**0.5
    build.add(Slot.SKIN, at["neck"] - 0.02 * size * UP, skull - 0.03 * size * up, (1.15 * girth, 0.95 * girth))


_HAIR: dict[str, tuple[float, float]] = {
    # thickness of the cap over the skull, and how far down the nape it reaches, in head sizes
    "cropped": (0.005, -0.020),
    "short": (0.011, -0.035),
    "full": (0.019, -0.045),
    "afro": (0.046, -0.050),
    "bob": (0.014, -0.072),
    "long": (0.013, -0.060),
    "ponytail": (0.009, -0.040),
    "bun": (0.009, -0.040),
}


def _hair(build: _Builder, person: Person, at: Joints) -> None:
    style, size = person.clothes.hair, person.body.height * person.body.head
    if style == "bald" or person.clothes.hat == "hood":
        return
    up, ahead, side, skull = at["up"], at["ahead"], at["side"], at["skull"]
    thick, nape = _HAIR[style]
    crown = skull + 0.022 * size * up - 0.008 * size * ahead
    hairline = crown + size * (0.016 * up + 0.028 * ahead)
    face = (hairline, ahead - 0.75 * up)
    build.group(0.02 * size)
    low = skull + nape * size * up - 0.016 * size * ahead
    radius = (0.043 + thick) * size
    shape: _Shape = {"across": ahead, "stretch": 1.18, "detail": Detail.HAIR}
    build.add(Slot.HAIR, low, crown, (radius * 0.86, radius), cut=face, **shape)
    behind = skull - 0.058 * size * ahead
    if style == "bun":
        bun = behind + 0.050 * size * up
        build.add(Slot.HAIR, bun, bun + 0.006 * size * up, (0.026 * size, 0.026 * size), detail=Detail.HAIR)
    elif style == "ponytail":
        knot, tip = behind + 0.022 * size * up - 0.014 * size * ahead, behind - 0.115 * size * UP - 0.02 * size * ahead
        build.add(Slot.HAIR, knot, tip, (0.015 * size, 0.010 * size, 0.012 * size), detail=Detail.HAIR)
    elif style in ("bob", "long"):
        tip = -0.075 if style == "bob" else -0.165
        ears = (skull + 0.020 * size * ahead, ahead - 0.1 * up)
        drop = 0.5 * tip * size
        end = skull - 0.040 * size * ahead + drop * UP + drop * up
        fall = (0.050 * size, 0.036 * size if style == "long" else 0.047 * size)
        root, wide = skull - 0.016 * size * ahead, 1.12
        build.add(Slot.HAIR, root, end, fall, across=side, stretch=wide, cut=ears, detail=Detail.HAIR)


def _hat(build: _Builder, person: Person, at: Joints) -> None:
    kind, size = person.clothes.hat, person.body.height * person.body.head
    if kind == "none":
        return
    up, ahead, side, skull = at["up"], at["ahead"], at["side"], at["skull"]
    crown = skull + 0.022 * size * up - 0.008 * size * ahead
    shape: _Shape = {"across": ahead, "stretch": 1.2}
    if kind == "hood":
        build.group(0.03 * size)
        low = at["neck"] + 0.01 * size * UP - 0.03 * size * ahead
        opening = (skull + 0.030 * size * ahead, ahead - 0.12 * up)
        build.add(Slot.HAT, low, crown, (0.062 * size, 0.064 * size), cut=opening, **shape)
        return
    hairy = 0.008 if person.clothes.hair in ("full", "bob", "long", "afro") else 0.002
    radius = (0.050 + hairy) * size
    brow = crown - 0.010 * size * up
    build.group(0.006 * size)
    tall = crown + (0.022 if kind == "beanie" else 0.006) * size * up
    build.add(Slot.HAT, brow, tall, (radius, radius * 0.97), cut=(brow, -up + 0.15 * ahead), **shape)
    if kind == "cap":
        peak = brow + 0.078 * size * ahead - 0.004 * size * up
        build.add(Slot.HAT, peak, up, (0.036 * size, 0.001, 0.030 * size, 0.007 * size), across=side, box=True)
    elif kind == "bucket":
        rim = brow - 0.034 * size * up
        build.add(Slot.HAT, brow, rim, (radius, radius * 1.42), cut=(rim, -up), **shape)
    elif kind == "beanie":
        fold = brow + 0.010 * size * up
        build.add(Slot.HAT, fold, fold + 0.012 * size * up, (radius * 1.05, radius * 1.05), cut=(brow, -up), **shape)


def _torso(build: _Builder, person: Person, at: Joints) -> None:
    body, worn = person.body, person.clothes
    height, girth, ease = body.height, body.build, worn.ease
    pelvis, waist, chest = at["pelvis"], at["waist"], at["chest"]
    hem_height = worn.hem * height
    low = pelvis + np.array([0, hem_height - float(pelvis[1]), 0], np.float32)
    hem = (low, -UP)
    build.group(0.055)
    hip = 0.064 * height * girth**0.8 + ease
    middle = 0.055 * height * girth + 0.8 * ease
    top = 0.059 * height * girth**0.7 + ease
    width = 1.46 * (0.5 + 0.5 * body.hips)
    flare = 1.16 if worn.top == "coat" else 1.0
    build.add(Slot.TOP, low, waist, (hip * flare, middle), stretch=width, cut=hem, detail=Detail.TORSO)
    rise = float(np.linalg.norm(waist - low))
    upper = chest - 0.042 * height * UP
    broad = 1.45 * (0.35 + 0.65 * body.shoulders)
    build.add(Slot.TOP, waist, upper, (middle, top), stretch=broad, origin=rise, detail=Detail.TORSO)
    if body.belly > 0.05:
        front = _between(pelvis, waist, 0.75) + (0.030 * height * girth + ease) * FORWARD
        bulge = 0.035 * height * (0.6 + 0.6 * body.belly)
        build.add(
            Slot.TOP,
            front,
            front + 0.03 * UP,
            (bulge, bulge),
            stretch=1.5,
            cut=hem,
            origin=0.6 * rise,
            detail=Detail.TORSO,
        )
    if body.chest:
        front = chest + (0.034 * height * girth**0.7 + ease) * FORWARD - 0.070 * height * UP
        bust = 0.026 * height * (0.8 + 0.4 * body.chest)
        rises = rise + float(np.linalg.norm(front - waist))
        build.add(Slot.TOP, front, front + 0.005 * UP, (bust, bust), stretch=2.0, origin=rises, detail=Detail.TORSO)
    for side in ("left", "right"):
        slope = _between(at["neck"], at[f"shoulder {side}"], 0.12) - 0.012 * height * UP
        round_ = 0.028 * height * girth**0.4 + 0.8 * ease
        build.add(Slot.TOP, slope, at[f"shoulder {side}"], (0.027 * height + ease, round_), detail=Detail.YOKE)
    if worn.collar or worn.top == "sweater":
        tall = {"hoodie": 0.026, "coat": 0.036, "sweater": 0.020}.get(worn.top, 0.028) * height
        ring = 0.036 * height * girth**0.5 + 0.5 * ease
        base = at["neck"] - 0.012 * height * UP
        build.group(0.01)
        wide = (ring * 1.25, ring * (1.3 if worn.top == "hoodie" else 1.05))
        build.add(Slot.TRIM, base, base + tall * UP, wide, cut=(base + tall * UP, UP - 0.25 * FORWARD))


def _arms(build: _Builder, person: Person, at: Joints) -> None:
    body, worn = person.body, person.clothes
    height, girth = body.height, body.build**0.6
    arm = {"shoulder": 0.030, "elbow": 0.023, "wrist": 0.0155}
    upper, elbow_size, wrist_size = (arm[name] * height * girth for name in arm)
    for name in ("left", "right"):
        shoulder, elbow, wrist, hand = (at[f"{joint} {name}"] for joint in ("shoulder", "elbow", "wrist", "hand"))
        build.group(0.02)
        if worn.sleeve < 0.9:
            build.add(Slot.SKIN, shoulder, elbow, (upper, elbow_size, 0.003), heat=0.05)
            build.add(Slot.SKIN, elbow, wrist, (elbow_size, wrist_size, 0.006), heat=0.10)
        palm = _between(wrist, hand, 0.62)
        build.add(Slot.SKIN, wrist, palm, (0.013 * height, 0.015 * height), across=FORWARD, stretch=1.45, heat=0.12)
        fingers = 0.010 * height
        build.add(Slot.SKIN, palm, hand, (fingers, 0.008 * height), across=FORWARD, stretch=1.5, heat=0.20)
        if worn.sleeve <= 0.05:
            continue
        build.group(0.03)
        ease, reach = worn.ease * 0.75, worn.sleeve * 2.0
        stop = _between(shoulder, elbow, min(reach, 1.0))
        size = upper + (elbow_size - upper) * min(reach, 1.0) + ease * 1.15
        short = (stop, elbow - shoulder) if reach < 1.0 else None
        build.add(Slot.TOP, shoulder, stop, (upper + ease, size, 0.002), cut=short)
        if reach > 1.0:
            end = _between(elbow, wrist, reach - 1.0)
            sizes = (elbow_size + ease * 1.1, wrist_size + ease * 1.05, 0.005)
            build.add(Slot.TOP, elbow, end, sizes, cut=(end, wrist - elbow), origin=0.3, heat=0.08, detail=Detail.CUFF)


def _legs(build: _Builder, person: Person, at: Joints) -> None:
    body, worn = person.body, person.clothes
    height, girth, ease = body.height, body.build**0.75, worn.bottom_ease
    pelvis = at["pelvis"]
    skirt = "skirt" in worn.bottom
    hip = 0.057 * height * girth**0.8 + min(ease, 0.012)
    build.group(0.03)
    belt = _between(pelvis, at["waist"], 0.8)
    width = 1.42 * (0.5 + 0.5 * body.hips)
    if not skirt:
        build.add(Slot.BOTTOM, pelvis - 0.02 * UP, belt, (hip, hip * 0.92), stretch=width)
    else:
        end = pelvis + np.array([0, worn.bottom_hem * height - float(pelvis[1]), 0], np.float32)
        build.add(Slot.BOTTOM, belt, pelvis, (hip * 0.9, hip), stretch=width)
        open_ = hip * 1.12 + 1.1 * ease + 0.035 * body.stride
        build.add(Slot.BOTTOM, pelvis, end, (hip, open_, 0.004), stretch=1.28, cut=(end, -UP))
    thigh, knee_size, ankle_size = 0.046 * height * girth, 0.032 * height * girth**0.7, 0.0215 * height
    for name in ("left", "right"):
        hip_joint, knee, ankle = (at[f"{joint} {name}"] for joint in ("hip", "knee", "ankle"))
        seat = hip_joint - 0.012 * height * UP
        leg_length = float(np.linalg.norm(seat - knee) + np.linalg.norm(knee - ankle))
        bare = min(max((worn.bottom_hem * height - 0.04 * height) / leg_length, 0.0), 1.0)  # share of the leg uncovered
        lower = float(np.linalg.norm(knee - ankle)) / leg_length
        if bare > 0.03:
            build.group(0.03)
            if skirt or bare > 0.8 * lower:
                build.add(Slot.SKIN, seat, knee, (thigh, knee_size, 0.004), heat=0.03)
            calf = (knee_size, ankle_size, 0.011 * height * girth)
            build.add(Slot.SKIN, knee, ankle, calf, heat=0.10)
        if skirt:
            continue
        build.group(0.04)
        if bare >= lower:
            end = _between(knee, seat, (bare - lower) / (1 - lower))
            sizes = (thigh + 0.7 * ease, knee_size * 1.15 + ease * 1.1, 0.006)
            build.add(Slot.BOTTOM, seat, end, sizes, cut=(end, knee - seat))
            continue
        build.add(Slot.BOTTOM, seat, knee, (thigh + 0.6 * ease, knee_size + 0.9 * ease, 0.004))
        end = _between(ankle, knee, bare / lower)
        loose = 1.35 if worn.bottom == "wide" else 0.95
        sizes = (
            knee_size + 0.9 * ease,
            ankle_size * 1.12 + ease * loose,
            0.007 * height * girth * (0.4 + 0.2 / (0.2 + 9 * ease)),
        )
        build.add(Slot.BOTTOM, knee, end, sizes, cut=(end, ankle - knee), origin=0.42, heat=0.10)


def _shoes(build: _Builder, person: Person, at: Joints) -> None:
    height, kind = person.body.height, person.clothes.shoes
    for name in ("left", "right"):
        heel, toe, ankle, knee = (at[f"{joint} {name}"] for joint in ("heel", "toe", "ankle", "knee"))
        axis = (toe - heel) / np.linalg.norm(toe - heel)
        flat = np.array([0, -axis[2], axis[1]], np.float32)  # down, square to the foot
        flat = flat if flat[1] < 0 else -flat
        sole = (heel + 0.010 * height * flat, flat)
        build.group(0.03)
        sizes = (0.0205 * height, 0.0175 * height, 0.005 * height)
        build.add(Slot.SHOES, heel, toe, sizes, stretch=1.25, cut=sole, detail=Detail.SHOE)
        if kind == "shoes":
            build.add(Slot.SHOES, heel, ankle, (0.020 * height, 0.019 * height), cut=(ankle, ankle - heel))
            continue
        top = _between(ankle, knee, 0.20 if kind == "boots" else 0.62)
        sizes = (0.026 * height, 0.029 * height if kind == "boots" else 0.037 * height, 0.0)
        build.add(Slot.SHOES, heel + 0.01 * height * UP, top, sizes, cut=(top, knee - ankle))


def _bag(build: _Builder, person: Person, at: Joints) -> None:
    kind, big = person.clothes.bag, person.clothes.bag_size
    height, ease = person.body.height, person.clothes.ease
    up = at["chest"] - at["waist"]
    up = (up / np.linalg.norm(up)).astype(np.float32)
    build.group(0.02)
    if kind == "backpack":
        deep = 0.060 * height * person.body.build**0.7 + ease + 0.075 * big
        centre = _between(at["waist"], at["chest"], 0.52) - deep * FORWARD
        build.add(Slot.BAG, centre, up, (0.085 * big, 0.15 * big, 0.035 * big, 0.055), box=True, detail=Detail.BAG)
        pocket = centre - 0.075 * big * FORWARD - 0.08 * big * up
        build.add(Slot.BAG, pocket, up, (0.065 * big, 0.055 * big, 0.010, 0.030), box=True, detail=Detail.BAG)
    elif kind in ("handbag", "tote"):
        hand = at["hand right"]
        tall = (0.085 if kind == "handbag" else 0.135) * big
        centre = hand - (tall + 0.10) * UP
        build.add(Slot.BAG, centre, UP, (0.020, tall - 0.02, 0.115 * big, 0.022), box=True, detail=Detail.BAG)
        for ahead in (0.055, -0.055):
            build.add(Slot.BAG, hand - 0.01 * UP, centre + tall * UP + ahead * FORWARD, (0.009, 0.009))
    elif kind == "crossbody":
        out = 0.098 * height * person.body.build**0.8 + ease
        centre = at["pelvis"] + np.array([out, 0.01 * height, 0.03], np.float32)
        build.add(Slot.BAG, centre, UP, (0.025, 0.075 * big, 0.10 * big, 0.025), box=True, detail=Detail.BAG)


def figure(person: Person, at: Joints) -> Figure:
    """The solids of ``person`` with the joints ``at``, in the person's frame."""
    build = _Builder()
    for part in (_head, _hair, _hat, _torso, _arms, _legs, _shoes):
        part(build, person, at)
    if person.clothes.bag != "none":
        _bag(build, person, at)
    return build.figure()
