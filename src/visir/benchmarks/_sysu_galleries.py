"""Queries and galleries of SYSU-MM01: which images the published permutations or the seeded draw choose."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visir.benchmarks._files import read_id_list, read_mat
from visir.core.errors import DatasetError
from visir.core.types import BoolArray, ImageTable, IntArray
from visir.evaluation.protocol import Trial

PERMUTATIONS = "rand_perm_cam.mat"
QUERY_CAMERAS = (3, 6)
GALLERY_CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}
TRIALS = 10

Cells = Mapping[tuple[int, int], list[int]]  # (camera, identity) -> table rows, by file name
Permutation = npt.NDArray[np.int64]


def same_room(query: ImageTable, gallery: ImageTable) -> BoolArray:
    """Cameras 2 and 3 look at one room, so a query of camera 3 sees no gallery image of camera 2, of any identity."""
    return np.asarray((query.camera == 3)[:, None] & (gallery.camera == 2)[None], np.bool_)


def exp_folder(root: Path) -> Path:
    """Where the split files are: ``exp``, or the root itself for people who keep the lists without the images."""
    return root / "exp" if (root / "exp").is_dir() else root


def permutation_file(root: Path) -> Path:
    """Where the permutations are expected: in ``exp`` first, then in the root."""
    inside = root / "exp" / PERMUTATIONS
    return inside if inside.is_file() or not (root / PERMUTATIONS).is_file() else root / PERMUTATIONS


def read_permutations(path: Path) -> tuple[tuple[Permutation, ...], ...]:
    """The published permutations: [camera - 1][identity - 1] -> (10, n) with a permutation of 1..n in every row.

    Raises:
        DatasetError: the file is missing, damaged or of another form.
    """
    try:
        stamp = path.stat()
    except OSError as error:
        raise DatasetError(
            f"{path}: the permutations of the official protocol are missing. Copy {PERMUTATIONS} from the data set "
            "authors' code repository, or use the seeded draw, such as 'sysu-all-1-seeded'."
        ) from error
    return _read_permutations(path, stamp.st_mtime_ns, stamp.st_size)


@functools.lru_cache(maxsize=4)
def _read_permutations(path: Path, modified: int, size: int) -> tuple[tuple[Permutation, ...], ...]:
    cameras = np.asarray(read_mat(path, PERMUTATIONS.removesuffix(".mat"))).ravel()
    problem = f"{path}: expected cells of permutations for 6 cameras"
    if cameras.dtype != np.object_ or len(cameras) != 6:
        raise DatasetError(f"{problem}, got {len(cameras)} of type {cameras.dtype}; copy it again.")
    found = []
    for camera, cells in enumerate(cameras, 1):
        try:
            found.append(tuple(_permutation(cell) for cell in np.asarray(cells, np.object_).ravel()))
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{problem}, camera {camera} holds something else ({error}); copy it again.") from error
    return tuple(found)


def _permutation(cell: Any) -> Permutation:
    values = np.asarray(cell, np.int64)
    if values.size == 0:
        return np.zeros((0, 0), np.int64)
    if values.ndim != 2 or (np.sort(values, axis=1) != np.arange(1, values.shape[1] + 1)).any():
        raise ValueError("a row is no permutation of 1..n")
    return values


def cells_of(table: ImageTable, cameras: Sequence[int]) -> Cells:
    """The rows of every camera and identity, sorted by path: the published readers number sorted file lists."""
    rows = np.flatnonzero(np.isin(table.camera, cameras)).tolist()
    camera, identity, paths = table.camera.tolist(), table.identity.tolist(), table.paths
    cells: dict[tuple[int, int], list[int]] = {}
    for row in sorted(rows, key=lambda row: paths[row]):
        cells.setdefault((camera[row], identity[row]), []).append(row)
    return cells


def official_trials(mode: str, shots: int) -> Callable[[ImageTable], list[Trial]]:
    """Trial t: for each gallery camera, for each test identity ascending, the first images of permutation row t."""

    def trials(table: ImageTable) -> list[Trial]:
        path = permutation_file(table.root)
        permutations = read_permutations(path)
        cameras = GALLERY_CAMERAS[mode]
        identities = _official_identities(table, read_id_list(exp_folder(table.root), "test_id"))
        cells = cells_of(table, cameras)
        chosen: list[list[IntArray]] = [[] for _ in range(TRIALS)]
        for camera in cameras:
            for identity in identities:
                order = order_of(permutations[camera - 1], identity)
                rows = np.array(cells.get((camera, identity), []), np.int64)
                _check_cell(path, camera, identity, order, len(rows))
                for t in range(TRIALS if len(rows) else 0):
                    chosen[t].append(rows[order[t, :shots] - 1])
        query = _queries(table, identities)
        return [Trial(str(t), query, np.concatenate([_none(), *rows])) for t, rows in enumerate(chosen, 1)]

    return trials


def seeded_trials(mode: str, shots: int) -> Callable[[ImageTable], list[Trial]]:
    """Trial t, 0 to 9: identities ascending, cameras within, one ``choice`` (or a ``sample``) of the sorted images.

    The draw of Ye et al.'s released code (TPAMI 2021), which seeds the global generator with t; here a generator of its
    own gives the same images and disturbs nobody.
    """

    def trials(table: ImageTable) -> list[Trial]:
        cells, identities = cells_of(table, GALLERY_CAMERAS[mode]), _seeded_identities(table)
        query = _queries(table, identities)
        drawn = (_draw(seed, cells, identities, GALLERY_CAMERAS[mode], shots) for seed in range(TRIALS))
        return [Trial(str(seed), query, np.array(rows, np.int64)) for seed, rows in enumerate(drawn)]

    return trials


def _draw(seed: int, cells: Cells, identities: Sequence[int], cameras: Sequence[int], shots: int) -> list[int]:
    generator = random.Random(seed)
    chosen: list[int] = []
    for identity in identities:
        for camera in cameras:
            rows = cells.get((camera, identity))
            if rows and shots == 1:
                chosen.append(generator.choice(rows))
            elif rows:
                chosen += generator.sample(rows, min(shots, len(rows)))
    return chosen


def _none() -> IntArray:
    return np.empty(0, np.int64)


def _queries(table: ImageTable, identities: Sequence[int]) -> IntArray:
    asked = np.isin(table.camera, QUERY_CAMERAS) & np.isin(table.identity, identities)
    return np.flatnonzero(asked).astype(np.int64)


def _official_identities(table: ImageTable, listed: list[int]) -> list[int]:
    absent = sorted(set(listed) - set(table.identity.tolist()))
    if absent:
        shown = ", ".join(map(str, absent[:5]))
        raise DatasetError(
            f"{exp_folder(table.root) / 'test_id'}: {len(absent)} of {len(listed)} test identities have no image in "
            f"the table ({shown}). An official score needs all of them; does the table hold the test split?"
        )
    return listed


def _seeded_identities(table: ImageTable) -> list[int]:
    """The test identities if the table is of the test split, else (validation) all that it holds."""
    present: list[int] = table.identities().tolist()
    folder = exp_folder(table.root)
    if not any((folder / f"test_id.{suffix}").is_file() for suffix in ("txt", "mat")):
        return present
    listed = read_id_list(folder, "test_id")
    return _official_identities(table, listed) if set(listed) & set(present) else present


def cell_problem(order: Permutation, images: int) -> str:
    """What keeps the permutations ``order`` from choosing among ``images`` files, or ""."""
    if order.shape[1] != images:
        return f"{images} images, of {order.shape[1]} that are permuted"
    if images and len(order) < TRIALS:
        return f"{len(order)} permutations, of {TRIALS}"
    return ""


def order_of(own: Sequence[Permutation], identity: int) -> Permutation:
    """The permutations of one identity in one camera, (0, 0) where the file has none."""
    return own[identity - 1] if 1 <= identity <= len(own) else np.zeros((0, 0), np.int64)


def _check_cell(path: Path, camera: int, identity: int, order: Permutation, images: int) -> None:
    problem = cell_problem(order, images)
    if problem:
        raise DatasetError(
            f"{path}: identity {identity} in camera {camera} has {problem}. Unpack the images and copy the file again; "
            "stray copies and missing images change the gallery."
        )
