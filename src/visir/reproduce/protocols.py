"""Which data set a published protocol id belongs to."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.base import without_partition
from visir.core.errors import ConfigError, nearest


def benchmark_of(protocol: str) -> str:
    """The benchmark of a protocol id, with or without its partition.

    >>> benchmark_of("regdb-v2t-img")
    'regdb'

    Raises:
        ConfigError: no benchmark that ships with visir has it.
    """
    known = _known()
    if without_partition(protocol) not in known:
        raise ConfigError(f"unknown protocol {protocol!r}. {nearest(protocol, known)}")
    return known[without_partition(protocol)]


@functools.cache
def _known() -> Mapping[str, str]:
    return {
        without_partition(protocol): name
        for name in benchmarks.available()
        for protocol in benchmarks.find(name).protocols(1)
    }
