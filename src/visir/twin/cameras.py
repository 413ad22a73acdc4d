"""The cameras of each layout: where they hang, which spectra they see, and how they distort what they see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from visir.core.errors import ConfigError, nearest
from visir.core.seeds import generator

Spectrum = Literal["visible", "near-infrared", "thermal"]
Layout = Literal["sysu_mm01", "regdb", "llcm"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes:
        number: as in the layout's folder names. spectra: what it records.
        kind, place: of the scene; cameras with the same place stand in the same scene.
        height, distance: metres, from the ground and from the person.
        aside: metres by which it stands left or right of straight ahead.
        cast: factors on red, green and blue. gain: on exposure. gamma: of its tone curve, 1 is sRGB.
        noise: deviation at mid grey, share of full scale. blur: of the optics, in pixels at 128 rows.
        quality: of its JPEG files.
    """

    number: int
    spectra: tuple[Spectrum, ...]
    kind: str
    place: int
    height: float
    distance: float
    aside: float
    cast: tuple[float, float, float]
    gain: float
    gamma: float
    noise: float
    blur: float
    quality: int


_PLACES: dict[Layout, tuple[tuple[str, int, tuple[Spectrum, ...]], ...]] = {
    "sysu_mm01": (
        ("room", 1, ("visible",)),
        ("room", 2, ("visible",)),
        ("room", 2, ("near-infrared",)),
        ("gate", 4, ("visible",)),
        ("garden", 5, ("visible",)),
        ("passage", 6, ("near-infrared",)),
    ),
    "regdb": (("street", 1, ("visible", "thermal")),),
    "llcm": tuple(
        (kind, 11 + number, ("visible", "near-infrared"))
        for number, kind in enumerate(
            ("gate", "passage", "garden", "street", "room", "passage", "gate", "garden", "street")
        )
    ),
}


def check_layout(layout: str) -> Layout:
    """``layout`` if it is one of the three; a ConfigError names the nearest otherwise."""
    for known in LAYOUTS:
        if layout == known:
            return known
    raise ConfigError(f"layout: no twin of {layout!r}. {nearest(layout, LAYOUTS)}")


def cameras(seed: int, layout: Layout) -> dict[int, Camera]:
    """The cameras of a world by number.

    >>> sorted(cameras(0, "sysu_mm01"))
    [1, 2, 3, 4, 5, 6]
    """
    return {number: _camera(seed, layout, number) for number in range(1, len(_PLACES[layout]) + 1)}


def _camera(seed: int, layout: Layout, number: int) -> Camera:
    kind, place, spectra = _PLACES[layout][number - 1]
    rng = generator(seed, f"camera {layout}", number)
    cast = np.exp(rng.normal(0, 0.05, 3))
    cast = cast / cast.mean()
    high = (4.2, 5.2) if layout == "regdb" else (2.0, 3.1)
    return Camera(
        number=number,
        spectra=spectra,
        kind=kind,
        place=place,
        height=float(rng.uniform(*high)),
        distance=float(rng.uniform(5.0, 8.0) + (3.0 if layout == "regdb" else 0.0)),
        aside=float(rng.uniform(-1.2, 1.2)),
        cast=(float(cast[0]), float(cast[1]), float(cast[2])),
        gain=float(np.exp(rng.normal(0.0, 0.14))),
        gamma=float(rng.uniform(0.9, 1.12)),
        noise=float(rng.uniform(0.008, 0.022)),
        blur=float(rng.uniform(0.25, 0.6)),
        quality=int(rng.integers(78, 95)),
    )
