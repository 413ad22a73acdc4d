"""The contract of a benchmark file: it ends in ``BENCHMARK = Benchmark(...)`` and is found by its presence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from visir.core.types import ImageTable
from visir.evaluation.protocol import Protocol

Split = Literal["train", "validation", "trainval", "test"]
Severity = Literal["error", "warning", "note"]
_PARTITION = re.compile(r"-t(\d+)-")


def partition_of(protocol: str) -> int | None:
    """The partition that a protocol id names, None when it names none.

    >>> partition_of("regdb-t03-v2t-img"), partition_of("sysu-all-1-official")
    (3, None)
    """
    found = _PARTITION.search(protocol)
    return int(found.group(1)) if found else None


def without_partition(protocol: str) -> str:
    """The protocol id that all partitions share, under which figures are published.

    >>> without_partition("regdb-t03-v2t-img")
    'regdb-v2t-img'
    """
    return _PARTITION.sub("-", protocol)


@dataclass(frozen=True)
class Finding:
    """One thing the doctor noticed: what, where, and what mends it."""

    severity: Severity
    what: str
    repair: str = ""
    path: str = ""


def nothing_counted(root: Path) -> Mapping[str, int]:
    """No counts: the doctor then shows the findings alone."""
    return {}


@dataclass(frozen=True)
class Benchmark:
    """A data set with its official protocols.

    Attributes:
        name: file name of the benchmark, such as ``sysu_mm01``.
        title: as the literature writes it, such as ``SYSU-MM01``.
        infrared: the band of its infrared cameras.
        read: root, split, draw -> table, rows in documented order. ``trainval`` is all training identities;
            ``train`` and ``validation`` part it by identity; nothing is ever selected on ``test``.
            Raises DatasetError with the likely repair.
        protocols: draw -> protocol id -> protocol, the default first. ``draw`` is 1..draws.
        validation: draw -> the protocol used on the validation table during training.
        recognise: root -> whether the folder looks like this data set (also when parts are missing).
        inspect: root -> structural findings (missing split files, stray files, wrong nesting, counts that differ from
            ``published`` or from the twin's own manifest). Unreadable images are looked for by the doctor itself.
        draws: number of train/test partitions (RegDB: 10).
        published: the published counts, by name, for the doctor's table.
        count: root -> what is there, under the names of ``published`` (and of a twin's manifest), as far as it can be
            counted: ``identities_<split>``, else images under the name of their folder. Further names are shown without
            an expected value. Must not raise on a damaged data set.
    """

    name: str
    title: str
    infrared: Literal["near-infrared", "thermal", "any"]
    read: Callable[[Path, Split, int], ImageTable]
    protocols: Callable[[int], Mapping[str, Protocol]]
    validation: Callable[[int], Protocol]
    recognise: Callable[[Path], bool]
    inspect: Callable[[Path], Sequence[Finding]]
    draws: int = 1
    published: Mapping[str, int] = field(default_factory=dict)
    count: Callable[[Path], Mapping[str, int]] = nothing_counted
