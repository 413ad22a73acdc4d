"""The publications that ship with visir, by name and by system. A file is read when it is first asked for."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from visir.core.errors import ConfigError, nearest
from visir.publications.model import Publication, Quote, Row, Table
from visir.publications.reading import read

DATA = Path(__file__).parent / "data"


def available() -> list[str]:
    """Keys of the publications, sorted; nothing is read.

    >>> "base_derivative" in available()
    True
    """
    return sorted(path.stem for path in DATA.glob("*.yaml"))


def find(key: str) -> Publication:
    """The publication ``key``; hyphens count as underscores.

    >>> find("base-derivative").year
    2020

    Raises:
        ConfigError: there is none; the nearest known one is named.
    """
    plain = key.replace("-", "_")
    if plain not in available():
        raise ConfigError(f"unknown publication {key!r}. {nearest(plain, available())}")
    return _read(plain)


@functools.cache
def _read(key: str) -> Publication:
    return read(DATA / f"{key}.yaml")


@functools.cache
def _by_system() -> Mapping[str, list[tuple[Publication, Table, Row]]]:
    found: dict[str, list[tuple[Publication, Table, Row]]] = {}
    for publication in map(find, available()):
        for table in publication.tables:
            for row in table.rows:
                if row.system is not None:
                    found.setdefault(row.system, []).append((publication, table, row))
    return found


def systems() -> list[str]:
    """Every system that some row names, such as ``dfe/full``, sorted."""
    return sorted(_by_system())


def figures(system: str, protocol: str) -> list[Quote]:
    """Everything that is printed about a system under a protocol, misprints corrected; the system's own publications
    first, then by key. Empty for what is printed nowhere, such as a system of one's own.

    Args:
        system: as :attr:`Row.system`, such as ``dfe/full`` or ``tone``; hyphens of the method count as underscores.
        protocol: a protocol id as visir names it; those of RegDB without their partition, ``regdb-v2t-img``.

    >>> [(quote.publication.key, quote.table.name) for quote in figures("dfe/full", "regdb-v2t-img")]
    [('dfe', 'table3'), ('dfe', 'table4')]
    >>> figures("dfe/full", "regdb-v2t-img")[0].figures["rank1"]
    70.13
    """
    method, slash, row_name = system.partition("/")
    quotes = [
        Quote(publication, table, row, row.published()[protocol])
        for publication, table, row in _by_system().get(f"{method.replace('-', '_')}{slash}{row_name}", [])
        if protocol in row.printed
    ]
    return sorted(quotes, key=lambda quote: not quote.row.own)
