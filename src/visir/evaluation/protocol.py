"""A protocol is data plus two small functions. It speaks in row numbers, so images are embedded once and every trial
is a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from visir.core.types import BoolArray, ImageTable, IntArray

CmcLevel = Literal["image", "identity"]


@dataclass(frozen=True, eq=False)
class Trial:
    """One draw of queries and gallery.

    Attributes:
        name: "1" .. "10" or the like.
        query: (q,) int64 rows of the test table.
        gallery: (g,) int64 rows of the test table. The order decides ties: the earlier row ranks first.
    """

    name: str
    query: IntArray
    gallery: IntArray


def nothing_hidden(query: ImageTable, gallery: ImageTable) -> BoolArray:
    """(q, g) of False: every query sees the whole gallery."""
    return np.zeros((len(query), len(gallery)), np.bool_)


@dataclass(frozen=True)
class Protocol:
    """How a benchmark is scored.

    Attributes:
        name: the protocol id stored with every score, such as ``sysu-all-1-official``.
        trials: test table -> trials.
        hidden: query table (q rows), gallery table (g rows) -> (q, g) bool, True where the query does not see the
            gallery image. Called on blocks of queries.
        cmc: whether the cumulative match characteristic counts identities (SYSU-MM01, LLCM) or images.
        note: one sentence for reports: direction, gallery, rule.
    """

    name: str
    trials: Callable[[ImageTable], Sequence[Trial]]
    hidden: Callable[[ImageTable, ImageTable], BoolArray] = nothing_hidden
    cmc: CmcLevel = "image"
    note: str = ""
