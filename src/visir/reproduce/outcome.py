"""What the runs of one system gave by one protocol: means, and deviations over trials and over seeds apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.base import without_partition
from visir.core.errors import EvaluationError
from visir.evaluation.report import METRICS, Report, combine
from visir.experiment.folder import RunFolder
from visir.methods import catalog as methods
from visir.reproduce.jobs import Job, scores


@dataclass(frozen=True)
class Outcome:
    """One cell of a table, in percent.

    Attributes:
        protocol: the id that the figures carry; it says when partitions are missing.
        mean: figure -> mean over trials (or partitions) and seeds.
        over_trials: figure -> population deviation over trials or partitions, averaged over seeds.
        over_seeds: figure -> sample deviation of the seeds' means; None for a single seed.
        seeds: number of seeds.
        seconds: of training, mean over the runs; the log's own count, without evaluation.
        reasons: why the figures are not those of the publication's own setting, in words.
    """

    protocol: str
    mean: Mapping[str, float]
    over_trials: Mapping[str, float]
    over_seeds: Mapping[str, float] | None
    seeds: int
    seconds: float
    reasons: tuple[str, ...] = ()


def outcome(jobs: Sequence[Job], protocol: str) -> Outcome | None:
    """The figures of one system on one benchmark by ``protocol`` (without partition); None while a run is missing."""
    by_seed: dict[int, list[Report]] = {}
    for job in jobs:
        report = _report(job, protocol)
        if report is None:
            return None
        by_seed.setdefault(job.experiment.seed, []).append(report)
    if not by_seed:
        return None
    partitioned = benchmarks.find(jobs[0].benchmark).draws > 1
    found = [combine(reports, incomplete=True) if partitioned else reports[0] for reports in by_seed.values()]
    means = [report.mean() for report in found]
    spread = [report.std() for report in found]
    return Outcome(
        protocol=found[0].protocol,
        mean={name: 100 * float(np.mean([mean[name] for mean in means])) for name in METRICS},
        over_trials={name: 100 * float(np.mean([one[name] for one in spread])) for name in METRICS},
        over_seeds={name: 100 * float(np.std([mean[name] for mean in means], ddof=1)) for name in METRICS}
        if len(found) > 1
        else None,
        seeds=len(found),
        seconds=float(np.mean([training_seconds(job.folder) for job in jobs])),
        reasons=_reasons(jobs, found[0]),
    )


def finished(job: Job) -> Mapping[str, Any] | None:
    """What the evaluation left, if the job is finished and all of it can be read."""
    found = scores(job)
    if found is None:
        return None
    try:
        means = [value for report in found["reports"] for value in Report.from_dict(report).mean().values()]
    except EvaluationError:
        return None
    return found if all(0 <= value <= 1 for value in means) else None


def _report(job: Job, protocol: str) -> Report | None:
    found = finished(job)
    if found is None:
        return None
    for report in found["reports"]:
        if without_partition(report["protocol"]) == protocol:
            return Report.from_dict(report)
    return None


def training_seconds(folder: Path) -> float:
    """Wall seconds of all training steps, from the log."""
    steps = [line.get("seconds") for line in RunFolder(folder).read_log() if line.get("kind") == "step"]
    return float(sum(seconds for seconds in steps if isinstance(seconds, int | float)))


def _reasons(jobs: Sequence[Job], report: Report) -> tuple[str, ...]:
    """What keeps these figures from being compared with the printed ones, as far as the runs show it."""
    experiment = jobs[0].experiment
    found = []
    kind = methods.find(experiment.method)
    if kind.pretrained and experiment.options.weights == "scratch":
        found.append("random initial weights; the publication starts from ImageNet's")
    partitions = benchmarks.find(experiment.benchmark.name).draws
    if partitions > 1 and len(report.trials) < partitions:
        found.append(f"{len(report.trials)} of {partitions} partitions")
    return tuple(found)
