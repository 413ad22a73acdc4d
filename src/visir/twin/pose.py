"""One moment of a walk: the joints of a person in metres, from gait, phase and mood."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from visir.core.seeds import generator
from visir.core.types import FloatArray
from visir.twin.people import Person


@dataclass(frozen=True)
class Sighting:
    """What differs from one picture of a person by a camera to the next.

    Attributes:
        step: (identity, camera, number), from which every later draw of this picture derives.
        phase: of the walk, radians. heading: radians, 0 faces the camera, positive turns the face to the image's right.
        stride, swing: factors on the person's own. nod, look: of the head, radians. phone: forearm raised, 0 or 1.
        place: (2,) metres by which this picture stands aside of and behind the camera's usual spot.
    """

    step: tuple[int, int, int]
    phase: float
    heading: float
    stride: float
    swing: float
    nod: float
    look: float
    phone: float
    place: tuple[float, float]


def sighting(seed: int, identity: int, camera: int, number: int) -> Sighting:
    """Draw picture ``number`` of ``identity`` in ``camera``.

    A visit has one direction of walking, or two when the person comes back; pictures of it differ by phase and turn.
    """
    visit = generator(seed, "visit", identity, camera)
    outward = float(visit.choice([0.0, 0.7, -0.7, 1.35, -1.35, 2.4, -2.4, math.pi], p=_HEADINGS))
    back = outward + math.pi * float(visit.random() < 0.4)
    still = visit.random() < 0.12
    rng = generator(seed, "sighting", identity, camera, number)
    return Sighting(
        step=(identity, camera, number),
        phase=float(rng.uniform(0, 2 * math.pi)),
        heading=(outward if rng.random() < 0.65 else back) + float(rng.normal(0, 0.25)),
        stride=0.12 if still else float(rng.uniform(0.75, 1.05)),
        swing=0.2 if still else float(rng.uniform(0.7, 1.1)),
        nod=float(rng.normal(0.08, 0.10)),
        look=float(rng.normal(0.0, 0.25)),
        phone=float(rng.random() < 0.06),
        place=(float(rng.uniform(-1.6, 1.6)), float(rng.uniform(-0.6, 0.6))),
    )


_HEADINGS = [0.22, 0.14, 0.14, 0.13, 0.13, 0.07, 0.07, 0.10]

Joints = dict[str, FloatArray]


def _vector(x: float, y: float, z: float) -> FloatArray:
    return np.array([x, y, z], np.float32)


def _turned(vector: FloatArray, angle: float) -> FloatArray:
    """``vector`` turned about the vertical."""
    cos, sin = math.cos(angle), math.sin(angle)
    x, y, z = (float(part) for part in vector)
    return _vector(cos * x + sin * z, y, -sin * x + cos * z)


def _leg(joints: Joints, person: Person, side: int, phase: float, stride: float) -> None:
    """Hip, knee, ankle and toe of one leg: swings forward with a bent knee, bears the body with a straight one."""
    body, name = person.body, "right" if side > 0 else "left"
    height = body.height
    hip_height = body.leg * height
    thigh, shin = 0.485 * hip_height, 0.435 * hip_height
    forward = stride * 0.46 * math.sin(phase) + 0.04 * stride
    bend = 0.05 + stride * (0.80 * max(0.0, math.cos(phase + 0.35)) ** 1.6 + 0.08)
    outward = side * (0.012 + body.knees)
    hip = joints["pelvis"] + _vector(side * 0.048 * height * body.hips, 0, 0)
    knee = hip + thigh * _vector(outward, -math.cos(forward), math.sin(forward))
    lower = forward - bend
    ankle = knee + shin * _vector(-0.6 * outward, -math.cos(lower), math.sin(lower))
    pitch = min(max(-lower * 0.75 - 0.08, -0.25), 0.75) if stride > 0.3 else 0.0  # toes point down behind the body
    foot = 0.090 * height * _vector(side * 0.16, -math.sin(pitch), math.cos(pitch))
    heel = 0.040 * height * _vector(0.0, math.sin(pitch), -math.cos(pitch))
    joints[f"hip {name}"], joints[f"knee {name}"], joints[f"ankle {name}"] = hip, knee, ankle
    down = 0.030 * height * _vector(0, -math.cos(pitch), -math.sin(pitch))
    joints[f"heel {name}"], joints[f"toe {name}"] = ankle + down + heel, ankle + down + foot


def _arm(joints: Joints, person: Person, side: int, phase: float, seen: Sighting) -> None:
    body, name = person.body, "right" if side > 0 else "left"
    height = body.height
    swing = body.swing * seen.swing * (0.45 if side > 0 and person.clothes.bag in ("handbag", "tote") else 1.0)
    forward = 0.38 * swing * math.sin(phase) - 0.02
    bend = 0.22 + 0.30 * swing * max(0.0, math.sin(phase))
    if seen.phone and side < 0:
        forward, bend = 0.45, 1.75
    spread = 0.13 + 0.18 * (body.build - 1.0) + 1.6 * person.clothes.ease
    twist = 0.10 * seen.stride * math.sin(phase)
    shoulder = joints["chest"] + _turned(
        _vector(side * 0.099 * height * body.shoulders * body.build**0.25, -0.008 * height, 0), side * twist
    )
    upper, lower = 0.176 * height, 0.148 * height
    elbow = shoulder + upper * _vector(
        side * math.sin(spread), -math.cos(spread) * math.cos(forward), math.sin(forward)
    )
    inward = side * (0.10 - 0.30 * seen.phone)
    wrist = elbow + lower * _vector(inward * 0.4, -math.cos(forward + bend), math.sin(forward + bend))
    joints[f"shoulder {name}"], joints[f"elbow {name}"], joints[f"wrist {name}"] = shoulder, elbow, wrist
    joints[f"hand {name}"] = wrist + (0.42 * lower / np.linalg.norm(wrist - elbow)) * (wrist - elbow)


def joints(person: Person, seen: Sighting) -> Joints:
    """Joints of ``person`` at one moment.

    Returns:
        name -> (3,) float32 metres in the person's frame: x to the right, y up, z forward, the lowest sole at 0.
        ``up``, ``side`` and ``ahead`` are the head's unit axes.
    """
    body = person.body
    height = body.height
    skirt = {"skirt": 0.72, "long skirt": 0.55}.get(person.clothes.bottom, 1.0)
    stride = body.stride * seen.stride * skirt
    lean = body.lean + 0.03 * stride
    found: Joints = {"pelvis": _vector(0, body.leg * height, 0)}
    up = _vector(0, math.cos(lean), math.sin(lean))
    found["waist"] = found["pelvis"] + 0.105 * height * up
    found["chest"] = found["pelvis"] + (0.796 - body.leg) * height * up
    found["neck"] = found["chest"] + 0.034 * height * up
    for side in (1, -1):
        phase = seen.phase + (0.0 if side > 0 else math.pi)
        _leg(found, person, side, phase, stride)
        _arm(found, person, side, phase + math.pi, seen)
    nod = lean + seen.nod + 0.25 * seen.phone
    found["up"] = _turned(_vector(0, math.cos(nod), math.sin(nod)), seen.look)
    found["ahead"] = _turned(_vector(0, -math.sin(nod), math.cos(nod)), seen.look)
    found["side"] = _turned(_vector(1, 0, 0), seen.look)
    found["skull"] = found["neck"] + (0.100 * body.head) * height * up + 0.012 * height * found["ahead"]
    ground = min(float(found[name][1]) for name in ("heel left", "heel right", "toe left", "toe right"))
    lift = _vector(0, 0.012 * height - ground, 0)
    return {name: place if name in ("up", "ahead", "side") else place + lift for name, place in found.items()}
