"""A ranking as a value: what figures, reports and re-ranking read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from visir.core.errors import EvaluationError
from visir.core.types import BoolArray, FloatArray, ImageTable, IntArray
from visir.evaluation import kernels, product
from visir.evaluation.evaluate import HIDDEN_ELEMENTS, hidden_rule
from visir.evaluation.plan import Task
from visir.evaluation.product import Distance, Features
from visir.evaluation.protocol import Protocol, Trial
from visir.evaluation.scoring import QueryScores, Slices, asking, encode, score_compiled


@dataclass(frozen=True, eq=False)
class Ranking:
    """The nearest k gallery images of each of q queries in one trial.

    Attributes:
        query: (q,) int64 table rows.
        hits: (q, k) int64 table rows, nearest first; -1 where the query sees fewer than k images.
        scores: (q, k) float32 cosine similarity, or minus the distance; -inf for the padding.
        correct: (q, k) bool, whether the hit shows the query's identity.
        average_precision: (q,) float64 over the whole gallery; 0 for a query without a right image.
        first: (q,) int32 rank of the first right image or identity, by the protocol's CMC level; 0 for none.
    """

    query: IntArray
    hits: IntArray
    scores: FloatArray
    correct: BoolArray
    average_precision: npt.NDArray[np.float64]
    first: npt.NDArray[np.int32]


def rank(
    features: Features,
    table: ImageTable,
    trial: Trial,
    protocol: Protocol,
    *,
    k: int = 10,
    distance: Distance = "cosine",
) -> Ranking:
    """Rank the gallery of ``trial`` for each of its queries, as :func:`visir.evaluation.evaluate.evaluate` does.

    Args:
        features: (n, D) floats, one row for each image of the table.
        table: the n images.
        trial: one of ``protocol.trials(table)``.
        protocol: tells what is hidden from a query and what the first rank counts.
        k: how many images to keep for a query.
        distance: "cosine", "euclidean" or "manhattan".

    Raises:
        EvaluationError: as ``evaluate``, or k below 1.
    """
    if k < 1:
        raise EvaluationError(f"rank: expected at least one hit, got k = {k}.")
    checked = product.check_features(features, table, distance)
    Task.of(Protocol(protocol.name, lambda _: [trial]), table)  # checks the rows
    query, gallery = np.asarray(trial.query, np.int64), np.asarray(trial.gallery, np.int64)
    (query_codes, gallery_codes), identities = encode(table.identity[query], table.identity[gallery])
    codes = asking(query_codes, table.identity[query], identities)
    slices = Slices.build([np.arange(len(gallery))], gallery_codes, identities + 1, [protocol.cmc])
    scale, shift = checked.scale_and_shift(gallery, distance)
    hidden = hidden_rule(protocol, table, query, gallery)
    places, near = np.empty((len(query), k), np.int64), np.empty((len(query), k), checked.dtype)
    found = QueryScores.empty(1, len(query))
    block = max(1, min(product.block_rows(len(gallery), checked.values.shape[1]), HIDDEN_ELEMENTS // len(gallery)))
    at = 0
    for values in product.products(checked, query, gallery, torch.device("cpu"), block, distance):
        rows, part = slice(at, at + len(values)), values.numpy()
        mask = hidden(rows.start, rows.stop)
        kernels.best_columns(part, scale, shift, mask, slices.column, places[rows], near[rows])
        asked = np.ones((1, len(part)), np.bool_)
        found.put(at, score_compiled(part, scale, shift, mask, codes[rows], asked, slices))
        at += len(part)
    hits = np.where(places >= 0, gallery[places], -1)
    correct = (places >= 0) & (table.identity[hits] == table.identity[query][:, None]) & (table.identity[hits] >= 0)
    scores = checked.scores(near, query, distance)
    return Ranking(query, hits, scores, correct, found.average_precision[0], found.first[0])
