"""The publications' claims of what is better than what, held against our runs."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from visir import publications
from visir.core.errors import VisirError
from visir.experiment.compare import compare_runs
from visir.reproduce.jobs import Job
from visir.reproduce.outcome import finished as scored
from visir.reproduce.sheet import Ordering

FILE = Path(__file__).parent / "claims.yaml"
LOOKED_AT = {"sysu_mm01": "sysu-all-1-official", "regdb": "regdb-v2t-img"}
FIGURE = "mAP"

Need = tuple[str, str]  # system, benchmark


@functools.cache
def claims() -> tuple[tuple[str, str], ...]:
    """(better, worse) systems, in the order of the file."""
    return tuple((str(one["better"]), str(one["worse"])) for one in yaml.safe_load(FILE.read_text(encoding="utf-8")))


def orderings(jobs: Mapping[Need, Sequence[Job]], reasons: Mapping[Need, str]) -> Iterator[Ordering]:
    """Every claim on every benchmark of which at least one side was run.

    Args:
        jobs: the runs of each system on each benchmark.
        reasons: why there are none.
    """
    for benchmark, protocol in LOOKED_AT.items():
        finished = {
            system: [job.folder for job in found]
            for (system, where), found in jobs.items()
            if where == benchmark and found and all(scored(job) is not None for job in found)
        }
        for better, worse in claims():
            missing = [system for system in (better, worse) if system not in finished]
            printed = _printed(better, worse, protocol)
            if len(missing) == 2:
                continue
            if missing:
                reason = reasons.get((missing[0], benchmark), f"{missing[0]} is not among the rows")
                yield Ordering(better, worse, protocol, printed, reason=reason)
                continue
            yield _compared(better, worse, protocol, printed, finished[better], finished[worse])


def _compared(
    better: str, worse: str, protocol: str, printed: float | None, first: Sequence[Path], second: Sequence[Path]
) -> Ordering:
    try:
        found = compare_runs(first, second, protocols=[protocol]).protocols[0]
    except VisirError as error:  # such as runs of another test set
        return Ordering(better, worse, protocol, printed, reason=str(error))
    row = next(row for row in found.rows if row.figure == FIGURE)
    interval = (100 * row.low, 100 * row.high)
    return Ordering(better, worse, found.protocol, printed, 100 * row.difference, interval)


def _printed(better: str, worse: str, protocol: str) -> float | None:
    """Difference of the printed mAP, of one table where one prints both."""
    first, second = (
        [quote for quote in publications.figures(system, protocol) if FIGURE in quote.figures]
        for system in (better, worse)
    )
    for one in first:
        for other in second:
            if one.table is other.table:
                return one.figures[FIGURE] - other.figures[FIGURE]
    return first[0].figures[FIGURE] - second[0].figures[FIGURE] if first and second else None
