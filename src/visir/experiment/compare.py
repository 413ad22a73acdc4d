"""Compare evaluated runs: only what was scored alike, on the same images, with the uncertainty of every difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visir.benchmarks import catalog as benchmarks
from visir.core.errors import ConfigError, DatasetError, EvaluationError
from visir.core.types import ImageTable
from visir.engine.runtime import choose_device
from visir.evaluation.bootstrap import PairedTrial, paired_bootstrap
from visir.evaluation.evaluate import TrialScores, score_each_query
from visir.evaluation.product import as_distance
from visir.evaluation.report import RANKS, Report
from visir.evaluation.scorefile import load_features
from visir.experiment.comparison import Comparison, ProtocolComparison, Row, Score, Side
from visir.experiment.evaluate import choose_protocols
from visir.experiment.evaluated import EvaluatedRun, by_draw, check_draws, check_group, read_evaluated, shared_protocols
from visir.experiment.folder import RunFolder

FIGURES = ("rank1", "rank10", "rank20", "mAP", "mINP")
FEW_PEOPLE = 30  # below, percentile intervals are clearly too narrow
LOOKED_AT = 200  # images, to see whether two copies of a data set are alike
STALE = 1e-3  # what another device may change in a figure; more means files of two evaluations
LEVEL = 0.95

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Scored:
    """What one run scored by one protocol, of its t trials.

    ``values`` are (q, m) figures of the q scored queries of each trial, ``identity`` the (q,) people.
    """

    trials: Sequence[TrialScores]
    identity: Sequence[npt.NDArray[np.int64]]
    values: Sequence[DoubleArray]

    def means(self) -> DoubleArray:
        """(t, m) the official figures."""
        return np.stack([values.mean(axis=0) for values in self.values])


def compare_runs(
    first: Sequence[Path],
    second: Sequence[Path],
    *,
    root: Path | None = None,
    protocols: Sequence[str] = (),
    resamples: int = 10_000,
    seed: int = 0,
    device: str | None = None,
) -> Comparison:
    """Compare two evaluated runs, or two groups of runs of one experiment each.

    Runs of a group differ in their seed, their draw, or both. Seeds are averaged query by query. Draws are different
    test sets: those of equal number are paired, and the differences within draws averaged. People are resampled for
    all draws together, because somebody who is tested in many draws brings the same difficulty to each.

    Args:
        first: one run folder or more.
        second: the same, with the same draws; their seeds may be others.
        root: folder of the data set, if it is no longer where the runs were evaluated.
        protocols: protocol ids; by default all that every run was scored by.
        resamples: draws of people for the intervals.
        seed: of these draws.
        device: None for a GPU where there is one.

    Raises:
        ConfigError: not a run folder, a protocol that not every run was scored by, or no such root or device.
        EvaluationError: a run without scores, or runs that cannot be compared; what differs is said.
    """
    if root is not None and not root.exists():
        raise ConfigError(
            f"--root {root}: no such folder. Give the folder of the data set that the runs were tested on."
        )
    if device is not None:
        device = str(choose_device(device))
    sides = [[read_evaluated(path) for path in paths] for paths in (first, second)]
    for side in sides:
        check_group(side)
    check_draws(*sides)
    names = shared_protocols(sides, protocols)
    runs = list({run.path: run for side in sides for run in side}.values())
    scored = _score(runs, names, root, device)
    labels = _labels(names, sides[0])
    rows = [_compare(label, name, sides, scored, resamples, seed) for label, name in zip(labels, names, strict=True)]
    warnings = [*_warnings(*sides), *_left_out(sides, names, protocols), *_few(rows)]
    return Comparison(_side(sides[0]), _side(sides[1]), tuple(rows), resamples, seed, LEVEL, tuple(warnings))


def _score(
    runs: Sequence[EvaluatedRun], names: Sequence[str], root: Path | None, device: str | None
) -> dict[tuple[Path, str], _Scored]:
    """(run, protocol) -> its queries' figures. Features are in memory for one run at a time."""
    found: dict[tuple[Path, str], _Scored] = {}
    known: dict[int, tuple[EvaluatedRun, ImageTable]] = {}
    for run in runs:
        features, table = load_features(RunFolder(run.path).features, root)
        reference, images = known.setdefault(run.draw, (run, table))
        _check_images((reference.path, images), (run.path, table))
        distance = as_distance(run.reports[names[0]].distance)
        try:
            chosen = choose_protocols(run.experiment, names)
            trials = score_each_query(features, table, chosen, distance=distance, device=device)
        except DatasetError as error:
            hint = "say where with --root" if root is None else "give another --root"
            raise EvaluationError(
                f"{run.path}: {error} If the data set is no longer at {table.root}, {hint}."
            ) from error
        except EvaluationError as error:
            raise EvaluationError(f"{run.path}: {error}") from error
        for name, rows in zip(names, trials, strict=True):
            found[run.path, name] = scored = _figures(rows, table)
            _check_stored(run, run.reports[name], scored)
            _check_trials(name, (reference.path, found[reference.path, name]), (run.path, scored))
    return found


