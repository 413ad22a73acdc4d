"""Data sets of a few pixels in the real layouts, written in milliseconds: for tests of readers and of broken input."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image


@functools.cache
def encoded(suffix: str) -> bytes:
    """A picture of 4 x 8 pixels in the format that the suffix names."""
    out = io.BytesIO()
    Image.new("RGB", (4, 8), (90, 60, 30)).save(out, format=Image.registered_extensions()[suffix])
    return out.getvalue()


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(path.suffix))
    return path


def regdb_partition(people: int, draw: int) -> tuple[list[int], list[int]]:
    """Training and test people of a draw, in no special order."""
    order = np.random.default_rng(draw).permutation(np.arange(1, people + 1)).tolist()
    return order[: people // 2], order[people // 2 :]


def write_regdb(root: Path, *, people: int = 8, images: int = 2, suffix: str = ".bmp") -> Path:
    """Visible/<id>, Thermal/<id>, the forty lists; labels count from 0 inside each list."""
    for top, letter in (("Visible", "v"), ("Thermal", "t")):
        for person in range(1, people + 1):
            for number in range(images):
                picture(root / top / str(person) / f"male_{letter}_{number:05d}_{person}{suffix}")
    (root / "idx").mkdir()
    for draw in range(1, 11):
        for part, chosen in zip(("train", "test"), regdb_partition(people, draw), strict=True):
            for top in ("Visible", "Thermal"):
                lines = [
                    f"{path.relative_to(root).as_posix()} {label}"
                    for label, person in enumerate(chosen)
                    for path in sorted((root / top / str(person)).iterdir())
                ]
                (root / "idx" / f"{part}_{top.lower()}_{draw}.txt").write_text("\n".join(lines) + "\n")
    return root


def write_regdb_matrix(path: Path, people: int = 8) -> None:
    train, test = zip(*(regdb_partition(people, draw) for draw in range(1, 11)), strict=True)
    scipy.io.savemat(path, {"TrainIdx": np.array(train, np.uint16), "TestIdx": np.array(test, np.uint16)})


LLCM_TEST = (3, 8, 12)
LLCM_TRAIN = (1, 2, 5, 9, 10)
LLCM_CAMERAS = {"vis": (1, 2, 3, 4, 5, 6, 7, 8, 9), "nir": (1, 2, 4, 5, 6, 7, 8, 9)}


def llcm_images(modality: str, camera: int, person: int) -> int:
    """How many test images a cell has: 0 for some, up to 6."""
    return (3 * person + 5 * camera + (modality == "nir")) % 7


def write_llcm(root: Path) -> Path:
    """vis, nir, test_vis, test_nir, idx; five training and three test people."""
    for modality, cameras in LLCM_CAMERAS.items():
        lines = []
        for label, person in enumerate(LLCM_TRAIN):
            for camera in (1, 4):
                name = f"{modality}/{person:04d}/{person:04d}_c{camera:02d}_s200656_f{camera}_{modality}.jpg"
                picture(root / name)
                lines.append(f"{name} {label}")
        (root / "idx").mkdir(exist_ok=True)
        (root / "idx" / f"train_{modality}.txt").write_text("\n".join(lines) + "\n")
        for camera in cameras:
            (root / f"test_{modality}" / f"cam{camera}").mkdir(parents=True)
            for person in LLCM_TEST:
                for number in range(llcm_images(modality, camera, person)):
                    picture(root / f"test_{modality}" / f"cam{camera}" / f"{person:04d}" / f"f{number}.jpg")
    (root / "idx" / "test_id.txt").write_text(", ".join(map(str, reversed(LLCM_TEST))) + ",\n")
    return root


def write_folder(root: Path, people: Sequence[str] = ("alice", "bob", "carol", "dan"), images: int = 2) -> Path:
    """visible/<identity>/<n>.png and infrared/<identity>/<n>.png."""
    for top in ("visible", "infrared"):
        for person in people:
            for number in range(images):
                picture(root / top / person / f"{number}.png")
    return root
