"""Official scores from features: :func:`evaluate` for one protocol, :func:`evaluate_many` for several at one price."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from visir.core.errors import EvaluationError
from visir.core.types import BoolArray, ImageTable, IntArray
from visir.evaluation import product
from visir.evaluation.plan import Rectangle, Task, rectangles
from visir.evaluation.product import Checked, Distance, Features
from visir.evaluation.protocol import Protocol, Trial, nothing_hidden
from visir.evaluation.report import RANKS, Report
from visir.evaluation.scoring import Codes, QueryScores, Slices, asking, encode, score_compiled, score_tensors

__all__ = ["Report", "TrialScores", "evaluate", "evaluate_many", "score_each_query"]

HIDDEN_ELEMENTS = 1 << 22  # query-gallery pairs for which the rule of the protocol is asked at a time


def evaluate(
    features: Features,
    table: ImageTable,
    protocol: Protocol,
    *,
    distance: Distance = "cosine",
    device: str | None = None,
    ranks: int = 20,
    block: int | None = None,
) -> Report:
    """Score features by a protocol.

    The gallery that a query sees is ordered by distance, equal distances by place in the trial's gallery. Queries
    without a right image in it are counted and left out of every mean.

    Args:
        features: (n, D) floats, one row for each image of the table. Cosine needs no unit length.
        table: the n images.
        protocol: such as ``find("sysu_mm01").protocols(1)["sysu-all-1-official"]``.
        distance: "cosine", "euclidean" or "manhattan".
        device: such as "cpu" or "cuda:1"; a GPU when there is one.
        ranks: length of the CMC curve.
        block: queries at a time; as many as fill 256 MiB by default. Memory is one block plus O(n).

    Returns:
        the figures of every trial, in [0, 1].

    Raises:
        EvaluationError: features with NaN or infinite values, of zero length or of another number than the images (the
            row and image are named), or a trial without queries, gallery or any right image.

    >>> from pathlib import Path
    >>> from visir import ImageTable, Trial
    >>> everything = np.arange(4)
    >>> table = ImageTable(Path("."), ("a", "b", "c", "d"), np.array([1, 2, 1, 2]), everything, everything // 2)
    >>> crossing = Protocol("demo", lambda table: [Trial("1", everything[2:], everything[:2])])
    >>> evaluate(np.array([[1.0, 0], [0, 1], [0.9, 0.1], [0.2, 0.8]]), table, crossing).mean()["rank1"]
    1.0
    """
    return evaluate_many(features, table, [protocol], distance=distance, device=device, ranks=ranks, block=block)[0]


def evaluate_many(
    features: Features,
    table: ImageTable,
    protocols: Sequence[Protocol],
    *,
    distance: Distance = "cosine",
    device: str | None = None,
    ranks: int = 20,
    block: int | None = None,
) -> list[Report]:
    """As :func:`evaluate` for several protocols, which share products wherever they overlap.

    All modes and shots of SYSU-MM01 then cost one product, and both directions of RegDB, each other's transpose, too.

    Returns:
        one report for each protocol, in order.
    """
    if ranks < 1:
        raise EvaluationError(f"expected at least one rank, got {ranks}.")
    found = score_each_query(features, table, protocols, distance=distance, device=device, block=block)
    return [_report(protocol, trials, distance, ranks) for protocol, trials in zip(protocols, found, strict=True)]


@dataclass(frozen=True, eq=False)
class TrialScores:
    """What the queries of one trial scored.

    Attributes:
        trial: the draw of queries and gallery.
        query: (q,) int64 table rows of the queries, ascending.
        scores: of q queries, in that order; those without a right image are there, and not ``scores.scored``.
    """

    trial: Trial
    query: IntArray
    scores: QueryScores


def score_each_query(
    features: Features,
    table: ImageTable,
    protocols: Sequence[Protocol],
    *,
    distance: Distance = "cosine",
    device: str | None = None,
    block: int | None = None,
) -> list[list[TrialScores]]:
    """The single queries behind the figures of :func:`evaluate_many`; arguments and errors as there.

    Returns:
        for each protocol, in order, the scores of each of its trials.
    """
    checked = product.check_features(features, table, distance)
    if block is not None and block < 1:
        raise EvaluationError(f"expected at least one query a block, got {block}.")
    tasks = [Task.of(protocol, table) for protocol in protocols]
    scorer = _Scorer(checked, table, distance, _device(device), block)
    scores: dict[int, QueryScores] = {}
    for rectangle in rectangles(tasks, product.BLOCK_ELEMENTS if block is None else 0):
        scores.update(scorer.score(rectangle))
    return [_by_trial(task, scores[id(task)]) for task in tasks]


def _by_trial(task: Task, found: QueryScores) -> list[TrialScores]:
    own = [np.isin(task.queries, trial.query) for trial in task.trials]
    rows = zip(task.trials, own, strict=True)
    return [TrialScores(trial, task.queries[asked], found.pick(n, asked)) for n, (trial, asked) in enumerate(rows)]


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise EvaluationError(f"device {name!r} cannot be used ({reason}); try 'cpu'.") from error
    return device


def compiled(device: torch.device) -> bool:
    """Whether products on ``device`` are scored by the compiled kernels, and not by tensor operations."""
    return device.type == "cpu"


@dataclass(frozen=True, eq=False)
class _Group:
    """Trials that share rows, columns and the rule of what is hidden, so that one pass over a block scores them all."""

    tasks: list[Task]
    queries: IntArray
    columns: IntArray
    scale: Features
    shift: Features
    codes: Codes
    asked: BoolArray
    slices: Slices
    hidden: Callable[[int, int], BoolArray]
    found: QueryScores

    def results(self) -> Iterator[tuple[int, QueryScores]]:
        """The scores of each task, by its id: (T, Q) arrays cut to the task's own trials and queries."""
        start = 0
        for task in self.tasks:
            trials = slice(start, start + len(task.trials))
            own = np.searchsorted(self.queries, task.queries)
            yield id(task), self.found.pick(trials, own)
            start = trials.stop


@dataclass(frozen=True, eq=False)
class _Scorer:
    checked: Checked
    table: ImageTable
    distance: Distance
    device: torch.device
    block: int | None

    def score(self, rectangle: Rectangle) -> Iterator[tuple[int, QueryScores]]:
        """The scores of every task of ``rectangle``."""
        rows, columns = rectangle.rows, rectangle.columns
        straight = [self._group(tasks, rows, columns) for tasks in _by_rule(rectangle.straight)]
        flipped = [self._group(tasks, columns, rows) for tasks in _by_rule(rectangle.flipped)]
        block = len(rows) if flipped else self.block or product.block_rows(len(columns), self.checked.values.shape[1])
        at = 0
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for values in product.products(self.checked, rows, columns, self.device, block, self.distance):
                for group in straight:
                    self._score_block(pool, group, values, at)
                for group in flipped:
                    self._score_block(pool, group, values.T, 0)
                at += len(values)
        for group in (*straight, *flipped):
            yield from group.results()

    def _group(self, tasks: list[Task], queries: IntArray, columns: IntArray) -> _Group:
        identity = self.table.identity
        (query_codes, column_codes), identities = encode(identity[queries], identity[columns])
        trials = [trial for task in tasks for trial in task.trials]
        levels = [task.protocol.cmc for task in tasks for _ in task.trials]
        galleries = [np.searchsorted(columns, trial.gallery) for trial in trials]
        scale, shift = self.checked.scale_and_shift(columns, self.distance)
        return _Group(
            tasks=tasks,
            queries=queries,
            columns=columns,
            scale=scale,
            shift=shift,
            codes=asking(query_codes, identity[queries], identities),
            asked=np.stack([np.isin(queries, trial.query) for trial in trials]),
            slices=Slices.build(galleries, column_codes, identities + 1, levels),
            hidden=hidden_rule(tasks[0].protocol, self.table, queries, columns),
            found=QueryScores.empty(len(trials), len(queries)),
        )

    def _score_block(self, pool: ThreadPoolExecutor, group: _Group, values: Tensor, at: int) -> None:
        is_compiled = compiled(self.device)
        step = max(1, min(HIDDEN_ELEMENTS // len(group.columns), 256 if is_compiled else len(values)))

        def one(start: int) -> None:
            part = values[start : start + step]
            rows = slice(at + start, at + start + len(part))
            hidden = group.hidden(rows.start, rows.stop)
            common = (group.scale, group.shift, hidden, group.codes[rows], group.asked[:, rows], group.slices)
            found = score_compiled(part.numpy(), *common) if is_compiled else score_tensors(part, *common)
            group.found.put(rows.start, found)

        if is_compiled:
            list(pool.map(one, range(0, len(values), step)))
        else:
            for start in range(0, len(values), step):
                one(start)


def _by_rule(tasks: list[Task]) -> list[list[Task]]:
    ordered = sorted(tasks, key=lambda task: id(task.protocol.hidden))
    return [list(group) for _, group in groupby(ordered, key=lambda task: id(task.protocol.hidden))]


def hidden_rule(
    protocol: Protocol, table: ImageTable, queries: IntArray, columns: IntArray
) -> Callable[[int, int], BoolArray]:
    """The protocol's rule as a function of the first and last of some ``queries`` -> (b, G) bool against ``columns``.

    (b, 0) when it hides nothing.

    Raises:
        EvaluationError: when called, if the rule's answer has another shape.
    """
    gallery = None if protocol.hidden is nothing_hidden else table.take(columns)

    def rule(start: int, stop: int) -> BoolArray:
        if gallery is None:
            return np.zeros((stop - start, 0), np.bool_)
        mask = np.asarray(protocol.hidden(table.take(queries[start:stop]), gallery))
        if mask.shape != (stop - start, len(columns)) or mask.dtype != np.bool_:
            raise EvaluationError(
                f"{protocol.name}: 'hidden' must give booleans of shape {(stop - start, len(columns))}, got "
                f"{mask.dtype} {mask.shape}."
            )
        return np.ascontiguousarray(mask)

    return rule


def _report(protocol: Protocol, found: Sequence[TrialScores], distance: str, ranks: int) -> Report:
    rows, curves = [], []
    for one in found:
        own, trial = replace(one.scores, ranks=ranks), one.trial
        scored = own.scored
        if not scored.any():
            raise EvaluationError(
                f"{protocol.name}, trial {trial.name}: none of {len(scored):,} queries has a right image in its "
                "gallery. Do queries and gallery share identities, numbered alike?"
            )
        first = own.first[scored]
        rows.append(
            {
                "trial": trial.name,
                **{name: float((first <= rank).mean()) for name, rank in RANKS.items()},
                "mAP": float(own.average_precision[scored].mean()),
                "mINP": float(own.inp[scored].mean()),
                "scored": int(scored.sum()),
                "unscored": int((~scored).sum()),
                "ties": int(own.ties.sum()),
            }
        )
        curves.append(own.curve)
    return Report(protocol.name, protocol.cmc, distance, tuple(rows), np.stack(curves), protocol.note)
