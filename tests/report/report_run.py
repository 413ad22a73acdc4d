"""The parts of a synthetic run: small pictures, features with a known structure, a training log."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from visir.core.types import ImageTable

IDENTITIES, IMAGES = 7, 3
CONFIG = """\
benchmark:
  name: folder
  root: somewhere
  draw: 1
method: dfe
with:
  beta: 1.0
train:
  epochs: 4
seed: 0
published:
  folder-i2v:
    rank1: 48.71
    mAP: 48.59
    source: a table
"""


def write_pictures(root: Path) -> None:
    draw = np.random.default_rng(0)
    for modality in ("visible", "infrared"):
        for identity in range(IDENTITIES):
            folder = root / modality / str(identity)
            folder.mkdir(parents=True)
            for image in range(IMAGES):
                height = int(draw.integers(30, 70))
                pixels = draw.integers(0, 255, (height, 24, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{image}.png")


def clustered(table: ImageTable, *, noise: float, gap: float, seed: int = 0) -> np.ndarray:
    """(n, 16) float32: a centre for each identity, an offset of each modality, noise."""
    draw = np.random.default_rng(seed)
    centres, offsets = draw.normal(size=(IDENTITIES, 16)), draw.normal(size=(2, 16)) * gap
    return (centres[table.identity] + offsets[table.modality] + noise * draw.normal(size=(len(table), 16))).astype(
        np.float32
    )


def write_features(path: Path, features: np.ndarray, table: ImageTable) -> None:
    np.savez(
        path,
        features=features,
        path=np.array(table.paths),
        identity=table.identity,
        camera=table.camera,
        modality=table.modality,
        exclude=table.exclude,
        root=str(table.root),
    )


def log_lines(*, validate: bool = True) -> list[str]:
    lines = []
    for step in range(0, 40, 2):
        losses = {"identity": 30 * 0.9**step, "correlation": 0.5 * 0.95**step}
        rates = {"backbone": 0.01 * 0.1 ** (step // 20), "head": 0.1 * 0.1 ** (step // 20)}
        entry = {"kind": "step", "step": step, "epoch": step / 10, "losses": losses, "learning_rate": rates}
        lines.append(json.dumps(entry))
        if validate and step % 10 == 8:
            scores = {"rank1": step / 100, "mAP": step / 120, "mINP": step / 200}
            lines.append(json.dumps({"kind": "validation", "step": step, "epoch": (step + 2) / 10, **scores}))
    return lines
