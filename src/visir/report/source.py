"""What a run folder holds, read and checked: configuration, scores, features with their table, training log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visir.benchmarks import catalog
from visir.benchmarks.manifest import read_manifest
from visir.core.config import read_yaml
from visir.core.errors import ConfigError, EvaluationError, VisirError
from visir.core.types import ImageTable
from visir.evaluation.product import Features
from visir.evaluation.protocol import Protocol
from visir.evaluation.report import Report
from visir.evaluation.scorefile import load_features
from visir.report.features import unit_length
from visir.report.log import TrainingLog, read_log

UNTRAINED = "features-untrained.npz"  # optional: the same images through the network before training
LEFT_BY = {
    "experiment.yaml": "visir train CONFIG --run {run}",
    "log.jsonl": "visir train CONFIG --run {run}",
    "scores.json": "visir evaluate {run}",
    "features.npz": "visir evaluate {run}",
}


@dataclass(frozen=True, eq=False)
class Look:
    """A picture that a run drew of what its method does, such as translations: name, file and a sentence."""

    name: str
    file: Path
    caption: str


@dataclass(frozen=True, eq=False)
class Run:
    """The content of a run folder.

    Attributes:
        folder: where it is.
        config: the resolved configuration as plain YAML values.
        config_text: the same, as the file has it.
        reports: scores of this run, the first one being the main protocol.
        comparisons: label -> scores of something else on the same test images, such as the untrained network; the
            optional key of that name in scores.json.
        facts: single values that the evaluation left beside the scores.
        features: (n, D) of the test images, as they were evaluated.
        table: the n test images.
        untrained: (n, D) of the same images before training, or None.
        log: the training log.
        looks: what the method showed of itself at the end of its training.
        title: the benchmark as the literature writes it; a synthetic twin is called one.
        notes: what was left out, and why.
    """

    folder: Path
    config: Mapping[str, Any]
    config_text: str
    reports: tuple[Report, ...]
    comparisons: Mapping[str, tuple[Report, ...]]
    facts: Mapping[str, str]
    features: Features
    table: ImageTable
    untrained: Features | None
    log: TrainingLog
    looks: tuple[Look, ...]
    title: str
    notes: tuple[str, ...] = field(default=())

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.config.get("method", "unknown"))

    def protocol(self, name: str) -> Protocol:
        """The protocol ``name`` of this run's benchmark and draw.

        Raises:
            EvaluationError: the benchmark has no such protocol.
        """
        benchmark = _section(self.config, "benchmark")
        draw = benchmark.get("draw", 1)
        known = catalog.find(str(benchmark.get("name"))).protocols(draw if isinstance(draw, int) else 1)
        if name not in known:
            raise EvaluationError(f"{benchmark.get('name')}: no protocol {name!r}; it has {', '.join(known)}.")
        return known[name]

    def published(self) -> Mapping[str, Mapping[str, Any]]:
        """Protocol id -> published figures in percent, with their source."""
        found = _section(self.config, "published")
        return {str(name): values for name, values in found.items() if isinstance(values, Mapping)}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ConfigError: it is no run folder or lacks a file; the command that makes the file is named.
        EvaluationError: scores or features that cannot be read or do not fit each other.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such run folder. 'visir train CONFIG --run {folder}' makes one.")
    for name, command in LEFT_BY.items():
        if not (folder / name).is_file():
            raise ConfigError(f"{folder}: {name} is missing; '{command.format(run=folder)}' makes it.")
    config = read_yaml(folder / "experiment.yaml")
    scores = _read_scores(folder / "scores.json")
    features, table = _read_features(folder / "features.npz")
    notes: list[str] = []
    log = read_log(folder / "log.jsonl")
    if log.damaged:
        lines = "1 damaged line" if log.damaged == 1 else f"{log.damaged} damaged lines"
        notes.append(f"log.jsonl: {lines} left out.")
    return Run(
        folder=folder,
        config=config,
        config_text=(folder / "experiment.yaml").read_text(encoding="utf-8"),
        reports=tuple(map(Report.from_dict, scores["reports"])),
        comparisons={label: tuple(map(Report.from_dict, found)) for label, found in scores["comparisons"].items()},
        facts={k: str(v) for k, v in scores.items() if isinstance(v, str | int | float | bool)},
        features=features,
        table=table,
        untrained=_read_untrained(folder / UNTRAINED, table, notes),
        log=log,
        looks=_read_looks(folder / "pictures"),
        title=_title(config, table, notes),
        notes=(*notes, *log.notes),
    )


def _title(config: Mapping[str, Any], table: ImageTable, notes: list[str]) -> str:
    name = str(_section(config, "benchmark").get("name", "unknown"))
    try:
        title, synthetic = catalog.find(name).title, read_manifest(table.root) is not None
    except VisirError:
        return name
    if synthetic:
        notes.append("The pictures are synthetic (a twin): scores on them are not comparable with published ones.")
    return f"{title}, synthetic twin" if synthetic else title


def _read_scores(path: Path) -> Mapping[str, Any]:
    repair = f"run 'visir evaluate {path.parent}' again."
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise EvaluationError(f"{path}: expected JSON, got a damaged file ({error}); {repair}") from error
    if not isinstance(scores, dict) or not isinstance(scores.get("reports"), list) or not scores["reports"]:
        raise EvaluationError(f"{path}: expected a list 'reports' with at least one report; {repair}")
    others = scores.setdefault("comparisons", {})
    if not isinstance(others, dict) or not all(isinstance(found, list) for found in others.values()):
        raise EvaluationError(f"{path}: expected 'comparisons' to give a list of reports for each label; {repair}")
    return scores


def _read_features(path: Path) -> tuple[Features, ImageTable]:
    features, table = load_features(path)
    unit_length(features, table)  # raises unless there is one finite row for each image
    return features, table


def _read_untrained(path: Path, table: ImageTable, notes: list[str]) -> Features | None:
    if not path.is_file():
        return None
    try:
        features, own = _read_features(path)
    except VisirError as error:
        notes.append(f"Untrained features left out: {error}")
        return None
    if own.paths != table.paths:
        notes.append(f"Untrained features left out: {path.name} is of other images than features.npz.")
        return None
    return features


def _read_looks(folder: Path) -> tuple[Look, ...]:
    """The newest picture of every kind; none of a damaged index."""
    try:
        grids = json.loads((folder / "pictures.json").read_text(encoding="utf-8"))["grids"]
        return tuple(Look(str(n), folder / str(g["file"]), str(g["caption"])) for n, g in sorted(grids.items()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()
