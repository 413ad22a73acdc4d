"""Publications, their tables and rows as values. Numbers are decimals in percent, with the digits that are printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Literal, NamedTuple

from visir.core.errors import ConfigError, nearest

FIGURES = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")
RANKS = FIGURES[:4]
Evidence = Literal["read", "quoted", "unchecked"]
EVIDENCE: tuple[Evidence, ...] = ("read", "quoted", "unchecked")
Figures = Mapping[str, Mapping[str, Decimal]]  # protocol id -> figure -> percent


def nothing() -> Figures:
    """No figures."""
    return MappingProxyType({})


@dataclass(frozen=True)
class Column:
    """One column of a table: the protocol as visir names it, and its figures in printed order."""

    protocol: str
    figures: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Row:
    """One row of a table.

    Attributes:
        name: as printed.
        system: what runs it in visir: a method, or a method and a row of its ``ablation.yaml`` as ``dfe/baseline``;
            None when visir does not run it.
        printed: protocol id -> figure -> percent, as printed; what is not printed is absent.
        own: it is the publication's own system.
        corrected: the right values of misprints, as far as they are known.
        recalled: values of later papers by memory, verified by nobody; never returned as published.
        ticks: the columns of an ablation table that are ticked in this row.
        missing: why visir does not run it.
        errors: misprints and suspect values; an error about figures names them (``rank20``, ``mAP``).
        notes: what else a reader must know.
        alias: the name by which other rows print the same system; empty when ``name`` is that.
        source: where the row was read, when not in the publication itself.
        evidence: ``read`` in the publication or its authors' README, ``quoted`` by another publication, or
            ``unchecked`` (notes, a leaderboard).
    """

    name: str
    system: str | None
    printed: Figures
    own: bool = False
    corrected: Figures = field(default_factory=nothing)
    recalled: Figures = field(default_factory=nothing)
    ticks: tuple[str, ...] = ()
    missing: str = ""
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    alias: str = ""
    source: str = ""
    evidence: Evidence = "read"

    @property
    def identity(self) -> str:
        """What is equal for rows of the same system, in whatever publication: the system, or else the name."""
        return self.system or (self.alias or self.name).lower()

    def published(self, *, as_printed: bool = False) -> dict[str, dict[str, float]]:
        """Protocol id -> figure -> percent; with known misprints corrected unless ``as_printed``."""
        found = {}
        for protocol, figures in self.printed.items():
            right = {} if as_printed else self.corrected.get(protocol, {})
            found[protocol] = {name: float(right.get(name, value)) for name, value in figures.items()}
        return found


@dataclass(frozen=True, eq=False)
class Table:
    """One table: its columns, its rows in printed order, errors and notes about the table as a whole."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def row(self, name: str) -> Row:
        """The row printed as ``name``.

        Raises:
            ConfigError: there is none; the nearest one is named.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise ConfigError(f"{self.name}: it has no row {name!r}. {nearest(name, (row.name for row in self.rows))}")


@dataclass(frozen=True, eq=False)
class Publication:
    """A publication with all its tables."""

    key: str
    title: str
    authors: str
    venue: str
    year: int
    tables: tuple[Table, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def citation(self) -> str:
        """Authors, title, venue and year in one line; of a collection, the title."""
        if self.authors == "various":
            return self.title
        year = "" if str(self.year) in self.venue else f" {self.year}"
        return f"{self.authors}, {self.title}, {self.venue}{year}"

    def table(self, name: str) -> Table:
        """The table ``name``.

        Raises:
            ConfigError: there is none; the nearest one is named.
        """
        for table in self.tables:
            if table.name == name:
                return table
        raise ConfigError(
            f"{self.key}: it has no table {name!r}. {nearest(name, (table.name for table in self.tables))}"
        )


class Quote(NamedTuple):
    """What one row of one table prints of a system under one protocol: figure -> percent, misprints corrected."""

    publication: Publication
    table: Table
    row: Row
    figures: Mapping[str, float]
