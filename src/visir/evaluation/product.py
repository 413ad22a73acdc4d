"""Features, checked, and their products (or distances) in blocks: the only large computation of an evaluation.

A matrix product rounds the same sum differently from column to column and from shape to shape, and equal distances are
ranked by place in the gallery. Images with equal features are therefore multiplied once and share the result, so that
they tie exactly, whatever the precision, the block or the place. Distances that differ are as exact as the precision.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from visir.core.errors import EvaluationError
from visir.core.types import ImageTable, IntArray

Distance = Literal["cosine", "euclidean", "manhattan"]
DISTANCES: tuple[Distance, ...] = ("cosine", "euclidean", "manhattan")

BLOCK_ELEMENTS = 1 << 26  # products held at a time: 256 MiB in float32
CHUNK_BYTES = 1 << 26  # gallery features gathered at a time
CHECKED_BYTES = 1 << 20  # features checked at a time: they stay in the cache
EXACT_DIMENSIONS = 256  # up to here float64 costs less than reading the result
FLOAT32_SQUARED = (1e-30, 1e36)  # squared lengths whose products neither vanish nor overflow in float32
FLOAT64_SQUARED = (1e-290, 1e300)  # and in float64
MOST_OFFSET = 16.0  # mean squared length / spread around the mean; from here on float32 loses Euclidean distances

Features = npt.NDArray[np.floating[Any]]


def as_distance(name: str) -> Distance:
    """The distance of this name.

    Raises:
        EvaluationError: there is none.
    """
    for distance in DISTANCES:
        if distance == name:
            return distance
    raise EvaluationError(f"distance: expected 'cosine', 'euclidean' or 'manhattan', got {name!r}.")


@dataclass(frozen=True, eq=False)
class Checked:
    """Features fit for scoring.

    Attributes:
        values: (n, D), as given.
        squared: (n,) float64 squared lengths.
        representative: (n,) int64, the first row with the same values; most often the row itself.
        dtype: what products are computed in.
    """

    values: Features
    squared: npt.NDArray[np.float64]
    representative: IntArray
    dtype: type[np.float32] | type[np.float64]

    def scale_and_shift(self, rows: IntArray, distance: Distance) -> tuple[Features, Features]:
        """(g,) factors and offsets that turn what :func:`products` gives for gallery ``rows`` into what ranks them.

        Cosine: minus the cosine times the query's length. Euclidean: the squared distance less the query's squared
        length. Both keep the order of one query's gallery, and neither touches the whole product. Manhattan: the
        distance itself.
        """
        squared, zeros = self.squared[rows], np.zeros(len(rows))
        if distance == "cosine":
            scale, shift = -1.0 / np.sqrt(squared), zeros
        elif distance == "euclidean":
            scale, shift = np.full(len(rows), -2.0), squared
        else:
            scale, shift = np.ones(len(rows)), zeros
        return scale.astype(self.dtype), shift.astype(self.dtype)

    def scores(self, ranked: Features, queries: IntArray, distance: Distance) -> Features:
        """(q, k) similarities from ranking values: the cosine in [-1, 1], or minus the distance."""
        if distance == "manhattan":
            return np.asarray(-ranked, np.float32)
        squared = self.squared[queries][:, None]
        if distance == "cosine":
            return np.asarray(-ranked / np.sqrt(squared), np.float32)
        return np.asarray(-np.sqrt(np.maximum(ranked + squared, 0.0)), np.float32)


def check_features(features: Features, table: ImageTable, distance: str) -> Checked:
    """Check features against their table.

    Float32 and smaller types are multiplied in float32, or in float64 where float32 would lose what ranks them: lengths
    near its ends, and Euclidean distances between features far from the origin. So are up to 256 dimensions, where that
    costs nothing. Float64 stays float64.

    Raises:
        EvaluationError: not (n, D) numbers with the table's n, NaN or infinite values, lengths outside 1e-145 .. 1e150
            (only float64 reaches those), or, for the cosine, vectors of length zero; the image is named.
    """
    as_distance(distance)
    values = np.asarray(features)
    if values.ndim != 2 or values.shape[1] == 0 or not np.issubdtype(values.dtype, np.floating):
        raise EvaluationError(f"features: expected an (n, D) array of floats, got {values.dtype} {values.shape}.")
    if len(values) != len(table):
        raise EvaluationError(
            f"features: expected one row for each of the table's {len(table):,} images, got {len(values):,}."
        )
    squared = _lengths(values)
    _check_lengths(values, squared, table, distance)
    narrow = values.dtype.itemsize <= 4 and values.shape[1] > EXACT_DIMENSIONS and _fits_float32(squared)
    if narrow and distance == "euclidean":
        total, length = values.sum(axis=0, dtype=np.float64), len(values) * float(squared.sum())
        narrow = length <= MOST_OFFSET * (length - float(total @ total))
    return Checked(values, squared, _representatives(values, squared), np.float32 if narrow else np.float64)


def _lengths(values: Features) -> npt.NDArray[np.float64]:
    """(n,) squared lengths; equal rows get equal ones, wherever they stand."""
    squared, step = np.empty(len(values)), max(1, CHECKED_BYTES // (8 * values.shape[1]))
    wide = np.empty((min(step, len(values)), values.shape[1]))
    for start in range(0, len(values), step):
        part = wide[: len(values) - start]
        part[...] = values[start : start + step]
        squared[start : start + step] = np.einsum("nd,nd->n", part, part)
    return squared


def _check_lengths(values: Features, squared: npt.NDArray[np.float64], table: ImageTable, distance: str) -> None:
    low, high = FLOAT64_SQUARED
    for bad in np.flatnonzero(~((squared >= low) & (squared <= high))):
        row = f"features: row {bad} ({table.paths[bad]})"
        if not np.isfinite(values[bad]).all():
            raise EvaluationError(f"{row} holds NaN or infinite values; expected finite features.")
        if values[bad].any():
            size = "large" if squared[bad] > high else "small"
            raise EvaluationError(f"{row} holds too {size} numbers; expected a length of 1e-145 to 1e150.")
        if distance == "cosine":
            raise EvaluationError(
                f"{row} has length zero, so it has no cosine. Is the network dead, or the row never filled?"
            )


def _fits_float32(squared: npt.NDArray[np.float64]) -> bool:
    low, high = FLOAT32_SQUARED
    return bool((((squared >= low) | (squared == 0)) & (squared <= high)).all())


def _representatives(values: Features, squared: npt.NDArray[np.float64]) -> IntArray:
    """(n,) the first row equal to each. Only rows that share their length are looked at."""
    found = np.arange(len(values))
    _, group, times = np.unique(squared, return_inverse=True, return_counts=True)
    first: dict[bytes, int] = {}
    for row in np.flatnonzero(times[group] > 1).tolist():
        content = (values[row] + 0).tobytes()  # adding 0 makes -0 and 0 the same bytes
        found[row] = first.setdefault(hashlib.blake2b(content, digest_size=32).digest(), row)
    return found


def block_rows(columns: int, dim: int) -> int:
    """How many queries to take at a time against ``columns`` gallery images, so that neither grows beyond a block."""
    return max(1, BLOCK_ELEMENTS // max(columns, dim, 1))


def products(
    checked: Checked,
    rows: IntArray,
    columns: IntArray,
    device: torch.device,
    block: int,
    distance: Distance = "cosine",
) -> Iterator[Tensor]:
    """Inner products of feature ``rows`` with feature ``columns``, ``block`` rows at a time; Manhattan: the distances.

    Columns of equal features hold equal values, and so do rows of equal features in one block.

    Yields:
        (b, g) tensors on ``device``; each is overwritten by the next.
    """
    dim = checked.values.shape[1]
    step = max(1, CHUNK_BYTES // (np.dtype(checked.dtype).itemsize * dim))
    out = torch.empty((min(block, len(rows)), len(columns)), dtype=tensor_dtype(checked.dtype), device=device)
    equal_columns = _equal(checked, columns, device)
    gathered: Tensor | None = None
    for start in range(0, len(rows), block):
        left = _gather(checked, rows[start : start + block], device)
        for at in range(0, len(columns), step):
            right = gathered
            if right is None:
                right = _gather(checked, columns[at : at + step], device)
                gathered = right if len(columns) <= step else None
            part = out[: len(left), at : at + len(right)]
            if distance == "manhattan":
                part.copy_(torch.cdist(left, right, p=1))
                continue
            with full_precision():
                torch.mm(left, right.T, out=part)
        whole, equal_rows = out[: len(left)], _equal(checked, rows[start : start + block], device)
        for axis, (copies, originals) in enumerate((equal_rows, equal_columns)):
            if len(copies):
                whole.index_copy_(axis, copies, whole.index_select(axis, originals))
        yield whole


def _equal(checked: Checked, rows: IntArray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places in ``rows`` whose features stand there before, and the first such places; both (c,) int64."""
    _, first, group = np.unique(checked.representative[rows], return_index=True, return_inverse=True)
    originals = first[group]
    copies = np.flatnonzero(originals != np.arange(len(rows)))
    return torch.from_numpy(copies).to(device), torch.from_numpy(originals[copies]).to(device)


def tensor_dtype(dtype: npt.DTypeLike) -> torch.dtype:
    """Float64 for NumPy's float64, float32 for anything else."""
    return torch.float64 if np.dtype(dtype) == np.float64 else torch.float32


def _gather(checked: Checked, rows: IntArray, device: torch.device) -> Tensor:
    """The features of ``rows`` on ``device``; consecutive rows are not copied."""
    first, last = (int(rows[0]), int(rows[-1])) if len(rows) else (0, -1)
    consecutive = last - first + 1 == len(rows) and bool((np.diff(rows) == 1).all())
    part = checked.values[first : last + 1] if consecutive else checked.values[rows]
    native = np.ascontiguousarray(part, dtype=checked.dtype)
    if not native.flags.writeable:  # torch takes writable memory only
        native = native.copy()
    return torch.from_numpy(native).to(device)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products in float32, whatever shorter format training has switched on for this process."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
