"""From distances to the scores of single queries, compiled on CPUs and with tensors on GPUs: the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from visir.core.errors import EvaluationError
from visir.core.types import BoolArray, IntArray
from visir.evaluation import kernels, tensors
from visir.evaluation.product import tensor_dtype
from visir.evaluation.protocol import CmcLevel

Floats = npt.NDArray[np.floating[Any]]
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class QueryScores:
    """What each of q queries scored, of T trials when the arrays are (T, q).

    Attributes:
        first: (q,) int32 rank from 1 of the first right image, or identity by the CMC level; 0 where not scored.
        average_precision: (q,) float64 in [0, 1], 0 where not scored.
        inp: (q,) float64, right images / rank of the last one; 0 where not scored.
        ties: (q,) int32, right images at exactly the distance of a wrong one.
        ranks: length of :attr:`curve`.
    """

    first: Codes
    average_precision: npt.NDArray[np.float64]
    inp: npt.NDArray[np.float64]
    ties: Codes
    ranks: int = 20

    @property
    def scored(self) -> BoolArray:
        """(q,) bool, whether the query sees a right image at all."""
        return np.asarray(self.first > 0, np.bool_)

    @property
    def curve(self) -> npt.NDArray[np.float64]:
        """(ranks,) float64, the share of scored queries whose ``first`` is at most 1, 2, .., ranks; NaN without any."""
        first = self.first[self.scored]
        counts = np.bincount(np.minimum(first, self.ranks + 1), minlength=self.ranks + 2)[1:-1]
        return np.asarray(np.cumsum(counts) / (len(first) or np.nan), np.float64)

    def pick(self, trials: int | slice, queries: IntArray | BoolArray) -> QueryScores:
        """Some trials and queries of (T, q) scores."""
        return QueryScores(
            first=self.first[trials][..., queries],
            average_precision=self.average_precision[trials][..., queries],
            inp=self.inp[trials][..., queries],
            ties=self.ties[trials][..., queries],
            ranks=self.ranks,
        )

    @classmethod
    def empty(cls, trials: int, queries: int, ranks: int = 20) -> QueryScores:
        """(T, q) arrays of zeros, to be filled."""
        shape = (trials, queries)
        return cls(np.zeros(shape, np.int32), np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int32), ranks)

    def put(self, start: int, part: QueryScores) -> None:
        """Fill in the queries from ``start`` on."""
        for name in ("first", "average_precision", "inp", "ties"):
            values = getattr(part, name)
            getattr(self, name)[:, start : start + values.shape[1]] = values


@dataclass(frozen=True, eq=False)
class Slices:
    """T galleries as slices of the same G columns, laid out for the kernels; see :func:`kernels.score_rows`."""

    column: Codes
    identity: Codes
    by_identity: Codes
    offset: IntArray
    start: Codes
    right: Codes
    right_start: Codes
    identity_level: BoolArray

    @classmethod
    def build(
        cls, galleries: Sequence[IntArray], column_identity: Codes, identities: int, levels: Sequence[CmcLevel]
    ) -> Slices:
        """Lay out T galleries.

        Args:
            galleries: (g,) columns of each trial, in gallery order.
            column_identity: (G,) identity codes 0..identities-1.
            identities: how many codes there are.
            levels: the CMC level of each trial.
        """
        own = [column_identity[gallery] for gallery in galleries]
        starts = np.zeros((len(own), identities + 1), np.int32)
        for row, codes in zip(starts, own, strict=True):
            row[1:] = np.cumsum(np.bincount(codes, minlength=identities))
        return cls(
            column=np.concatenate(galleries).astype(np.int32),
            identity=np.concatenate(own).astype(np.int32),
            by_identity=np.concatenate([np.argsort(codes, kind="stable") for codes in own]).astype(np.int32),
            offset=np.cumsum([0, *(len(codes) for codes in own)]).astype(np.int64),
            start=starts,
            right=np.argsort(column_identity, kind="stable").astype(np.int32),
            right_start=np.searchsorted(np.sort(column_identity), np.arange(identities + 1)).astype(np.int32),
            identity_level=np.array([level == "identity" for level in levels], np.bool_),
        )

    def gallery(self, trial: int) -> slice:
        """Where trial number ``trial`` lies in the flat arrays."""
        return slice(int(self.offset[trial]), int(self.offset[trial + 1]))


def score_compiled(
    product: Floats, scale: Floats, shift: Floats, hidden: BoolArray, codes: Codes, asked: BoolArray, slices: Slices
) -> QueryScores:
    """Score (b, G) products in all trials on the CPU; arguments as :func:`kernels.score_rows`."""
    found = QueryScores.empty(*asked.shape)
    kernels.score_rows(
        np.ascontiguousarray(product),
        scale,
        shift,
        hidden,
        codes,
        np.ascontiguousarray(asked),
        slices.column,
        slices.identity,
        slices.by_identity,
        slices.offset,
        slices.start,
        slices.right,
        slices.right_start,
        slices.identity_level,
        found.first,
        found.average_precision,
        found.inp,
        found.ties,
    )
    return found


def score_tensors(
    product: Tensor, scale: Floats, shift: Floats, hidden: BoolArray, codes: Codes, asked: BoolArray, slices: Slices
) -> QueryScores:
    """As :func:`score_compiled`, on the device of ``product``."""
    distance = product * torch.tensor(scale, device=product.device) + torch.tensor(shift, device=product.device)
    if hidden.shape[1]:
        distance.masked_fill_(torch.tensor(hidden, device=product.device), torch.inf)
    found = QueryScores.empty(*asked.shape)
    for trial in range(len(asked)):
        rows, own = np.flatnonzero(asked[trial]), slices.gallery(trial)
        scored = tensors.score_gallery(
            distance if len(rows) == len(distance) else distance[torch.tensor(rows, device=product.device)],
            torch.tensor(slices.column[own], device=product.device),
            torch.tensor(slices.identity[own], device=product.device, dtype=torch.int64),
            torch.tensor(codes[rows], device=product.device, dtype=torch.int64),
            identity_level=bool(slices.identity_level[trial]),
            identities=slices.start.shape[1] - 1,
        )
        first, precision, inp, ties = (values.cpu().numpy() for values in scored)
        found.first[trial, rows], found.ties[trial, rows] = first, ties
        found.average_precision[trial, rows], found.inp[trial, rows] = precision, inp
    return found


def encode(*identities: IntArray) -> tuple[list[Codes], int]:
    """Identities as codes 0..I-1 for the kernels; the unknown (-1) is a code like any other.

    Returns:
        the codes of each argument, and I.
    """
    known, codes = np.unique(np.concatenate(identities), return_inverse=True)
    ends = np.cumsum([len(part) for part in identities])[:-1]
    return [part.astype(np.int32) for part in np.split(codes.reshape(-1), ends)], len(known)


def asking(codes: Codes, identity: IntArray, identities: int) -> Codes:
    """Codes for queries: one of unknown identity (-1) gets the code ``identities``, which no gallery image has."""
    return np.where(identity < 0, identities, codes).astype(np.int32)


def score_queries(
    distance: Floats | Tensor,
    query_identity: IntArray,
    gallery_identity: IntArray,
    hidden: BoolArray | None = None,
    *,
    cmc: CmcLevel = "image",
    ranks: int = 20,
) -> QueryScores:
    """Score every query against one gallery, from a matrix of distances.

    The gallery that a query sees is ordered by distance, equal distances by column (a stable sort). ``cmc="identity"``
    counts each identity once, at its nearest image, as the official SYSU-MM01 evaluation does; average precision and
    INP (Ye et al., TPAMI 2021, eq. 14) are always over images.

    Args:
        distance: (q, g) numbers; smaller is nearer. Up to float32 they are compared in float32, others in float64
            (whole numbers exactly up to 2**53). A tensor is scored on its device.
        query_identity: (q,) int64; -1 is unknown and never right.
        gallery_identity: (g,) int64.
        hidden: (q, g) bool, True where the query does not see the image; None for nothing.
        cmc: what ``first`` counts.
        ranks: length of the curve.

    Raises:
        EvaluationError: shapes that do not fit, or distances that are NaN or infinite.

    >>> found = score_queries(np.array([[0.1, 0.5, 0.3]]), np.array([7]), np.array([4, 7, 4]), cmc="identity")
    >>> found.first.tolist(), found.average_precision.round(3).tolist()
    ([2], [0.333])
    """
    shape = tuple(distance.shape)
    if shape != (len(query_identity), len(gallery_identity)) or 0 in shape:
        expected = (len(query_identity), len(gallery_identity))
        raise EvaluationError(f"distance: expected at least one query and gallery image, {expected}, got {shape}.")
    if hidden is not None and hidden.shape != shape:
        raise EvaluationError(f"hidden: expected the shape of the distances, {shape}, got {hidden.shape}.")
    finite = torch.isfinite(distance).all() if isinstance(distance, Tensor) else np.isfinite(distance).all()
    if not finite:
        raise EvaluationError("distance: expected finite numbers, got NaN or infinity; hide images with 'hidden'.")
    (queries, gallery), identities = encode(query_identity, gallery_identity)
    slices = Slices.build([np.arange(shape[1])], gallery, identities + 1, [cmc])
    mask = np.zeros((shape[0], 0), np.bool_) if hidden is None else np.ascontiguousarray(hidden, np.bool_)
    asked = np.ones((1, shape[0]), np.bool_)
    codes = asking(queries, query_identity, identities)
    one, zero = np.ones(shape[1], _real(distance)), np.zeros(shape[1], _real(distance))
    if isinstance(distance, Tensor):
        found = score_tensors(distance.to(tensor_dtype(one.dtype)), one, zero, mask, codes, asked, slices)
    else:
        found = score_compiled(distance.astype(one.dtype, copy=False), one, zero, mask, codes, asked, slices)
    return replace(found.pick(0, asked[0]), ranks=ranks)


def _real(distance: Floats | Tensor) -> type[np.float32] | type[np.float64]:
    narrow = (torch.float16, torch.bfloat16, torch.float32, np.dtype(np.float16), np.dtype(np.float32))
    return np.float32 if distance.dtype in narrow else np.float64
