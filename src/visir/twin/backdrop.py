"""The place behind a person, seen through a camera's window: wall, ground, shadows, and the light of a spectrum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from visir.core.types import FloatArray
from visir.twin.cameras import Spectrum
from visir.twin.compiled import compiled
from visir.twin.figure import Figure
from visir.twin.people import Slot
from visir.twin.render import View
from visir.twin.scenes import TEXEL, WALL, Scene

MIDDLE = WALL[1] / 2


@dataclass(frozen=True, eq=False)
class Light:
    """The light of one picture.

    Attributes:
        towards: (3,) unit vector to the main light in world axes.
        numbers: (16,) float32 for the kernels: main light and up in camera axes, air, main light and sky by
            channel, and how squarely the main light meets the ground and the wall.
    """

    towards: FloatArray
    numbers: FloatArray

    @staticmethod
    def of(scene: Scene, view: View, spectrum: Spectrum) -> Light:
        """Sun and sky for the visible; a lamp beside the lens and a little stray light for the near-infrared."""
        if spectrum == "near-infrared":
            lamp = view.position + np.array([0.25, 0.35, 0.0], np.float32) - np.array([0, 1.0, 0], np.float32)
            towards = (lamp / np.linalg.norm(lamp)).astype(np.float32)
            main, sky = np.full(3, 1.25, np.float32), np.full(3, 0.10, np.float32)
            squarely = (0.45, 0.95)
        else:
            towards, main, sky = scene.sun, scene.sun_colour, scene.sky_colour
            squarely = (max(float(towards[1]), 0.0), max(-float(towards[2]), 0.0) * 0.8)
        up = np.array([0, 1, 0], np.float32)
        directions = (view.axes @ towards, view.axes @ up)
        numbers = np.concatenate([*directions, [scene.air], main, sky, [0.0], squarely])
        return Light(towards, numbers.astype(np.float32))


@compiled
def _textured(texture: FloatArray, column: float, row: float, channel: int) -> float:
    """Bilinear; mirrored beyond the left and right edges, held beyond the upper and lower ones."""
    height, width = texture.shape[0], texture.shape[1]
    column = abs(column) % (2.0 * (width - 1))
    if column > width - 1:
        column = 2.0 * (width - 1) - column
    row = min(max(row, 0.0), height - 1.001)
    r, c = int(row), min(int(column), width - 2)
    fr, fc = row - r, column - c
    above = texture[r, c, channel] * (1 - fc) + texture[r, c + 1, channel] * fc
    below = texture[r + 1, c, channel] * (1 - fc) + texture[r + 1, c + 1, channel] * fc
    return float(above * (1 - fr) + below * fr)


@compiled
def _ground_shade(shadows: FloatArray, gx: float, gz: float) -> tuple[float, float]:
    """How much of the main light and of the sky a point of the ground gets, given the solids' shadows on it."""
    light, least = 1.0, 1e9
    for i in range(shadows.shape[0]):
        dx, dz = shadows[i, 2], shadows[i, 3]
        share = ((gx - shadows[i, 0]) * dx + (gz - shadows[i, 1]) * dz) * shadows[i, 4]
        share = min(max(share, 0.0), 1.0)
        ox, oz = gx - shadows[i, 0] - share * dx, gz - shadows[i, 1] - share * dz
        away = math.sqrt(ox * ox + oz * oz) - shadows[i, 5]
        soft = shadows[i, 6]
        light = min(light, min(max(0.5 + 0.5 * away / soft, 0.0), 1.0))
        if shadows[i, 7] > 0.5:
            least = min(least, max(away, 0.0))
    return light, 1.0 - 0.62 * math.exp(-least / 0.10)


