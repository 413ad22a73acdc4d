"""How good converted pictures are where the truth is known, beside the pictures as they were before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from visir.core.colours import LUMA
from visir.core.errors import DatasetError, EvaluationError
from visir.core.progress import progress
from visir.core.types import ByteArray, FloatArray, ImageTable, IntArray, Modality
from visir.data.converted import SUFFIXES
from visir.data.images import Preprocess, decode, normalise, resize
from visir.data.loading import ahead
from visir.evaluation.likeness import WINDOW, Moments, mean_absolute_error, psnr, ssim
from visir.nets.handcrafted import Hog

WAYS: Mapping[str, Modality] = {"ir2v": Modality.INFRARED, "v2ir": Modality.VISIBLE}  # and what each starts from
TITLES = {"ir2v": "infrared to visible", "v2ir": "visible to infrared"}
FORM = Preprocess(64, 32)
BLOCKS = 7 * 3  # of the histograms, each of unit length
CELLS = (8, 4)
DIM = 36 * BLOCKS + 2 * 3 * CELLS[0] * CELLS[1]
AT_ONCE = 32  # pictures of a batch
SIDES = ("converted", "unconverted")
MEASURES = "form-colour-1"  # names what is measured; another name, other numbers


@dataclass(frozen=True)
class Likeness:
    """How like a set of pictures is to the true one.

    Attributes:
        pictures: how many.
        psnr: mean over pictures of the peak signal-to-noise ratio, decibels.
        ssim: mean structural similarity, -1..1.
        mae: mean absolute error, share of the full scale.
        form_colour: Fréchet distance of :func:`form_and_colour`; None for fewer than two pictures.
    """

    pictures: int
    psnr: float
    ssim: float
    mae: float
    form_colour: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an infinite ratio, of equal pictures, is null."""
        return asdict(self) | {"psnr": self.psnr if math.isfinite(self.psnr) else None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Likeness:
        """Read what :meth:`as_dict` made."""
        return cls(**{**values, "psnr": math.inf if values["psnr"] is None else values["psnr"]})


Quality = Mapping[str, Mapping[str, Likeness]]  # way -> side (of SIDES) -> likeness to the truth


def plain(quality: Quality) -> dict[str, Any]:
    """Plain values for JSON."""
    return {way: {name: one.as_dict() for name, one in sides.items()} for way, sides in quality.items()}


def read_quality(values: Mapping[str, Mapping[str, Any]]) -> Quality:
    """What :func:`plain` made, read back."""
    return {way: {name: Likeness.from_dict(one) for name, one in sides.items()} for way, sides in values.items()}


def form_and_colour(pictures: Sequence[ByteArray]) -> FloatArray:
    """What two sets of pictures are compared by: (n, 948) float32 of n (H, W, 3) uint8 pictures of any sizes.

    Form: the 756 values of the histograms of oriented gradients (:class:`visir.nets.handcrafted.Hog`) of the picture
    at 64x32, together of unit length, so that form and colour count about alike. Colour: mean and deviation, in 0..1,
    of each channel in 8x4 cells of the picture as it is. Deterministic and without anything learnt.
    """
    form = torch.from_numpy(np.stack([resize(picture, FORM.height, FORM.width) for picture in pictures]))
    with torch.inference_mode():
        gradients = Hog(FORM.height, FORM.width)(normalise(form, FORM)).numpy() / np.sqrt(BLOCKS)
    colours = []
    for picture in pictures:
        values = picture.astype(np.float32) / 255
        mean, square = (cv2.resize(v, CELLS[::-1], interpolation=cv2.INTER_AREA) for v in (values, values * values))
        colours.append(np.concatenate([mean.ravel(), np.sqrt(np.maximum(square - mean * mean, 0)).ravel()]))
    return np.concatenate([gradients, np.stack(colours)], axis=1).astype(np.float32)


def grey(picture: ByteArray) -> ByteArray:
    """The luma of an (H, W, 3) picture, three times; an infrared picture stays as it is."""
    luma = np.rint(picture.astype(np.float64) @ np.array(LUMA)).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


def true_pictures(table: ImageTable, rows: IntArray, folder: Path) -> dict[int, Path]:
    """Row -> the image's true picture in the other modality: below ``folder``, under its path, with any suffix.

    Raises:
        DatasetError: one has none; the first is named and all are counted.
    """
    found: dict[int, Path] = {}
    missing: list[str] = []
    for row in rows.tolist():
        path = folder / table.paths[row]
        named = (path, *(path.with_suffix(suffix) for suffix in SUFFIXES))
        place = next((one for one in named if one.is_file()), None)
        if place is None:
            missing.append(table.paths[row])
        else:
            found[row] = place
    if missing:
        raise DatasetError(
            f"{folder}: expected the true picture of each of {len(rows):,} images under the image's own path; "
            f"{len(missing):,} are missing, the first is that of {missing[0]}. A twin has them of its training images "
            "in counterparts/, after 'visir data make --counterparts'."
        )
    return found


def judge(
    table: ImageTable,
    rows: Mapping[str, IntArray],
    made: Sequence[Path],
    truth: Mapping[int, Path],
    *,
    workers: int = 2,
) -> Quality:
    """Compare converted pictures and, as the yardstick, grey copies of the originals with the truth.

    A few pictures are in memory at once.

    Args:
        table: the originals.
        rows: way (``ir2v``, ``v2ir``) -> rows of the table that were converted so.
        made: by row, the converted picture.
        truth: by row, the true one.
        workers: threads that decode and compare.

    Raises:
        ImageError: a picture cannot be decoded; it is named.
        EvaluationError: a picture and its truth differ in size, or are too small to compare.
    """
    found: dict[str, Mapping[str, Likeness]] = {}
    with progress("comparing with the truth", sum(len(part) for part in rows.values())) as shown:
        for way, own in rows.items():
            if not len(own):
                continue
            sides, true = {name: _Side() for name in SIDES}, Moments(DIM)
            parts = np.array_split(own, -(-len(own) // AT_ONCE))
            for part in ahead(lambda part: _compared(table, part, made, truth), parts, workers=workers):
                true.add(part.truth)
                for name, side in sides.items():
                    side.add(part.values[name], part.features[name])
                shown.advance(len(part.truth))
            found[way] = {name: side.likeness(true) for name, side in sides.items()}
    return found


@dataclass(frozen=True, eq=False)
class _Part:
    """A batch: (b, 3) ratio, similarity and error of each side, (b, D) features of each side and of the truth."""

    values: Mapping[str, FloatArray]
    features: Mapping[str, FloatArray]
    truth: FloatArray


class _Side:
    """One side's sums."""

    def __init__(self) -> None:
        self._values, self._moments = np.zeros(3), Moments(DIM)

    def add(self, values: FloatArray, features: FloatArray) -> None:
        self._values += values.sum(0, dtype=np.float64)
        self._moments.add(features)

    def likeness(self, truth: Moments) -> Likeness:
        count = self._moments.count
        ratio, similarity, error = (self._values / count).tolist()
        distance = self._moments.distance(truth) if count > 1 else None
        return Likeness(count, ratio, similarity, error, distance)


def _compared(table: ImageTable, part: IntArray, made: Sequence[Path], truth: Mapping[int, Path]) -> _Part:
    rows = part.tolist()
    true = [decode(truth[row]) for row in rows]
    sides = {
        "converted": [decode(made[row]) for row in rows],
        "unconverted": [grey(decode(table.file(row))) for row in rows],
    }
    values = {
        name: np.array(
            [_values(*three) for three in zip(own, true, [truth[row] for row in rows], strict=True)], np.float32
        )
        for name, own in sides.items()
    }
    features = {name: form_and_colour(own) for name, own in sides.items()}
    return _Part(values, features, form_and_colour(true))


def _values(picture: ByteArray, truth: ByteArray, name: Path) -> tuple[float, float, float]:
    if picture.shape != truth.shape or min(truth.shape[:2]) < WINDOW:
        sizes = " and ".join(f"{one.shape[0]}x{one.shape[1]}" for one in (picture, truth))
        raise EvaluationError(
            f"{name}: expected a picture of the size of its original, at least {WINDOW}x{WINDOW}; they have {sizes}."
        )
    return psnr(picture, truth), ssim(picture, truth), mean_absolute_error(picture, truth)


def format_quality(quality: Quality) -> str:
    """A table, one row for each way and side."""
    head = ("", "", "pictures", "PSNR (dB)", "SSIM", "MAE", "Fréchet (form+colour)")
    rows = [head]
    for way, sides in quality.items():
        for name, one in sides.items():
            distance = "-" if one.form_colour is None else f"{one.form_colour:.4f}"
            figures = (f"{one.psnr:.2f}", f"{one.ssim:.4f}", f"{one.mae:.4f}", distance)
            rows.append((TITLES[way], name, f"{one.pictures:,}", *figures))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
