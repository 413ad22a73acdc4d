"""Exact search in memory: one product and a top-k, every answer rescored in float64.

A scan of all vectors, in float32 or bfloat16, finds every picture that could be among the best k: whose score comes
within a proven rounding error of the k-th. Those few are scored again in float64, one row at a time, so the answer and
the order of ties do not depend on the scan, the blocks or the processor.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visir.core.errors import GalleryError, StorageError
from visir.core.types import BoolArray, FloatArray, IntArray
from visir.gallery.columns import Columns
from visir.gallery.entry import Filter, Match
from visir.gallery.store import Scan

ROWS = 16384  # vectors in one product
QUERIES = 256  # queries in one product: the scores of a block stay at 16 MiB
GATHERED = 256  # scattered vectors copied together for one product
RESCORED = 4096  # rows rescored at once
WHOLE = 1.5  # a block is multiplied whole when that is at most so many times the rows asked for
UNIT_ROUNDOFF = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}


@dataclass
class Room:
    """Where vectors are held: memory up to ``limit`` bytes, beyond it unnamed files in ``folder``, mapped into memory.

    An unnamed file vanishes with the process, however that ends, so nothing derived from a person outlives a removal.
    """

    folder: Path
    limit: int
    used: int = 0

    @contextlib.contextmanager
    def given_back(self) -> Iterator[None]:
        """Count what is taken within as free again where that fails."""
        used = self.used
        try:
            yield
        except BaseException:
            self.used = used
            raise

    def array(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An uninitialised array.

        Raises:
            StorageError: no space for the file.
        """
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size == 0 or self.used + size <= self.limit:
            self.used += size
            return np.empty(shape, dtype)
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, not a crash while writing
                return np.memmap(file, dtype, "r+", shape=shape)
        except OSError as error:
            raise StorageError(
                f"{self.folder}: searching needs {size / 2**30:.1f} GiB more, in memory or on this disk "
                f"({error.strerror or error}); free some space or raise the memory limit."
            ) from error


@dataclass(frozen=True, eq=False)
class Segment:
    """n pictures ready to be searched, ordered by modality, camera and key.

    Attributes:
        columns: what is known of them.
        vectors: (n, D) float32 of unit length.
        scanned: (n, D) the same as a tensor, or rounded to bfloat16.
        deviation: the greatest distance between a vector and its rounded form.
    """

    columns: Columns
    vectors: FloatArray
    scanned: Tensor
    deviation: float

    def __len__(self) -> int:
        return len(self.columns)

    @classmethod
    def load(
        cls, columns: Columns, batches: Iterable[tuple[IntArray, FloatArray]], *, dim: int, scan: Scan, room: Room
    ) -> Segment:
        """Build a segment from the columns and the (keys, vectors) of the same pictures, in any order.

        Raises:
            GalleryError: vectors are missing, doubled, not finite or not of unit length: the table is damaged.
        """
        columns = columns.take(columns.order())
        by_key = np.argsort(columns.key)
        ascending = columns.key[by_key]
        vectors = room.array((len(columns), dim), np.float32)
        rounded = room.array((len(columns), dim), np.uint16) if scan == "bfloat16" else None
        scanned = torch.from_numpy(vectors) if rounded is None else torch.from_numpy(rounded).view(torch.bfloat16)
        deviation, filled = 0.0, 0
        for keys, part in batches:
            places = np.searchsorted(ascending, keys)
            if part.shape[1] != dim or (places == len(ascending)).any() or (ascending[places] != keys).any():
                raise GalleryError("the gallery's table is damaged: keys and vectors do not belong together.")
            _check_lengths(keys, part)
            rows = by_key[places]
            vectors[rows] = part
            filled += len(rows)
            if rounded is not None:
                exact = torch.from_numpy(np.array(part))
                narrow = exact.bfloat16()
                scanned[torch.from_numpy(rows)] = narrow
                deviation = max(deviation, float((exact - narrow.float()).norm(dim=1).max()))
        if filled != len(columns):
            raise GalleryError(f"the gallery's table is damaged: expected {len(columns)} vectors, got {filled}.")
        return cls(columns, vectors, scanned, deviation)


def _check_lengths(keys: IntArray, part: FloatArray) -> None:
    squares = np.einsum("ij,ij->i", part, part)
    wrong = np.flatnonzero(~(np.abs(squares - 1.0) <= 1e-4))
    if len(wrong):
        raise GalleryError(
            f"the gallery's table is damaged: the vector of key {keys[wrong[0]]} is not of unit length; remove "
            "that key and enroll its picture again."
        )


def _scores(segment: Segment, probe: Tensor, kept: BoolArray | None) -> Iterator[tuple[IntArray, Tensor]]:
    """Blocks of (m,) rows and their (q, m) scores; only rows that are kept, at a cost in proportion."""
    scanned = segment.scanned
    for start in range(0, len(segment), ROWS):
        stop = min(start + ROWS, len(segment))
        if kept is None:
            yield np.arange(start, stop), probe @ scanned[start:stop].T
            continue
        rows = start + np.flatnonzero(kept[start:stop])
        if not len(rows):
            continue
        first, end = int(rows[0]), int(rows[-1]) + 1
        if end - first == len(rows):
            yield rows, probe @ scanned[first:end].T
        elif end - first <= WHOLE * len(rows):
            yield rows, (probe @ scanned[first:end].T)[:, torch.from_numpy(rows - first)]
        else:
            yield rows, _gathered(scanned, torch.from_numpy(rows), probe)


