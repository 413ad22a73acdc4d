"""A comparison of two systems as a value, and as text: a table for people, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

ComparisonFormat = Literal["table", "json", "csv", "markdown"]

HEAD = ("figure", "first", "second", "difference", "{level:g} % interval", "first better", "p")
FOOT = (
    "In percent.{trials}{seeds} Difference: first less second; interval, share and two-sided p-value from "
    "{resamples:,} paired resamples of people (seed {seed}); what another training would have given is not in them."
)
TRIALS = " ± is the population deviation over trials."
SEEDS = " 'seeds ±' is the sample deviation over training seeds."
WIDTH = 110  # of the note below a table


@dataclass(frozen=True)
class Score:
    """One figure of one side, in [0, 1].

    Attributes:
        mean: over trials and, in a group, over seeds.
        trial_std: population deviation over trials of the mean over seeds; the trials are all there are.
        seed_std: sample deviation over seeds of the mean over trials; None for a single seed.
    """

    mean: float
    trial_std: float
    seed_std: float | None = None


@dataclass(frozen=True)
class Row:
    """One figure of both sides; ``low`` to ``p_value`` as in :class:`visir.evaluation.bootstrap.Bootstrap`."""

    figure: str
    first: Score
    second: Score
    difference: float
    low: float
    high: float
    better: float
    p_value: float


@dataclass(frozen=True)
class ProtocolComparison:
    """All figures of one protocol.

    Attributes:
        protocol: its id; over several draws the shared id, with their number if there are fewer than all.
        trials: how many, over all draws.
        queries: that count in a trial (the fewest, should trials differ).
        unscored: queries of a trial without a right image, left out (the most, should trials differ).
        identities: people that are resampled.
        rows: one for each figure.
    """

    protocol: str
    trials: int
    queries: int
    unscored: int
    identities: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Side:
    """The runs of one side: their folders, method, seeds and draws."""

    runs: tuple[str, ...]
    method: str
    seeds: tuple[int, ...]
    draws: tuple[int, ...]

    def __str__(self) -> str:
        several = len(self.seeds) > 1
        seeds = f"{'seeds' if several else 'seed'} {', '.join(map(str, self.seeds))}"
        draws = f", draws {', '.join(map(str, self.draws))}" if len(self.draws) > 1 else ""
        return f"{', '.join(self.runs)} ({self.method}, {seeds}{draws})"


@dataclass(frozen=True)
class Comparison:
    """Two sides on the protocols that both were scored by.

    Attributes:
        resamples: draws of people for each interval.
        seed: of these draws.
        level: of the intervals, in (0, 1).
        warnings: what a reader must know before believing a difference.
    """

    first: Side
    second: Side
    protocols: tuple[ProtocolComparison, ...]
    resamples: int
    seed: int
    level: float
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; figures are fractions."""
        return asdict(self)


def format_comparisons(comparisons: Sequence[Comparison], form: ComparisonFormat = "table") -> str:
    """Comparisons as text, without a last newline: ``json`` is a list, ``csv`` a row for each figure of each protocol.

    ``table`` and ``markdown`` are in percent, ``json`` and ``csv`` hold fractions.
    """
    if form == "json":
        return json.dumps([one.as_dict() for one in comparisons], indent=2, ensure_ascii=False)
    if form == "csv":
        return _csv(comparisons)
    return "\n\n".join(map(_markdown if form == "markdown" else _table, comparisons))


def _table(one: Comparison) -> str:
    blocks = [f"first   {one.first}\nsecond  {one.second}"]
    for protocol in one.protocols:
        rows = [_head(one), *(_cells(row, protocol.trials) for row in protocol.rows)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(_padded(row, widths)) for row in rows]
        blocks.append("\n".join([_about(protocol), lines[0], "-" * len(lines[0]), *lines[1:]]))
    return "\n\n".join([*blocks, textwrap.fill(_foot(one), WIDTH)])


def _padded(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if place == 0 else cell.rjust(width)


def _markdown(one: Comparison) -> str:
    blocks = [f"First: {one.first}  \nSecond: {one.second}"]
    for protocol in one.protocols:
        head = _head(one)
        rows = [head, ["---", *["---:"] * (len(head) - 1)], *(_cells(row, protocol.trials) for row in protocol.rows)]
        blocks.append(f"**{_about(protocol)}**\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows))
    blocks += [f"Warning: {warning}" for warning in one.warnings]
    return "\n\n".join([*blocks, _foot(one)])


def _head(one: Comparison) -> list[str]:
    return [cell.format(level=100 * one.level) for cell in HEAD]


def _about(protocol: ProtocolComparison) -> str:
    trials = "1 trial" if protocol.trials == 1 else f"{protocol.trials} trials"
    without = f", {protocol.unscored:,} queries without a right image left out" if protocol.unscored else ""
    return f"{protocol.protocol}: {trials}, {protocol.queries:,} queries of {protocol.identities} people{without}"


def _foot(one: Comparison) -> str:
    trials = any(protocol.trials > 1 for protocol in one.protocols)
    seeds = any(row.first.seed_std is not None or row.second.seed_std is not None for row in one.protocols[0].rows)
    return FOOT.format(
        trials=TRIALS if trials else "", seeds=SEEDS if seeds else "", resamples=one.resamples, seed=one.seed
    )


def _cells(row: Row, trials: int) -> list[str]:
    return [
        row.figure,
        _percent(row.first, trials),
        _percent(row.second, trials),
        signed(row.difference),
        f"{signed(row.low)} .. {signed(row.high)}",
        f"{100 * row.better:.1f} %",
        f"{row.p_value:.4f}",
    ]


def _percent(score: Score, trials: int) -> str:
    over_trials = f" ±{100 * score.trial_std:.2f}" if trials > 1 else ""
    over_seeds = "" if score.seed_std is None else f" (seeds ±{100 * score.seed_std:.2f})"
    return f"{100 * score.mean:.2f}{over_trials}{over_seeds}"


def signed(fraction: float) -> str:
    """A difference in percent with its sign; none for zero.

    >>> signed(0.0123), signed(-0.5), signed(-0.00001)
    ('+1.23', '-50.00', '0.00')
    """
    text = f"{100 * fraction:+.2f}"
    return text if float(text) else text[1:]


def _csv(comparisons: Sequence[Comparison]) -> str:
    text = io.StringIO()
    rows = [_flat(one, protocol, row) for one in comparisons for protocol in one.protocols for row in protocol.rows]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def _flat(one: Comparison, protocol: ProtocolComparison, row: Row) -> Mapping[str, Any]:
    sides = {
        f"{name}_{key}": value for name in ("first", "second") for key, value in asdict(getattr(row, name)).items()
    }
    found = {key: getattr(row, key) for key in ("difference", "low", "high", "better", "p_value")}
    counts = {key: getattr(protocol, key) for key in ("trials", "queries", "unscored", "identities")}
    return {
        "first": ";".join(one.first.runs),
        "second": ";".join(one.second.runs),
        "protocol": protocol.protocol,
        "figure": row.figure,
        **sides,
        **found,
        **counts,
        "resamples": one.resamples,
        "seed": one.seed,
    }
