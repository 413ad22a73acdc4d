"""The world at a glance: a sheet of pictures, one column per person, one row per camera and spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visir.core.files import write_bytes
from visir.core.types import ByteArray
from visir.twin.cameras import Layout, Spectrum
from visir.twin.picture import World, encoded, picture

GAP = 2
_ROWS: tuple[tuple[Layout, int, Spectrum], ...] = (
    ("sysu_mm01", 1, "visible"),
    ("sysu_mm01", 2, "visible"),
    ("sysu_mm01", 4, "visible"),
    ("sysu_mm01", 5, "visible"),
    ("sysu_mm01", 3, "near-infrared"),
    ("sysu_mm01", 6, "near-infrared"),
    ("regdb", 1, "visible"),
    ("regdb", 1, "thermal"),
)


def contact_sheet(
    path: Path | str,
    *,
    seed: int = 0,
    identities: Sequence[int] = tuple(range(1, 15)),
    number: int = 1,
    height: int = 128,
    width: int = 64,
) -> Path:
    """Write a PNG: the people of ``identities`` in columns; rows are SYSU-MM01's cameras 1, 2, 4, 5 (visible), 3 and 6
    (near-infrared), then RegDB's visible and thermal ones.
    """
    rows = []
    for layout, camera, spectrum in _ROWS:
        world = World(seed, layout, height, width)
        rows.append([picture(world, identity, camera, number, spectrum=spectrum) for identity in identities])
    path = Path(path)
    write_bytes(path, encoded(_tiled(rows), "png"))
    return path


def _tiled(rows: Sequence[Sequence[ByteArray]]) -> ByteArray:
    height, width = rows[0][0].shape[:2]
    out = np.full((len(rows) * (height + GAP) - GAP, len(rows[0]) * (width + GAP) - GAP, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = r * (height + GAP), c * (width + GAP)
            out[top : top + height, left : left + width] = image
    return out
