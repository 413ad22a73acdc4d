"""Benchmarks by name: the files of this folder, or a dotted module name outside visir."""

from __future__ import annotations

from pathlib import Path

from visir.benchmarks.base import Benchmark
from visir.core import registry
from visir.core.errors import ConfigError, DatasetError

PACKAGE, SYMBOL = "visir.benchmarks", "BENCHMARK"


def available() -> list[str]:
    """Names of the benchmarks that ship with visir.

    >>> "sysu_mm01" in available()
    True
    """
    return registry.available(PACKAGE, SYMBOL)


def find(name: str) -> Benchmark:
    """The benchmark ``name``; a ConfigError names the nearest known one."""
    found = registry.find(PACKAGE, SYMBOL, name)
    if not isinstance(found, Benchmark):
        raise ConfigError(f"benchmark {name!r}: expected {SYMBOL} to be a Benchmark, got {type(found).__name__}.")
    return found


def recognise(root: Path) -> Benchmark:
    """The benchmark whose layout ``root`` has; ``folder`` is asked last because it accepts the most, also a table file.

    Raises:
        DatasetError: the root does not exist, or is like none of the known ones.
    """
    if not root.exists():
        raise DatasetError(f"{root}: no such folder. Give the folder that holds the data set (see docs/data.md).")
    names = sorted(available(), key=lambda name: name == "folder")
    for name in names:
        benchmark = find(name)
        if benchmark.recognise(root):
            return benchmark
    inside = ", ".join(sorted(p.name for p in root.iterdir())[:6] if root.is_dir() else ()) or "nothing"
    raise DatasetError(
        f"{root}: like none of {', '.join(names)}; it holds {inside}. "
        "SYSU-MM01 has cam1..cam6 and exp, RegDB has Visible, Thermal and idx, LLCM has vis, nir and "
        "idx; any other data set can have visible/<identity>/ and infrared/<identity>/, or a table index.csv."
    )
