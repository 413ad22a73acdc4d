"""An ablation of two rows that trains in a second, and runs that look finished without any training."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from visir.core.files import write_json, write_text
from visir.evaluation.report import METRICS, Report
from visir.experiment.folder import RunFolder
from visir.reproduce.jobs import Job


def own(folder: Path, data: Path, **base: object) -> Path:
    """An ablation file with two rows over a very small experiment."""
    method = {"backbone": "tiny", "dim": 4, "stream": {"height": 32, "width": 16, "draw": {"pairs": 4}}}
    content = {
        "benchmark": {"name": "sysu_mm01", "root": str(data)},
        "method": "dfe",
        "with": method,
        "train": {"epochs": 1, "steps_per_epoch": 2, "workers": 0, "validate_every": 0},
        **base,
    }
    (folder / "base.yaml").write_text(yaml.safe_dump(content))
    listed = [{"name": "full"}, {"name": "plain", "set": {"with.beta": 0.0, "with.gamma": 0.0}}]
    (folder / "mine.yaml").write_text(yaml.safe_dump({"base": "base.yaml", "seeds": [0, 1], "rows": listed}))
    return folder / "mine.yaml"


def rows(output: Path) -> list[dict[str, str]]:
    """What ``results.csv`` holds."""
    with (output / "results.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def report(protocol: str, rank1: Sequence[float]) -> Report:
    """Every figure of every trial has the value of its rank-1."""
    trials = tuple(
        {"trial": str(i), **dict.fromkeys(METRICS, value), "scored": 4, "unscored": 0, "ties": 0}
        for i, value in enumerate(rank1)
    )
    return Report(protocol, "image", "cosine", trials, np.ones((len(rank1), 20)))


def finish(job: Job, reports: Sequence[Report], seconds: float = 2.0, data: str = "") -> None:
    """What training and evaluation leave, as far as the tables read it."""
    folder = RunFolder(job.folder)
    folder.encoder.mkdir(parents=True, exist_ok=True)
    write_json(folder.scores, {"reports": [one.as_dict() for one in reports], **({"data": data} if data else {})})
    write_text(folder.log, f'{{"kind": "step", "step": 1, "seconds": {seconds}}}\n' * 3)


def pretend(jobs: Sequence[Job], *, data: Mapping[str, str], **_: object) -> dict[Path, str]:
    """In place of ``run_jobs``: all of them finished at once."""
    for job in jobs:
        finish(job, [report(protocol, [0.5]) for protocol in job.protocols], data=data[job.benchmark])
    return {}
