"""Ablation files: rows as flat differences over one or several base experiments, each of depth one.

    base: [sysu_mm01.yaml, regdb.yaml]
    seeds: [0, 1, 2]
    rows:
      - {name: full}
      - {name: baseline, set: {with.beta: 0.0, with.gamma: 0.0}}
      - {name: original-proportion, only: [regdb], set: {with.beta: 1.0}}

A row without ``set`` is its base as it is. ``only`` names the benchmarks for which a row exists. A file whose rows vary
a number may say how they are drawn:

    figure:
      title: How much correlation
      along: weight of the correlation loss
      curves: {alone: {0.1: weak, 1: full}}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visir.core import config as core
from visir.core.errors import ConfigError, nearest
from visir.experiment.config import Experiment, build, overlaid, read_with_base
from visir.experiment.shipped import ABLATION, FOLDER


@dataclass(frozen=True)
class Row:
    """One row: its name, its difference from the base, and the benchmarks it exists for (empty: all)."""

    name: str
    set: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """How rows that vary a number are drawn.

    Attributes:
        title: of the figure.
        along: what the number is, for the axis.
        curves: label -> number above 0 -> row.
    """

    title: str
    along: str
    curves: Mapping[str, Mapping[float, str]]


@dataclass(frozen=True)
class Ablation:
    """A file of rows.

    Attributes:
        name: how its rows are called: the folder of a shipped file (``dfe``), else the file's own name.
        bases: benchmark -> base experiment file.
        rows: in the order of the file.
        seeds: each row is trained once for each.
        shipped: it came with visir, so its rows are the systems that published numbers are known of.
        figure: how the rows are drawn; None for tables alone.
    """

    name: str
    bases: Mapping[str, Path]
    rows: tuple[Row, ...]
    seeds: tuple[int, ...] = (0,)
    shipped: bool = False
    figure: Sweep | None = None

    def benchmarks(self, row: Row) -> list[str]:
        """The benchmarks that a row exists for."""
        return [name for name in self.bases if not row.only or name in row.only]

    def experiment(
        self,
        row: Row,
        benchmark: str,
        *,
        below: Mapping[str, Any] | None = None,
        settings: Sequence[str] = (),
        values: Mapping[str, Any] | None = None,
    ) -> Experiment:
        """The complete experiment of one row on one benchmark.

        Each goes over what stands before: the base, the row's ``set``, ``below`` (such as a common budget),
        ``settings`` (what the user says), ``values`` (partition, seed, folder).
        """
        content = read_with_base(self.bases[benchmark])
        content["published"] = self.system(row) if self.shipped else {}
        for key, value in {**row.set, **(below or {})}.items():
            core.set_dotted(content, key, value)
        return build(overlaid(content, settings, values))

    def system(self, row: Row) -> str:
        """How a row is called: ``dfe/baseline``, or ``tone`` for a file with one row of its own name."""
        return self.name if row.name == self.name else f"{self.name}/{row.name}"


KEYS = ("base", "seeds", "rows", "figure")
LONGEST = 80  # characters of a row's name: it becomes part of a folder's name
FIXED = {  # keys that a row cannot set, and where they belong
    "seed": "give 'seeds' in the file, or --seeds",
    "published": "it is looked up, never set",
    **{f"benchmark.{name}": "it belongs into the base" for name in ("name", "root", "protocols")},
    "benchmark.draw": "give --draws",
}


def read_ablation(path: Path) -> Ablation:
    """Read an ablation file, or take a plain experiment file for an ablation of one row.

    Raises:
        ConfigError: a missing file, an unknown key, two rows of one name, or a base that cannot be read.
    """
    content = core.read_yaml(path)
    shipped = FOLDER in path.resolve().parents
    if "rows" not in content:
        name = path.resolve().parent.name if shipped else path.stem
        return Ablation(name, {_benchmark(path, content): path}, (Row(name),), shipped=shipped)
    for key in content:
        if key not in KEYS:
            raise ConfigError(f"{path}: unknown key {key!r}. {nearest(str(key), KEYS)}")
    listed = content.get("base")
    wanted = listed if isinstance(listed, list) else [listed]
    if not wanted or not all(isinstance(one, str) and one for one in wanted):
        raise ConfigError(f"{path}: base: expected an experiment file or a list of them, got {listed!r}.")
    files = [path.parent / str(one) for one in wanted]
    try:
        bases = {_benchmark(file, core.read_yaml(file)): file for file in files}
    except ConfigError as error:
        raise ConfigError(f"{path}: base: {error}") from error
    if len(bases) != len(files):
        raise ConfigError(f"{path}: base: expected files of different benchmarks, got {[file.name for file in files]}.")
    name = path.resolve().parent.name if shipped and path.stem == ABLATION else path.stem
    rows = _rows(path, content["rows"], tuple(bases))
    figure = _figure(path, content["figure"], rows) if "figure" in content else None
    return Ablation(name, bases, rows, _seeds(path, content.get("seeds", [0])), shipped, figure)


def _figure(path: Path, given: Any, rows: Sequence[Row]) -> Sweep:
    try:
        figure = core.parse(Sweep, given, where="figure")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    names = [row.name for row in rows]
    for label, curve in figure.curves.items():
        for value, name in curve.items():
            if name not in names:
                raise ConfigError(f"{path}: figure: curve {label!r}: unknown row {name!r}. {nearest(name, names)}")
            if not 0 < value < math.inf:
                raise ConfigError(f"{path}: figure: curve {label!r}: expected numbers above 0, got {value:g}.")
    return figure


def _benchmark(path: Path, content: Mapping[str, Any]) -> str:
    if "base" in content and "rows" not in content:
        content = read_with_base(path)
    section = content.get("benchmark")
    if not isinstance(section, Mapping) or "name" not in section:
        raise ConfigError(f"{path}: expected an experiment with a benchmark section and its name in it.")
    return str(section["name"])


def _rows(path: Path, given: Any, benchmarks: tuple[str, ...]) -> tuple[Row, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(row, Mapping) for row in given):
        raise ConfigError(f"{path}: rows: expected a list of rows such as '- {{name: full}}', got {given!r}.")
    try:
        rows = tuple(core.parse(Row, _listed(row), where=f"rows.{i}") for i, row in enumerate(given))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    names = [row.name for row in rows]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{path}: rows: two rows are named {twice!r}; give each its own name.")
    for row in rows:
        _check(path, row)
        for name in row.only:
            if name not in benchmarks:
                raise ConfigError(f"{path}: row {row.name!r}: only: {nearest(name, benchmarks)}")
    return rows


def _check(path: Path, row: Row) -> None:
    """Raise ConfigError for a name that no folder and no table can have, or a value that is no row's to set."""
    if row.name != row.name.strip() or not row.name.isprintable() or not 0 < len(row.name) <= LONGEST:
        raise ConfigError(
            f"{path}: rows: expected a name of 1 to {LONGEST} characters in one line, without spaces around it, got "
            f"{row.name[: LONGEST + 10]!r}."
        )
    for key, value in row.set.items():
        if key in FIXED:
            raise ConfigError(f"{path}: row {row.name!r}: set: a row cannot set {key!r}; {FIXED[key]}.")
        if key in ("benchmark", "with", "train") and (value or "method" not in row.set):
            raise ConfigError(
                f"{path}: row {row.name!r}: set: {key!r} would replace the whole section; give its keys one by one, "
                "such as with.dim."
            )


