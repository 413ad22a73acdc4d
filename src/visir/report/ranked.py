"""Ranked lists as the papers print them: query framed blue, right matches green, wrong ones red, with their camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.patches import Rectangle

from visir.core.errors import EvaluationError
from visir.core.types import ImageTable, IntArray
from visir.evaluation.ranking import Ranking
from visir.report.pictures import blank, thumbnail
from visir.report.style import MUTED, QUERY, RIGHT, UNKNOWN, WRONG, Illustration, new_figure, printable, styled

Verdict = Literal["query", "right", "wrong", "unknown"]
FRAME = {"query": QUERY, "right": RIGHT, "wrong": WRONG, "unknown": UNKNOWN}
SIGN = {"query": "", "right": "✓", "wrong": "✗", "unknown": ""}


@dataclass(frozen=True)
class Shown:
    """One picture of a ranked list.

    Attributes:
        path: the image file.
        camera: its number or name; None if unknown.
        identity: as the data set or the gallery writes it; None if unknown.
        score: similarity to the query, larger is better; None for the query.
        correct: whether it shows the query's person; None if nobody knows.
    """

    path: Path
    camera: str | int | None = None
    identity: str | int | None = None
    score: float | None = None
    correct: bool | None = None

    @property
    def verdict(self) -> Verdict:
        """Which frame a match gets."""
        if self.correct is None:
            return "unknown"
        return "right" if self.correct else "wrong"


@dataclass(frozen=True)
class RankedList:
    """A query with its matches, best first, and a remark such as its average precision."""

    query: Shown
    matches: tuple[Shown, ...] = ()
    remark: str = ""


def hardest(ranking: Ranking, table: ImageTable, count: int) -> IntArray:
    """(m,) places in ``ranking.query`` of the scored queries with the lowest average precision, worst first.

    Different identities come first, so that one difficult person does not fill the page.
    """
    places = _scored(ranking)
    ordered = places[np.argsort(ranking.average_precision[places], kind="stable")]
    identity = table.identity[ranking.query[ordered]]
    _, firsts = np.unique(identity, return_index=True)
    fresh = np.zeros(len(ordered), np.bool_)
    fresh[firsts] = True
    chosen: IntArray = np.concatenate([ordered[fresh], ordered[~fresh]])[:count]
    return chosen[np.argsort(ranking.average_precision[chosen], kind="stable")]


def representative(ranking: Ranking, count: int) -> IntArray:
    """(m,) places in ``ranking.query`` at evenly spaced ranks of average precision, best first: nothing hand-picked."""
    places = _scored(ranking)
    ordered = places[np.argsort(-ranking.average_precision[places], kind="stable")]
    count = min(count, len(ordered))
    steps = ((np.arange(count) + 0.5) * len(ordered) / max(count, 1)).astype(np.int64)
    chosen: IntArray = ordered[steps]
    return chosen


def _scored(ranking: Ranking) -> IntArray:
    return np.flatnonzero(ranking.first > 0).astype(np.int64)  # 0: the gallery holds no match, so nothing to show


def from_ranking(ranking: Ranking, table: ImageTable, places: IntArray, *, top: int = 10) -> tuple[RankedList, ...]:
    """Ranked lists of some queries of an evaluated trial.

    Args:
        ranking: of one trial, with at least ``top`` hits if there are so many.
        table: the test table that its rows point into.
        places: (m,) places in ``ranking.query``.
        top: how many matches to show.
    """
    lists = []
    for place in places.tolist():
        query = int(ranking.query[place])
        matches = tuple(
            _shown(table, int(row), float(score), bool(correct))
            for row, score, correct in zip(
                ranking.hits[place, :top], ranking.scores[place, :top], ranking.correct[place, :top], strict=True
            )
            if row >= 0
        )
        precision = float(ranking.average_precision[place])
        remark = f"average precision {100 * precision:.1f} %, {_first_right(matches)}"
        lists.append(RankedList(_shown(table, query), matches, remark))
    return tuple(lists)


def _first_right(matches: Sequence[Shown]) -> str:
    for number, match in enumerate(matches, 1):
        if match.correct:
            return f"first right match at rank {number}"
    return f"no right match among the first {len(matches)}"


def _shown(table: ImageTable, row: int, score: float | None = None, correct: bool | None = None) -> Shown:
    identity = int(table.identity[row])
    return Shown(table.file(row), int(table.camera[row]), identity if identity >= 0 else None, score, correct)


CELL, GAP, GUTTER = 1.0, 0.1, 0.32  # width of a picture, space between pictures, extra space right of the query
LINE = 0.62  # height of the two lines of text under a picture


@styled
def ranked_lists(lists: Sequence[RankedList], *, name: str, title: str, caption: str) -> Illustration:
    """Draw ranked lists, one line each: the query, then its matches from left to right.

    Raises:
        EvaluationError: there is nothing to draw.
    """
    if not lists:
        raise EvaluationError("ranked lists: expected at least one query, got none.")
    columns = max(1, max(len(one.matches) for one in lists))
    step = 2 * CELL + LINE
    width, height = (columns + 1) * (CELL + GAP) + GUTTER, len(lists) * step + 0.3
    inches = 7.0 / width
    figure = new_figure(7.0, height * inches + 0.35)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_axis_off()
    for rank in range(columns):
        _words(axes, _left(rank + 1), 0.03, f"rank {rank + 1}", colour=MUTED, below=False)
    _words(axes, _left(0), 0.03, "query", colour=QUERY, below=False)
    for line, one in enumerate(lists):
        top = line * step + 0.2
        _cell(axes, one.query, "query", _left(0), top, caption=_subject(one.query))
        for place, match in enumerate(one.matches):
            _cell(axes, match, match.verdict, _left(place + 1), top, caption=_match_words(match))
    axes.set_xlim(-0.08, width - GAP + 0.08)
    axes.set_ylim(height - 0.1, -0.15)
    axes.set_aspect("equal")
    return Illustration(name, title, caption, _alternative(lists), figure)


def _left(column: int) -> float:
    return column * (CELL + GAP) + (GUTTER if column else 0.0)


def _cell(axes: Any, shown: Shown, verdict: Verdict, left: float, top: float, *, caption: str) -> None:
    picture = thumbnail(shown.path)
    box = (left, left + CELL, top + 2 * CELL, top)
    axes.imshow(blank() if picture is None else picture, extent=box, interpolation="none", zorder=1)
    frame = Rectangle((left, top), CELL, 2 * CELL, fill=False, edgecolor=FRAME[verdict], linewidth=2.0, zorder=2)
    axes.add_patch(frame)
    if shown.camera is not None:
        _badge(axes, left + 0.07, top + 0.2, printable(shown.camera, 4), "#1F2430", align="left")
    if SIGN[verdict]:
        _badge(axes, left + CELL - 0.07, top + 0.2, SIGN[verdict], FRAME[verdict], align="right")
    _words(axes, left, top + 2 * CELL + 0.07, caption, colour=FRAME[verdict] if verdict == "query" else MUTED)


def _badge(axes: Any, x: float, y: float, text: str, colour: str, *, align: str) -> None:
    box = {"boxstyle": "round,pad=0.18", "facecolor": colour, "edgecolor": "none", "alpha": 0.85}
    axes.text(x, y, text, color="white", fontsize=5.5, fontweight="bold", ha=align, va="center", bbox=box, zorder=3)


def _words(axes: Any, left: float, y: float, text: str, *, colour: str, below: bool = True) -> None:
    axes.text(
        left + CELL / 2, y, text, color=colour, fontsize=5.2, ha="center", va="top" if below else "bottom",
        linespacing=1.15,
    )  # fmt: skip


def similarity(score: float) -> str:
    """A score with three decimals, a true minus sign and no negative zero.

    >>> similarity(-0.0004), similarity(-0.25)
    ('0.000', '−0.250')
    """
    return f"{round(score, 3) + 0.0:.3f}".replace("-", "−")


def _subject(shown: Shown) -> str:
    return "" if shown.identity is None else f"id {printable(shown.identity, 9)}"


def _match_words(match: Shown) -> str:
    score = "" if match.score is None else similarity(match.score)
    return "\n".join(part for part in (_subject(match), score) if part)


def _alternative(lists: Sequence[RankedList]) -> str:
    known = [match.correct for one in lists for match in one.matches if match.correct is not None]
    shown = sum(len(one.matches) for one in lists)
    verdict = f" {sum(known)} of {len(known)} matches are right." if known else ""
    return f"{len(lists)} queries with {shown} matches in ranked order.{verdict}"
