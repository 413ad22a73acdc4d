"""Which products an evaluation needs: every trial is a slice of few rectangles of queries x gallery images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from visir.core.errors import EvaluationError
from visir.core.types import ImageTable, IntArray
from visir.evaluation.protocol import Protocol, Trial


@dataclass(frozen=True, eq=False)
class Task:
    """One protocol with its trials on the table at hand, and the distinct rows that they use, ascending."""

    protocol: Protocol
    trials: tuple[Trial, ...]
    queries: IntArray
    gallery: IntArray

    @classmethod
    def of(cls, protocol: Protocol, table: ImageTable) -> Task:
        """Ask the protocol for its trials and check them.

        Raises:
            EvaluationError: no trials, a trial without queries or gallery, or one whose rows are outside the table or
                repeat.
        """
        trials = tuple(protocol.trials(table))
        if not trials:
            raise EvaluationError(f"{protocol.name}: the protocol makes no trials of this table.")
        for trial in trials:
            _check(protocol.name, trial, len(table))
        queries, gallery = (
            np.unique(np.concatenate([getattr(trial, side) for trial in trials])) for side in ("query", "gallery")
        )
        return cls(protocol, trials, queries.astype(np.int64), gallery.astype(np.int64))


def _check(name: str, trial: Trial, images: int) -> None:
    for side, rows in (("query", trial.query), ("gallery", trial.gallery)):
        where = f"{name}, trial {trial.name}: the {side}"
        if len(rows) == 0:
            raise EvaluationError(f"{where} is empty; does the table hold the images that the protocol asks for?")
        if rows.min() < 0 or rows.max() >= images:
            raise EvaluationError(f"{where} has rows {rows.min()}..{rows.max()} of a table of {images:,} images.")
        if len(np.unique(rows)) < len(rows):
            raise EvaluationError(f"{where} holds an image twice; every row may stand there once.")


@dataclass(eq=False)
class Rectangle:
    """Rows x columns to multiply, with the tasks that it serves; ``flipped`` ones have their queries in the columns."""

    rows: IntArray
    columns: IntArray
    straight: list[Task] = field(default_factory=list)
    flipped: list[Task] = field(default_factory=list)

    @property
    def area(self) -> int:
        """Number of products."""
        return len(self.rows) * len(self.columns)


def rectangles(tasks: Sequence[Task], block_elements: int) -> list[Rectangle]:
    """Few rectangles that hold every task: tasks share one when that multiplies less than two would.

    A task with queries and gallery swapped joins only a rectangle of at most ``block_elements``, which is whole in
    memory at one time.
    """
    found: list[Rectangle] = []
    for task in tasks:
        for shared in found:
            if _join(shared, task, flip=False, block_elements=block_elements):
                break
            if _join(shared, task, flip=True, block_elements=block_elements):
                break
        else:
            found.append(Rectangle(task.queries, task.gallery, [task]))
    return found


def _join(shared: Rectangle, task: Task, *, flip: bool, block_elements: int) -> bool:
    across, down = (task.queries, task.gallery) if flip else (task.gallery, task.queries)
    grown = Rectangle(np.union1d(shared.rows, down), np.union1d(shared.columns, across))
    if grown.area > shared.area + len(task.queries) * len(task.gallery):
        return False
    if (flip or shared.flipped) and grown.area > block_elements:
        return False
    shared.rows, shared.columns = grown.rows, grown.columns
    (shared.flipped if flip else shared.straight).append(task)
    return True