def _listed(row: Mapping[str, Any]) -> dict[str, Any]:
    only = row.get("only", [])
    return {**row, "only": [only] if isinstance(only, str) else only}


def _seeds(path: Path, given: Any) -> tuple[int, ...]:
    if not isinstance(given, list) or not given or not all(type(seed) is int for seed in given):
        raise ConfigError(f"{path}: seeds: expected a list of whole numbers such as [0, 1, 2], got {given!r}.")
    return tuple(dict.fromkeys(given))


def systems(benchmark: str | None = None) -> dict[str, tuple[Ablation, Row]]:
    """Every shipped system: ``dfe/full``, ``dfe/baseline``, ``two_stream``, each with where its experiments come from.

    A folder with an ablation file gives a system for every row, any other folder gives one of its own name.

    Args:
        benchmark: only those with an experiment on this benchmark.
    """
    found: dict[str, tuple[Ablation, Row]] = {}
    for folder in sorted(path for path in FOLDER.iterdir() if path.is_dir()):
        rows = folder / f"{ABLATION}.yaml"
        if rows.is_file():
            ablation = read_ablation(rows)
            found |= {ablation.system(row): (ablation, row) for row in ablation.rows}
            continue
        files = {_benchmark(path, core.read_yaml(path)): path for path in sorted(folder.glob("*.yaml"))}
        if files:
            found[folder.name] = (Ablation(folder.name, files, (Row(folder.name),), shipped=True), Row(folder.name))
    return {k: (a, r) for k, (a, r) in found.items() if benchmark is None or benchmark in a.benchmarks(r)}