def _figures(trials: Sequence[TrialScores], table: ImageTable) -> _Scored:
    identity, values = [], []
    for one in trials:
        own, kept = one.scores, one.scores.scored
        columns = {
            **{name: own.first <= rank for name, rank in RANKS.items()},
            "mAP": own.average_precision,
            "mINP": own.inp,
        }
        values.append(np.stack([columns[name][kept] for name in FIGURES], axis=1).astype(np.float64))
        identity.append(table.identity[one.query][kept])
    return _Scored(trials, identity, values)


def _check_images(one: tuple[Path, ImageTable], other: tuple[Path, ImageTable]) -> None:
    (path, mine), (other_path, theirs) = one, other
    if mine.paths != theirs.paths:
        only = [sorted(set(a.paths) - set(b.paths)) for a, b in ((mine, theirs), (theirs, mine))]
        parts = [
            f"{len(images)} images are in {where} alone, such as {images[0]}"
            for images, where in zip(only, (path, other_path), strict=True)
            if images
        ]
        raise EvaluationError(
            f"{path} and {other_path} were tested on different images: "
            f"{'; '.join(parts) or 'the same ones, in another order'}. Evaluate both on one copy of the data set."
        )
    for column in ("identity", "camera", "modality", "exclude"):
        values = getattr(mine, column), getattr(theirs, column)
        for row in np.flatnonzero(values[0] != values[1])[:1]:
            raise EvaluationError(
                f"{path} and {other_path} were tested with different labels: {mine.paths[row]} has {column} "
                f"{values[0][row]} and {values[1][row]}. Evaluate both on one copy of the data set."
            )

    for row in _looked_at(mine, theirs):
        files = [table.file(row) for table in (mine, theirs)]
        sizes = [file.stat().st_size for file in files if file.is_file()]  # images need not be at hand
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            raise EvaluationError(
                f"{path} and {other_path} were tested on different images: {mine.paths[row]} has {sizes[0]:,} bytes in "
                f"{mine.root} and {sizes[1]:,} in {theirs.root}. Evaluate both on one copy of the data set."
            )


def _looked_at(one: ImageTable, other: ImageTable) -> npt.NDArray[np.int64]:
    """Some rows, evenly spaced; none when both tables are of the same folder."""
    rows = 0 if one.root == other.root else min(len(one), LOOKED_AT)
    return np.linspace(0, len(one) - 1, rows).astype(np.int64)


def _check_trials(name: str, one: tuple[Path, _Scored], other: tuple[Path, _Scored]) -> None:
    (path, mine), (other_path, theirs) = one, other
    if len(mine.trials) != len(theirs.trials):
        raise EvaluationError(
            f"{name}: {path} has {len(mine.trials)} trials, {other_path} has {len(theirs.trials)}; the split files of "
            "their data sets differ."
        )
    for left, right in zip(mine.trials, theirs.trials, strict=True):
        for side in ("query", "gallery"):
            if not np.array_equal(getattr(left.trial, side), getattr(right.trial, side)):
                raise EvaluationError(
                    f"{name}, trial {left.trial.name}: {path} and {other_path} have different {side} images; the split "
                    "files of their data sets differ. Give the right ones with --root."
                )


def _check_stored(run: EvaluatedRun, report: Report, scored: _Scored) -> None:
    """Raise EvaluationError unless the features give the stored scores: else one file is of another evaluation."""
    stored, ours = report.mean(), scored.means().mean(axis=0)
    for name, value in zip(FIGURES, ours, strict=True):
        if not abs(value - stored[name]) <= STALE:  # not a number is no agreement
            raise EvaluationError(
                f"{run.path}: scores.json says {name} {100 * stored[name]:.2f} % for {report.protocol}, features.npz "
                f"gives {100 * value:.2f} %; one of them is of another evaluation. Run: visir evaluate {run.path}"
            )


