"""Runs with scores, as they are read for a comparison, and which of them may stand in one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visir.benchmarks.base import without_partition
from visir.core.errors import ConfigError, EvaluationError, nearest
from visir.evaluation.product import DISTANCES
from visir.evaluation.report import Report
from visir.experiment.config import Experiment
from visir.experiment.folder import RunFolder

FREE = {  # keys in which runs of one experiment may differ: places, and what does not touch the weights
    "seed",
    "published",
    *(f"benchmark.{name}" for name in ("root", "draw", "protocols", "converted")),
    *(f"train.{name}" for name in ("workers", "cache_mib", "log_every", "validate_every", "save_every", "keep")),
}


@dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """A run with scores: its folder, experiment, reports by shared protocol id, and the warnings kept beside them."""

    path: Path
    experiment: Experiment
    reports: Mapping[str, Report]
    warnings: tuple[str, ...]

    @property
    def draw(self) -> int:
        """The train/test partition."""
        return self.experiment.benchmark.draw

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return self.experiment.seed


def read_evaluated(path: Path) -> EvaluatedRun:
    """Read a run folder's experiment and scores.

    Raises:
        ConfigError: not a run folder.
        EvaluationError: no scores yet, or damaged ones; the command that makes them is named.
    """
    folder = RunFolder(path)
    experiment = folder.read_experiment()
    if not folder.scores.is_file() or not folder.features.is_file():
        raise EvaluationError(f"{path}: expected an evaluated run, found no scores. Run: visir evaluate {path}")
    try:
        content = json.loads(folder.scores.read_text(encoding="utf-8"))
        reports = [Report.from_dict(one) for one in content["reports"]]
        if not reports or any(report.distance not in DISTANCES for report in reports):
            raise ValueError("no report, or one by an unknown distance")
    except (ValueError, KeyError, TypeError, EvaluationError) as error:
        raise EvaluationError(
            f"{folder.scores}: expected the scores of 'visir evaluate', got a damaged file. Run: visir evaluate {path}"
        ) from error
    warnings = tuple(str(value) for key, value in content.items() if key.startswith("warning, "))
    return EvaluatedRun(path, experiment, {without_partition(report.protocol): report for report in reports}, warnings)


def check_group(runs: Sequence[EvaluatedRun]) -> None:
    """Raise EvaluationError unless the runs are seeds and draws of one experiment, each once, all seeds in all draws.

    With a single run of each draw, its seed may be any.
    """
    first, places = runs[0], dict[tuple[int, int], EvaluatedRun]()
    for run in runs:
        differing = list(_differences(first.experiment, run.experiment))
        if differing:
            raise EvaluationError(
                f"{first.path} and {run.path} are grouped but differ in {'; '.join(differing[:3])}. A group holds runs "
                "that differ in seed or draw alone; compare others with --against."
            )
        other = places.setdefault((run.draw, run.seed), run)
        if other is not run:
            raise EvaluationError(
                f"{other.path} and {run.path} both have draw {run.draw} and seed {run.seed}; expected each once in a "
                "group."
            )
    seeds = {draw: [run.seed for run in own] for draw, own in by_draw(runs).items()}
    if len({tuple(own) for own in seeds.values()}) > 1 and max(map(len, seeds.values())) > 1:
        listed = "; ".join(f"draw {draw} has {', '.join(map(str, own))}" for draw, own in seeds.items())
        raise EvaluationError(f"expected the same seeds in every draw of a group, got others: {listed}.")


def by_draw(runs: Sequence[EvaluatedRun]) -> dict[int, list[EvaluatedRun]]:
    """Draw -> its runs in order of seed, both ascending, so that the order of arguments decides nothing."""
    ordered = sorted(runs, key=lambda run: (run.draw, run.seed))
    return {draw: [run for run in ordered if run.draw == draw] for draw in sorted({run.draw for run in runs})}


def _differences(one: Experiment, other: Experiment) -> Iterator[str]:
    """The keys in which two experiments differ, other than those of :data:`FREE`, with both values."""
    left, right = (dict(_flat(experiment.resolved())) for experiment in (one, other))
    for key in [*left, *(key for key in right if key not in left)]:
        mine, theirs = left.get(key, "nothing"), right.get(key, "nothing")
        if key not in FREE and mine != theirs:
            yield f"{key} ({mine} and {theirs})"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and key not in FREE:
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def check_draws(first: Sequence[EvaluatedRun], second: Sequence[EvaluatedRun]) -> None:
    """Raise EvaluationError unless both sides were tested on the same draws of one benchmark."""
    one, other = first[0], second[0]
    names = [run.experiment.benchmark.name for run in (one, other)]
    if names[0] != names[1]:
        raise EvaluationError(
            f"{one.path} was tested on {names[0]}, {other.path} on {names[1]}; runs are compared on one data set."
        )
    mine, theirs = (sorted({run.draw for run in side}) for side in (first, second))
    if mine != theirs:
        texts = [f"draw{'s' if len(draws) > 1 else ''} {', '.join(map(str, draws))}" for draws in (mine, theirs)]
        whose = [", ".join(str(run.path) for run in side) for side in (first, second)]
        raise EvaluationError(
            f"{whose[0]} {_is(first)} of {texts[0]}, {whose[1]} of {texts[1]}; different draws are different test "
            "sets. Give the same draws on both sides, with --against between them."
        )


def _is(runs: Sequence[EvaluatedRun]) -> str:
    return "is" if len(runs) == 1 else "are"


def shared_protocols(sides: Sequence[Sequence[EvaluatedRun]], wanted: Sequence[str]) -> list[str]:
    """The ids without partition of the protocols that all runs were scored by, in the order of the first run.

    Raises:
        EvaluationError: there is none.
        ConfigError: a wanted one is not among them.
    """
    runs = [run for side in sides for run in side]
    common = [name for name in runs[0].reports if all(name in run.reports for run in runs)]
    if not common:
        other = next(run for run in runs if not set(run.reports) & set(runs[0].reports) or run is runs[-1])
        raise EvaluationError(
            f"no protocol in common: {runs[0].path} was scored by {', '.join(runs[0].reports)}, {other.path} by "
            f"{', '.join(other.reports)}; rows of different protocols are not compared. Run visir evaluate with the "
            "same --protocol for each."
        )
    for name in wanted:
        if without_partition(name) not in common:
            raise ConfigError(
                f"not all runs were scored by protocol {name!r}. {nearest(without_partition(name), common)}"
            )
    return [name for name in common if not wanted or name in map(without_partition, wanted)]
