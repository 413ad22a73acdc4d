"""Runs that tables need: one for each system, benchmark, partition and seed; whether each is there already."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.base import without_partition
from visir.experiment.ablation import Ablation, Row
from visir.experiment.config import Experiment, build, overlaid
from visir.experiment.evaluate import choose_protocols
from visir.experiment.folder import RunFolder
from visir.experiment.prepared import Preparation, converter, preparation, with_images
from visir.methods import catalog as methods
from visir.reproduce.budget import Budget, within


@dataclass(frozen=True)
class Job:
    """One training and its evaluation.

    Attributes:
        system: such as ``dfe/baseline``.
        experiment: complete, with its partition and seed.
        protocols: ids to evaluate, without partition.
        folder: of the run.
        preparation: how the converted images that it learns from are made; None where it needs none.
    """

    system: str
    experiment: Experiment
    protocols: tuple[str, ...]
    folder: Path
    preparation: Preparation | None = None

    @property
    def benchmark(self) -> str:
        """Name of the data set."""
        return self.experiment.benchmark.name

    @property
    def title(self) -> str:
        """For people: system, data set, partition and seed."""
        found = benchmarks.find(self.benchmark)
        draw = f", partition {self.experiment.benchmark.draw}" if found.draws > 1 else ""
        return f"{self.system} on {found.title}{draw}, seed {self.experiment.seed}"


@dataclass(frozen=True)
class Setup:
    """What all jobs of one command share.

    Attributes:
        output: folder for everything; runs lie in ``runs/`` below it.
        roots: benchmark -> folder of the data set.
        draws: how many partitions, at most as many as the benchmark has.
        seeds: each system is trained once for each; empty for the file's own.
        settings: ``dotted.key=value`` texts over every row.
        pretrained: start from ImageNet weights wherever the publication does.
        budget: None for the publications' own training.
        weights: what rows start from within the budget, if their publication starts from ImageNet weights.
    """

    output: Path
    roots: Mapping[str, Path]
    draws: int = 10
    seeds: tuple[int, ...] = ()
    settings: tuple[str, ...] = ()
    pretrained: bool = False
    budget: Budget | None = None
    weights: str = "scratch"


def jobs(ablation: Ablation, row: Row, benchmark: str, protocols: Iterable[str], setup: Setup) -> list[Job]:
    """The runs of one row on one benchmark: every seed on every partition.

    Raises:
        ConfigError: values that do not fit the row, or protocols that the benchmark does not have.
    """
    wanted = tuple(dict.fromkeys(without_partition(name) for name in protocols))
    found = []
    for draw in range(1, min(setup.draws, benchmarks.find(benchmark).draws) + 1):
        for seed in setup.seeds or ablation.seeds:
            experiment = _experiment(ablation, row, benchmark, draw, seed, setup)
            choose_protocols(experiment, wanted)
            named, system = f"{benchmark}-{draw:02d}-seed{seed}", ablation.system(row).replace("/", ".")
            folder = setup.output / "runs" / f"{system}-{named}-{_digest(experiment, setup)}"
            needed = _preparation(experiment, named, setup)
            if needed is not None:
                experiment = with_images(experiment, needed.images)
            found.append(Job(ablation.system(row), experiment, wanted, folder, needed))
    return found


def _preparation(experiment: Experiment, named: str, setup: Setup) -> Preparation | None:
    """The same for all rows on the same data, within the same budget."""
    found = converter(experiment)
    if found is None:
        return None
    if setup.budget is not None:
        found = build(overlaid(found.resolved(), values=within(setup.budget, found)))
    made = preparation(experiment, found, Path("run"), Path("images"))
    kind = "" if (made.direction, made.per) == ("both", "modality") else f"-{made.direction}-per-{made.per}"
    place = setup.output / "converters" / f"{found.method}-{named}-{_digest(found, setup)}{kind}"
    return replace(made, run=place / made.run, images=place / made.images)


def _experiment(ablation: Ablation, row: Row, benchmark: str, draw: int, seed: int, setup: Setup) -> Experiment:
    given: dict[str, Any] = {"benchmark.draw": draw, "seed": seed}
    if benchmark in setup.roots:
        given["benchmark.root"] = str(setup.roots[benchmark])
    below = None
    if setup.budget is not None:
        below = within(setup.budget, ablation.experiment(row, benchmark, values=given), weights=setup.weights)
    made = ablation.experiment(row, benchmark, below=below, settings=setup.settings, values=given)
    if not setup.pretrained or not methods.find(made.method).pretrained:
        return made
    given["with.weights"] = "imagenet"
    if made.options.backbone == "alexnet":  # of Caffe's form there are no weights to be fetched
        given["with.backbone"] = "alexnet_torchvision"
    return ablation.experiment(row, benchmark, below=below, settings=setup.settings, values=given)


def _digest(experiment: Experiment, setup: Setup) -> str:
    """The experiment's own digest with the length of its training, which that leaves out; the output may move."""
    if setup.budget is not None and experiment.options.weights == setup.weights != "scratch":
        start = Path(setup.weights).relative_to(setup.output.resolve()).as_posix()
        experiment = replace(experiment, options=replace(experiment.options, weights=start))
    return f"{experiment.digest()[:8]}e{experiment.train.epochs}"


def scores(job: Job) -> Mapping[str, Any] | None:
    """What the evaluation left, if the job is finished: trained to its end and scored by all protocols."""
    folder = RunFolder(job.folder)
    if not (folder.encoder.is_dir() and folder.scores.is_file()):
        return None
    try:
        found = json.loads(folder.scores.read_text(encoding="utf-8"))
        scored = {without_partition(report["protocol"]) for report in found["reports"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if scored >= set(job.protocols) else None


def obstacle(job: Job) -> str | None:
    """Why a job cannot be run with what is at hand, in a few words; None when it can."""
    if job.experiment.converts() and not job.experiment.benchmark.converted:
        return (
            "needs the training images converted to the other modality: --set benchmark.converted=DIR, or "
            "benchmark.converter"
        )
    return None


def unique(found: Sequence[Job]) -> list[Job]:
    """Each run once, though several tables ask for it, with the protocols of all of them."""
    merged: dict[Path, Job] = {}
    for job in found:
        known = merged.get(job.folder)
        both = job.protocols if known is None else tuple(dict.fromkeys((*known.protocols, *job.protocols)))
        merged[job.folder] = replace(job, protocols=both)
    return list(merged.values())