def _compare(
    label: str,
    name: str,
    sides: Sequence[Sequence[EvaluatedRun]],
    scored: Mapping[tuple[Path, str], _Scored],
    resamples: int,
    seed: int,
) -> ProtocolComparison:
    first, second = ([[scored[run.path, name] for run in own] for own in by_draw(side).values()] for side in sides)
    trials = [
        PairedTrial(mine[0].identity[t], _over_seeds(mine, t), _over_seeds(theirs, t))
        for mine, theirs in zip(first, second, strict=True)
        for t in range(len(mine[0].trials))
    ]
    found = paired_bootstrap(trials, resamples=resamples, seed=seed, level=LEVEL)
    columns = (found.difference, found.low, found.high, found.better, found.p_value)
    numbers = np.stack(columns, axis=1).tolist()
    rows = zip(FIGURES, _scores(first), _scores(second), numbers, strict=True)
    queries = [len(trial.identity) for trial in trials]
    asked = [len(one.query) for own in first for one in own[0].trials]
    return ProtocolComparison(
        protocol=label,
        trials=len(trials),
        queries=min(queries),
        unscored=max(a - q for a, q in zip(asked, queries, strict=True)),
        identities=found.identities,
        rows=tuple(Row(figure, mine, theirs, *values) for figure, mine, theirs, values in rows),
    )


def _over_seeds(runs: Sequence[_Scored], trial: int) -> DoubleArray:
    """(q, m) means over the runs of one draw."""
    return np.asarray(np.mean([run.values[trial] for run in runs], axis=0), np.float64)


def _scores(draws: Sequence[Sequence[_Scored]]) -> list[Score]:
    """Mean and deviations of every figure, from [draw][seed]."""
    seeds = len(draws[0])
    means = np.stack([np.concatenate([own[s].means() for own in draws]) for s in range(seeds)])  # seeds, trials, m
    over_trials = means.mean(axis=0).std(axis=0)
    over_seeds = means.mean(axis=1).std(axis=0, ddof=1) if seeds > 1 else None
    return [
        Score(float(mean), float(over_trials[m]), None if over_seeds is None else float(over_seeds[m]))
        for m, mean in enumerate(means.mean(axis=(0, 1)))
    ]


def _labels(names: Sequence[str], runs: Sequence[EvaluatedRun]) -> list[str]:
    """What the rows are called: the id itself, or over several draws the shared one, saying so if they are not all."""
    draws, every = len(by_draw(runs)), benchmarks.find(runs[0].experiment.benchmark.name).draws
    if draws == 1:
        return [runs[0].reports[name].protocol for name in names]
    return [name if draws == every else f"{name} ({draws} of {every} splits)" for name in names]


def _side(runs: Sequence[EvaluatedRun]) -> Side:
    return Side(
        runs=tuple(str(run.path) for run in runs),
        method=runs[0].experiment.method,
        seeds=tuple(sorted({run.seed for run in runs})),
        draws=tuple(by_draw(runs)),
    )


def _warnings(first: Sequence[EvaluatedRun], second: Sequence[EvaluatedRun]) -> Iterator[str]:
    one, other = first[0], second[0]
    splits = [run.experiment.benchmark.split for run in (one, other)]
    if splits[0] != splits[1]:
        yield (
            f"{one.path} was trained on '{splits[0]}', {other.path} on '{splits[1]}'; a difference may come from the "
            "people trained on"
        )
    yield from (f"{run.path}: {text}" for run in (*first, *second) for text in run.warnings)


def _left_out(sides: Sequence[Sequence[EvaluatedRun]], names: Sequence[str], wanted: Sequence[str]) -> Iterator[str]:
    if wanted:
        return
    for run in (run for side in sides for run in side):
        others = [report.protocol for name, report in run.reports.items() if name not in names]
        if others:
            yield f"{run.path} was scored by {', '.join(others)}, which another run was not; left out"


def _few(rows: Sequence[ProtocolComparison]) -> Iterator[str]:
    few = min(row.identities for row in rows)
    if few < FEW_PEOPLE:
        yield f"only {few} people are searched for; intervals from fewer than {FEW_PEOPLE} are too narrow"