@compiled
def _background(
    wall: FloatArray,
    ground: FloatArray,
    geometry: FloatArray,
    axes: FloatArray,
    window: tuple[float, float, float, float],
    shadows: FloatArray,
    lighting: FloatArray,
    first_channel: int,
    channels: int,
    out: FloatArray,
) -> None:
    """The place without the person but with her shadow: (h, w, channels)."""
    height, width = out.shape[0], out.shape[1]
    left, right, bottom, top = window
    for r in range(height):
        y = top - (r + 0.5) * (top - bottom) / height
        for c in range(width):
            x = left + (c + 0.5) * (right - left) / width
            wx = axes[0, 0] * x + axes[1, 0] * y + axes[2, 0]
            wy = axes[0, 1] * x + axes[1, 1] * y + axes[2, 1]
            wz = axes[0, 2] * x + axes[1, 2] * y + axes[2, 2]
            reach = (geometry[3] - geometry[2]) / max(wz, 1e-3)
            light, sky, falloff = 1.0, 1.0, 1.0
            floor = geometry[1] + reach * wy < 0
            if floor:
                reach = geometry[1] / -wy
                gx, gz = geometry[0] + reach * wx, geometry[2] + reach * wz
                light, sky = _ground_shade(shadows, gx, gz)
                sky *= 1.0 - 0.35 * math.exp((gz - geometry[3]) / 0.25)
                column, row = (gx + geometry[4]) / TEXEL + MIDDLE, (gz + geometry[5] + 3.0) / TEXEL
                lambert, up = lighting[14], 1.0
            else:
                gx, gy = geometry[0] + reach * wx, geometry[1] + reach * wy
                column, row = (gx + geometry[4]) / TEXEL + MIDDLE, gy / TEXEL
                lambert, up = lighting[15], 0.62
                sky = 1.0 - 0.3 * math.exp(-gy / 0.15)
            if first_channel == 3:  # the lamp sits on the camera
                falloff = (geometry[6] / (reach * math.sqrt(x * x + y * y + 1.0))) ** 1.6
            for k in range(channels):
                source = ground if floor else wall
                reflectance = _textured(source, column, row, first_channel + k)
                if first_channel == 4:
                    out[r, c, k] = lighting[6] + (1.0 - lighting[6]) * reflectance + (0.02 if floor else 0.0)
                    continue
                sent = light * lambert * lighting[7 + k] + sky * up * lighting[10 + k]
                out[r, c, k] = reflectance * sent * falloff


def _shadows(table: FloatArray, view: View, towards: FloatArray, figure: Figure) -> FloatArray:
    """(n, 8) float32: the solids' shadows laid on the ground; columns as `_ground_shade` reads them."""
    box = figure.box == 1
    ends = np.where(box[:, None], table[:, 0:3], table[:, 0:3] + table[:, 3:6])
    start, end = (points @ view.axes + view.position for points in (table[:, 0:3], ends))
    slope = towards / max(float(towards[1]), 0.15)
    a, b = (points[:, [0, 2]] - points[:, 1:2] * slope[[0, 2]] for points in (start, end))
    along = b - a
    out = np.zeros((len(table), 8), np.float32)
    out[:, 0:2], out[:, 2:4] = a, along
    out[:, 4] = 1.0 / np.maximum((along * along).sum(1), 1e-6)
    out[:, 5] = np.where(box, 0.12, 0.5 * (table[:, 10] + table[:, 11]) * np.sqrt(figure.stretch))
    out[:, 6] = 0.02 + 0.09 * np.maximum(0.5 * (start[:, 1] + end[:, 1]), 0)
    out[:, 7] = (figure.slot == Slot.SHOES) & (np.minimum(start[:, 1], end[:, 1]) < 0.09)
    return out


def backdrop(
    table: FloatArray,
    view: View,
    scene: Scene,
    light: Light,
    spot: tuple[float, float],
    figure: Figure,
    shape: tuple[int, int, int],
    first_channel: int,
) -> FloatArray:
    """(h, w, channels) float32: the place as it reaches the lens when nobody is in front of it but her shadow falls."""
    out = np.empty(shape, np.float32)
    wall_at = scene.wall_distance - spot[1]
    far = float(np.linalg.norm(view.position))
    geometry = np.array([*view.position, wall_at, *spot, far], np.float32)
    shadows = _shadows(table, view, light.towards, figure)
    _background(
        scene.wall, scene.ground, geometry, view.axes, view.window, shadows, light.numbers, first_channel, shape[2], out
    )
    return out
