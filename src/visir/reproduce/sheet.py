"""A table with both figures: what was printed and what visir got, cell by cell, before it is written in any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from visir.reproduce.outcome import Outcome

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Line:
    """One row of a table.

    Attributes:
        name: as printed, or the row's own name.
        system: what runs it; None when visir does not.
        published: protocol -> figures in percent.
        outcomes: protocol -> what the runs gave; a protocol without finished runs is missing.
        reason: why there are no outcomes.
        remarks: printing errors and the like.
        own: the publication's own system.
    """

    name: str
    system: str | None = None
    published: Mapping[str, Figures] = field(default_factory=dict)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    reason: str = ""
    remarks: tuple[str, ...] = ()
    own: bool = False

    def notes(self, protocol: str) -> list[str]:
        """Everything a reader of this row must know."""
        ours = self.outcomes.get(protocol)
        said = [self.reason] if ours is None and self.reason else list(ours.reasons) if ours else []
        return [*said, *self.remarks]


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes:
        title: source and name, such as "DFE, table1".
        caption: what it shows.
        columns: protocol -> its figures, in order.
        lines: the rows.
        notes: what holds for the whole table.
        comparable: whether differences from the printed figures mean anything; on a twin they do not.
    """

    title: str
    caption: str
    columns: Mapping[str, tuple[str, ...]]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    comparable: bool = True

    def difference(self, line: Line, protocol: str, figure: str) -> float | None:
        """Ours less the printed one, in points; None when either is missing or they are not comparable."""
        ours, printed = line.outcomes.get(protocol), line.published.get(protocol, {}).get(figure)
        return ours.mean[figure] - printed if self.comparable and ours is not None and printed is not None else None


@dataclass(frozen=True)
class Ordering:
    """One claim of a publication: a system is better than another.

    Attributes:
        better: system.
        worse: system.
        protocol: where it is looked at.
        printed: difference of mAP as printed, in points; None when one of the two is not printed.
        ours: difference of mAP in our runs; None while one is missing.
        interval: 95 % of it, by paired resampling of people.
        reason: why there is no difference of ours.
    """

    better: str
    worse: str
    protocol: str
    printed: float | None
    ours: float | None = None
    interval: tuple[float, float] | None = None
    reason: str = ""

    @property
    def verdict(self) -> str:
        """Whether it holds here: the interval has to leave zero out."""
        if self.ours is None or self.interval is None:
            return f"not run: {self.reason}" if self.reason else "not run"
        low, high = self.interval
        if low <= 0 <= high:
            return "undecided"
        return "holds" if low > 0 else "does not hold"


@dataclass(frozen=True)
class Results:
    """Everything one command made.

    Attributes:
        title: of the page.
        facts: sentences about data, budget and setting.
        sheets: the tables.
        orderings: the publications' claims.
        command: what made it.
    """

    title: str
    facts: tuple[str, ...]
    sheets: tuple[Sheet, ...]
    orderings: tuple[Ordering, ...] = ()
    command: str = ""


def columns(
    protocols: Sequence[str], figures: Sequence[str] = ("rank1", "rank10", "rank20", "mAP", "mINP")
) -> dict[str, tuple[str, ...]]:
    """The same figures for every protocol."""
    return {protocol: tuple(figures) for protocol in protocols}