def _gathered(scanned: Tensor, rows: Tensor, probe: Tensor) -> Tensor:
    """(q, m) scores of scattered rows; few at a time, so that their copy stays in the processor's cache."""
    scores = torch.empty(len(probe), len(rows), dtype=probe.dtype)
    copied = torch.empty(min(GATHERED, len(rows)), scanned.shape[1], dtype=scanned.dtype)
    for start in range(0, len(rows), GATHERED):
        some = rows[start : start + GATHERED]
        torch.index_select(scanned, 0, some, out=copied[: len(some)])
        scores[:, start : start + len(some)] = probe @ copied[: len(some)].T
    return scores


@dataclass
class _Finalists:
    """Whoever may be among the best k of each of q queries."""

    k: int
    error: Tensor  # (q,) how far a scanned score may lie from the true one, apart from its own rounding
    roundoff: float  # of a score itself, relative
    best: Tensor = field(init=False)  # (q,) a lower bound of the k-th best scanned score
    parts: list[tuple[IntArray, Tensor, Tensor]] = field(default_factory=list)
    extra: dict[int, list[IntArray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.best = torch.full_like(self.error, -torch.inf)

    def threshold(self) -> Tensor:
        """(q,) whoever scores less cannot be among the best k."""
        below = self.best - 2 * self.error - 2 * self.roundoff * self.best.abs()
        return torch.where(self.best.isinf(), self.best, below)  # nobody is out while fewer than k were seen

    def offer(self, rows: IntArray, scores: Tensor) -> None:
        """Take note of a block of (m,) rows with (q, m) scores."""
        count = min(len(rows), 2 * self.k + 32)
        values, places = torch.topk(scores, count, dim=1)
        values = values.float()
        if count >= self.k:
            self.best = torch.maximum(self.best, values[:, self.k - 1])
        self.parts.append((rows, values, places))
        if count < len(rows):
            low = self.threshold()
            for query in torch.nonzero(values[:, -1] >= low).flatten().tolist():
                more = torch.nonzero(scores[query].float() >= low[query]).flatten().numpy()
                self.extra.setdefault(query, []).append(rows[more])

    def of(self) -> list[IntArray]:
        """For each query the rows that may be among its best k."""
        rows = np.concatenate([rows[places.numpy()] for rows, _, places in self.parts], axis=1)
        values = torch.cat([values for _, values, _ in self.parts], dim=1)
        if values.shape[1] >= self.k:
            self.best = torch.maximum(self.best, torch.topk(values, self.k, dim=1).values[:, -1])
        close = (values >= self.threshold()[:, None]).numpy()
        return [
            np.unique(np.concatenate([rows[query][close[query]], *self.extra.get(query, ())]))
            for query in range(len(rows))
        ]


def _probe(segments: tuple[Segment, ...], queries: FloatArray, k: int) -> tuple[Tensor, _Finalists]:
    """The queries as the scan reads them, and an empty list of finalists that knows the scan's error."""
    exact = torch.from_numpy(queries)
    probe = exact.to(segments[0].scanned.dtype)
    dim = queries.shape[1]
    error = (exact - probe.float()).norm(dim=1) * 1.01 + 1.01 * max(s.deviation for s in segments)
    error += 2 * dim * UNIT_ROUNDOFF[torch.float32]  # of a float32 sum, in any order
    if probe.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        error += 3 * UNIT_ROUNDOFF[torch.bfloat16]  # then products of float32 may be made in less
    roundoff = UNIT_ROUNDOFF[torch.bfloat16] if probe.dtype == torch.bfloat16 else 0.0
    return probe, _Finalists(k, error, roundoff)


def _rescored(segments: tuple[Segment, ...], query: FloatArray, rows: IntArray, k: int) -> list[Match]:
    offsets = np.cumsum([0, *(len(segment) for segment in segments)])
    owner = np.searchsorted(offsets, rows, side="right") - 1
    scores, keys = np.empty(len(rows)), np.empty(len(rows), np.int64)
    wide = query.astype(np.float64)
    for number, segment in enumerate(segments):
        mine = np.flatnonzero(owner == number)
        for start in range(0, len(mine), RESCORED):
            part = mine[start : start + RESCORED]
            local = rows[part] - offsets[number]
            scores[part] = np.einsum("ij,j->i", segment.vectors[local].astype(np.float64), wide)
            keys[part] = segment.columns.key[local]
    best = np.lexsort((keys, -scores))[:k]
    found = zip(keys[best].tolist(), scores[best].clip(-1.0, 1.0).tolist(), owner[best].tolist(), strict=True)
    places = (rows[best] - offsets[owner[best]]).tolist()
    return [
        Match(key, score, segments[number].columns.entry(row))
        for (key, score, number), row in zip(found, places, strict=True)
    ]


def search(
    segments: tuple[Segment, ...], queries: FloatArray, k: int, where: Filter | None = None
) -> list[list[Match]]:
    """For each of the (q, D) unit queries the k most similar pictures, best first, the lower key first in a tie."""
    segments = tuple(segment for segment in segments if len(segment))
    kept = [None if where is None else segment.columns.mask(where) for segment in segments]
    answers: list[list[Match]] = []
    for start in range(0, len(queries), QUERIES):
        some = queries[start : start + QUERIES]
        answers += _search_some(segments, kept, some, k)
    return answers


def _search_some(
    segments: tuple[Segment, ...], kept: list[BoolArray | None], queries: FloatArray, k: int
) -> list[list[Match]]:
    if not segments:
        return [[] for _ in queries]
    probe, finalists = _probe(segments, queries, k)
    offset = 0
    with torch.inference_mode():
        for segment, mask in zip(segments, kept, strict=True):
            for rows, scores in _scores(segment, probe, mask):
                finalists.offer(offset + rows, scores)
            offset += len(segment)
    if not finalists.parts:
        return [[] for _ in queries]
    return [_rescored(segments, query, rows, k) for query, rows in zip(queries, finalists.of(), strict=True)]
