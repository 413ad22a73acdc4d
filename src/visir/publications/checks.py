"""Rows of the same system in several tables agree with one another, or one of them says why not."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

from visir.publications.model import Publication, Row, Table


class Place(NamedTuple):
    """One printed number and where it stands."""

    publication: Publication
    table: Table
    row: Row
    protocol: str
    figure: str
    value: Decimal

    def __str__(self) -> str:
        return f"{self.publication.key} {self.table.name} {self.row.name!r} {self.protocol} {self.figure} {self.value}"


class Contradiction(NamedTuple):
    """Two printed numbers of one system, protocol and figure that differ by more than their last digits allow."""

    first: Place
    second: Place

    @property
    def explained(self) -> bool:
        """Whether an error of one of the two rows names the figure."""
        return any(names(place.row, place.figure) for place in self)

    def __str__(self) -> str:
        return f"{self.first} / {self.second}"


def names(row: Row, figure: str) -> bool:
    """Whether a known error of ``row`` is about ``figure``."""
    return any(re.search(rf"\b{figure}\b", error) for error in row.errors)


def agree(one: Decimal, other: Decimal) -> bool:
    """Whether the number with fewer decimals can be the other one, rounded.

    >>> agree(Decimal("47.7"), Decimal("47.65")), agree(Decimal("20.08"), Decimal("20.80"))
    (True, False)
    """
    decimals = min(-int(value.as_tuple().exponent) for value in (one, other))
    return abs(one - other) <= Decimal(5).scaleb(-decimals - 1)


def places(publications: Iterable[Publication]) -> Iterator[Place]:
    """Every printed number."""
    for publication in publications:
        for table in publication.tables:
            for row in table.rows:
                for protocol, figures in row.printed.items():
                    for figure, value in figures.items():
                        yield Place(publication, table, row, protocol, figure, value)


def contradictions(publications: Iterable[Publication]) -> list[Contradiction]:
    """All pairs of printed numbers that cannot both be right, explained ones too.

    Numbers with official and with seeded galleries are held against each other: tables quote one beside the other.
    """
    groups: dict[tuple[str, str, str], list[Place]] = {}
    for place in places(publications):
        family = re.sub(r"-(official|seeded)$", "", place.protocol)
        groups.setdefault((place.row.identity, family, place.figure), []).append(place)
    return [
        Contradiction(first, second)
        for group in groups.values()
        for first, second in itertools.combinations(group, 2)
        if not agree(first.value, second.value)
    ]
