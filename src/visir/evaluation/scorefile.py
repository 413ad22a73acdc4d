"""Features in files: those that visir writes, and those of other programs in the numbering of SYSU-MM01."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from visir.core.errors import DatasetError, EvaluationError
from visir.core.files import atomic_write
from visir.core.types import ImageTable, Modality
from visir.evaluation.product import Features
from visir.evaluation.report import METRICS, Report, format_table

Format = Literal["table", "json", "csv"]
NUMBERED = ("camera", "person", "image", "feature")  # SYSU-MM01 as other programs know it
NAMED = ("features", "path", "identity", "camera", "modality")
INFRARED_CAMERAS = (3, 6)


def save_features(path: Path, features: Features, table: ImageTable) -> None:
    """Write features with their table as npz arrays ``features``, ``path``, ``identity``, ``camera``, ``modality``,
    ``exclude`` and ``root``, atomically.

    Args:
        path: the file to write.
        features: (n, D) floats.
        table: the n images.

    Raises:
        EvaluationError: another number of rows than images.
        StorageError: the file cannot be written; what was there stays.
    """
    if len(features) != len(table):
        raise EvaluationError(f"{path}: expected {len(table):,} rows of features, got {len(features):,}.")
    arrays = {
        "features": np.asarray(features),
        "path": np.array(table.paths, np.str_),
        "identity": table.identity,
        "camera": table.camera,
        "modality": table.modality,
        "exclude": table.exclude,
        "root": np.array(table.root.as_posix()),
    }
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_features(path: Path, split_dir: Path | None = None) -> tuple[Features, ImageTable]:
    """Read features with their table.

    Two layouts: what :func:`save_features` wrote, and arrays ``camera``, ``person``, ``image`` and ``feature``, one row
    for each image of SYSU-MM01, which become paths such as ``cam1/0006/0001.jpg``. ``image`` counts the n images of
    each person in each camera from 1 to n, in order of file names; official galleries name images by that number.

    Args:
        path: an npz file.
        split_dir: becomes the table's root, where protocols look for their split files; by default the root stored
            with the features, or the folder of ``path``.

    Raises:
        EvaluationError: the file is missing or damaged, an array is missing, of the wrong type or length, or the images
            of a person in a camera are not numbered 1 to n.
    """
    arrays = _read(path)
    if all(name in arrays for name in NUMBERED):
        return _numbered(path, arrays, split_dir or path.parent)
    missing = [name for name in NAMED if name not in arrays]
    if missing:
        raise EvaluationError(
            f"{path}: expected the arrays {', '.join(NUMBERED)}, or {', '.join(NAMED)}; it holds "
            f"{', '.join(sorted(arrays)) or 'nothing'}."
        )
    features = _features(path, arrays["features"])
    identity, camera, modality = (_whole(path, arrays, name, len(features)) for name in NAMED[2:])
    exclude = _whole(path, arrays, "exclude", len(features)) if "exclude" in arrays else np.full(len(features), -1)
    if arrays["path"].shape != (len(features),):
        raise EvaluationError(f"{path}: expected {len(features):,} values in 'path', got {arrays['path'].shape}.")
    stored = Path(str(arrays["root"])) if "root" in arrays else path.parent
    names = tuple(str(name) for name in arrays["path"].tolist())
    try:
        return features, ImageTable(split_dir or stored, names, identity, camera, modality, exclude)
    except DatasetError as error:
        raise EvaluationError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    if not path.is_file():
        raise EvaluationError(f"{path}: no such file; expected features as .npz.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        zipfile.BadZipFile,
        KeyError,
        AttributeError,
        NotImplementedError,
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise EvaluationError(
            f"{path}: expected a whole .npz file of plain arrays ({reason}); write it again."
        ) from error


def _features(path: Path, values: npt.NDArray[Any]) -> Features:
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        raise EvaluationError(f"{path}: expected (n, D) floats as features, got {values.dtype} {values.shape}.")
    return values


def _whole(path: Path, arrays: Mapping[str, npt.NDArray[Any]], name: str, length: int) -> npt.NDArray[np.int64]:
    values = arrays[name]
    if values.shape != (length,) or not np.issubdtype(values.dtype, np.integer):
        raise EvaluationError(
            f"{path}: expected {length:,} whole numbers in '{name}', one for each row of features, got {values.dtype} "
            f"{values.shape}."
        )
    return values.astype(np.int64)


def _numbered(path: Path, arrays: Mapping[str, npt.NDArray[Any]], root: Path) -> tuple[Features, ImageTable]:
    features = _features(path, arrays["feature"])
    camera, person, image = (_whole(path, arrays, name, len(features)) for name in ("camera", "person", "image"))
    for name, values in (("camera", camera), ("person", person), ("image", image)):
        if len(values) and values.min() < 1:
            raise EvaluationError(f"{path}: expected numbers from 1 in '{name}', got {values.min()}.")
    numbers = np.stack([camera, person, image], axis=1)
    distinct, times = np.unique(numbers, axis=0, return_counts=True)
    if (times > 1).any():
        c, p, i = distinct[times > 1][0]
        raise EvaluationError(f"{path}: image {i} of person {p} in camera {c} is given twice.")
    _, cell, sizes = np.unique(distinct[:, :2], axis=0, return_inverse=True, return_counts=True)
    for outside in np.flatnonzero(distinct[:, 2] > sizes[cell.reshape(-1)])[:1]:
        c, p, i = distinct[outside]
        n = sizes[cell.reshape(-1)][outside]
        raise EvaluationError(
            f"{path}: expected the images of person {p} in camera {c} to be numbered 1 to {n}, as many as there are, "
            f"got {i}. Number them by their place among the camera's file names of that person, and leave none out."
        )
    modality = np.where(np.isin(camera, INFRARED_CAMERAS), Modality.INFRARED, Modality.VISIBLE)
    digits = max(4, len(str(image.max(initial=0))))  # of one width, so that sorted names are in order of number
    paths = tuple(f"cam{c}/{p:04d}/{i:0{digits}d}.jpg" for c, p, i in numbers.tolist())
    return features, ImageTable(root, paths, person, camera, modality)


def format_report(report: Report, form: Format = "table") -> str:
    """A report as text, without a last newline.

    ``table`` is for people, in percent. ``json`` is :meth:`Report.as_dict`. ``csv`` has the columns trial, rank1,
    rank5, rank10, rank20, mAP and mINP as fractions, a row for each trial, then ``mean`` and ``std`` (population).

    Raises:
        EvaluationError: an unknown format.
    """
    if form == "table":
        return format_table([report])
    if form == "json":
        return json.dumps(report.as_dict(), indent=2, ensure_ascii=False)
    if form != "csv":
        raise EvaluationError(f"format: expected table, json or csv, got {form!r}.")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", *METRICS])
    rows = [*report.trials, {"trial": "mean", **report.mean()}, {"trial": "std", **report.std()}]
    writer.writerows([row["trial"], *(repr(float(row[name])) for name in METRICS)] for row in rows)
    return text.getvalue().rstrip("\n")
