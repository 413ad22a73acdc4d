"""What a camera makes of the light: things in the way, optics, motion, exposure, noise, tone curve."""

from __future__ import annotations

import cv2
import numpy as np

from visir.core.seeds import generator
from visir.core.types import ByteArray, FloatArray
from visir.twin.cameras import Camera, Spectrum
from visir.twin.people import linear
from visir.twin.pose import Sighting
from visir.twin.scenes import Scene
from visir.twin.spectra import CHANNEL

OCCLUDED = 0.10  # share of pictures with something in front of the person


def _mask(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """(h, w) cover of a post, a rail, a bush or a passer-by's edge."""
    rows = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    columns = (np.arange(width, dtype=np.float32)[None] + 0.5) / width
    kind, side = rng.integers(4), float(rng.choice([-1, 1]))
    soft = 1.2 / width
    if kind == 0:
        inside = rng.uniform(0.04, 0.09) - np.abs(columns - rng.uniform(0.15, 0.85)) + 0 * rows
    elif kind == 1:
        inside = 0.5 * (rows - rng.uniform(0.74, 0.88)) + 0 * columns
    elif kind == 2:
        ragged = cv2.resize(
            rng.standard_normal((8, 6)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        centre = 0.5 + side * rng.uniform(0.25, 0.55)
        inside = 0.30 - np.hypot(columns - centre, 1.5 * (rows - 1.0)) + 0.05 * ragged
    else:
        edge = 0.5 + side * rng.uniform(0.36, 0.46)
        head = 0.10 * np.clip((rows - rng.uniform(0.05, 0.2)) * 9, 0, 1)
        inside = side * (columns - edge) + head - 0.10
    return np.asarray(np.clip(0.5 + inside / soft, 0, 1), np.float32)


def occlude(seed: int, seen: Sighting, light: FloatArray, scene: Scene, spectrum: Spectrum) -> FloatArray:
    """``light`` (h, w, c) with, now and then, something in the way; the same thing in every spectrum."""
    rng = generator(seed, "occlusion", *seen.step)
    if rng.random() > OCCLUDED:
        return light
    first, channels = CHANNEL[spectrum]
    tone = rng.uniform(45, 130) + rng.normal(0, 9, 3)
    paint = np.array([*linear((tone[0], tone[1], tone[2])), rng.uniform(0.1, 0.6), scene.air + 0.05], np.float32)
    cover = _mask(rng, *light.shape[:2])[..., None]
    level = 1.0 if spectrum == "thermal" else 0.6
    return light * (1 - cover) + cover * level * paint[first : first + channels]


def _smear(rng: np.random.Generator, light: FloatArray) -> FloatArray:
    """Motion blur, mostly sideways, in about one picture of seven."""
    if rng.random() > 0.15:
        return light
    length = 1 + 2 * max(1, round(light.shape[0] / 200))
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1.0 / length
    turn = cv2.getRotationMatrix2D((length // 2, length // 2), float(rng.normal(0, 15)), 1.0)
    kernel = cv2.warpAffine(kernel, turn, (length, length))
    blurred = cv2.filter2D(light, -1, kernel / max(float(kernel.sum()), 1e-6), borderType=cv2.BORDER_REPLICATE)
    smeared: FloatArray = np.asarray(blurred, np.float32).reshape(light.shape)
    return smeared


def _blur(light: FloatArray, spread: float) -> FloatArray:
    blurred = np.asarray(cv2.GaussianBlur(light, (0, 0), spread, borderType=cv2.BORDER_REPLICATE), np.float32)
    return blurred.reshape(light.shape)  # OpenCV drops a last axis of one


def _tone(values: FloatArray, gamma: float) -> FloatArray:
    """The sRGB curve, bent by ``gamma``; highlights roll off instead of clipping hard."""
    soft = np.where(values > 0.7, 0.7 + 0.3 * np.tanh((values - 0.7) / 0.3), values)
    return np.asarray(np.clip(soft, 0.0, 1.0) ** (gamma / 2.2), np.float32)


def _visible(rng: np.random.Generator, light: FloatArray, camera: Camera) -> FloatArray:
    mean = max(float(light.mean()), 1e-4)
    exposure = camera.gain * (0.20 / mean) ** 0.6 * float(np.exp(rng.normal(0, 0.09)))
    values = _tone(light * (np.array(camera.cast, np.float32) * np.float32(exposure)), camera.gamma)
    return values + np.float32(camera.noise) * rng.standard_normal(light.shape, np.float32)


def _near(rng: np.random.Generator, light: FloatArray, camera: Camera) -> FloatArray:
    height, width = light.shape[:2]
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None]
    centre = rng.normal(0, 0.25, 2).astype(np.float32)
    vignette = 1.0 - 0.22 * ((rows - centre[0]) ** 2 + 0.6 * (columns - centre[1]) ** 2)
    exposure = camera.gain * float(np.exp(rng.normal(0, 0.13))) * 0.85
    values = _tone(np.maximum(light[..., 0] * vignette, 0) * np.float32(exposure), camera.gamma * 1.15)
    noise = rng.standard_normal((height, width), np.float32)
    shot = np.float32(camera.noise) * (1.0 + 0.8 * (1.0 - values))
    return (values + shot * noise)[..., None]


def _thermal(rng: np.random.Generator, warmth: FloatArray, camera: Camera) -> FloatArray:
    height, width = warmth.shape[:2]
    small = cv2.resize(warmth, (max(8, int(width * 0.6)), max(16, int(height * 0.6))), interpolation=cv2.INTER_AREA)
    small = small + 0.010 * rng.standard_normal(small.shape, np.float32)
    values = cv2.GaussianBlur(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), (0, 0), height / 170)
    low, span = float(rng.normal(0.05, 0.025)), float(rng.normal(1.0, 0.07))
    grain = 0.006 * rng.standard_normal((height, width), np.float32)
    stripes = 0.004 * rng.standard_normal((1, width), np.float32)
    levels: FloatArray = np.asarray((values - low) * np.float32(0.95 / span) + grain + stripes, np.float32)
    return levels[..., None]


def develop(
    seed: int, seen: Sighting, light: FloatArray, camera: Camera, spectrum: Spectrum, optics: Spectrum
) -> ByteArray:
    """Light at the lens to (h, w, 3) uint8; one-channel spectra have three equal channels.

    Exposure, noise and tone are those of the sensor for ``spectrum``. Motion blur and sharpness belong to the lens and
    the moment: they are those that a picture taken in ``optics`` has.
    """
    rng = generator(seed, f"capture {optics}", *seen.step)
    light = _smear(rng, light)
    spread = camera.blur * light.shape[0] / 128 * float(rng.uniform(0.8, 1.5))
    light = _blur(light, spread)
    if spectrum != optics:
        rng = generator(seed, f"capture {spectrum} beside {optics}", *seen.step)
    values = {"visible": _visible, "near-infrared": _near, "thermal": _thermal}[spectrum](rng, light, camera)
    pixels = np.clip(values * 255.0 + 0.5, 0, 255).astype(np.uint8)
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
