"""The demo: invented people, DFE trained from scratch, official scores, a gallery, searches and a report."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from visir.core.errors import ConfigError
from visir.core.types import ImageTable, IntArray, Modality
from visir.engine.build import build
from visir.engine.embedder import Embedder
from visir.engine.encoders import load_encoder
from visir.evaluation.evaluate import evaluate_many
from visir.evaluation.report import Report, format_table
from visir.evaluation.scorefile import save_features
from visir.experiment.config import Experiment, load
from visir.experiment.enroll import Known, collect, open_service
from visir.experiment.evaluate import chance, choose_protocols, evaluate_run, read_test
from visir.experiment.folder import RunFolder
from visir.experiment.train import train
from visir.gallery.entry import Filter
from visir.gallery.service import SearchService
from visir.report.page import write_report
from visir.report.ranked import RankedList, Shown
from visir.report.source import UNTRAINED
from visir.twin.write import MANIFEST, write

SEARCHES = 6  # infrared queries shown, one person each
ANSWERS = 10


def run_demo(run: Path, *, seed: int = 1) -> str:
    """Make everything in ``run`` and say what came out. Calling it again goes on where it stopped.

    Args:
        run: folder for the twin, the run, the gallery and the report.
        seed: of the twin and of the training.

    Returns:
        a short table and where to look.
    """
    if run.exists() and not (run.is_dir() and (not any(run.iterdir()) or (run / "twin" / MANIFEST).is_file())):
        raise ConfigError(f"{run}: holds something that is no demo's. Give an empty or a new folder with --run.")
    times: dict[str, float] = {}
    with _timed(times, "twin"):
        twin = write(run / "twin", layout="sysu_mm01", size="demo", seed=seed)
    experiment = demo_experiment(twin, seed)
    with _timed(times, "train"):
        folder = train(experiment, run)
    with _timed(times, "evaluate"):
        table = read_test(experiment)
        untrained = _untrained(folder, experiment, table)
        protocols = choose_protocols(experiment)
        expected = chance(table, protocols[0])
        reports = evaluate_run(run, facts={"chance rank-1": round(expected, 6)}, comparisons={"untrained": untrained})
    with _timed(times, "gallery"):
        service = _fill(run, twin)
        searches = _search(service, table)
    with _timed(times, "report"):
        page = write_report(run, searches=searches)
    return _summary(run, page, reports, untrained, expected, service, times)


def demo_experiment(twin: Path, seed: int) -> Experiment:
    """The demo's experiment file with the twin's folder and the seed filled in."""
    with resources.as_file(resources.files("visir.demo") / "demo.yaml") as file:
        return load(file, values={"benchmark.root": str(twin), "seed": seed})


@contextmanager
def _timed(times: dict[str, float], name: str) -> Iterator[None]:
    sys.stderr.write(f"-- {name}\n")
    started = time.monotonic()
    yield
    times[name] = time.monotonic() - started


def _untrained(folder: RunFolder, experiment: Experiment, table: ImageTable) -> list[Report]:
    """The same network before its first step, scored on the same images: what training added."""
    identities = int(load_encoder(folder.path).about["num_identities"])
    method = build(experiment.method, experiment.options, identities, seed=experiment.seed)
    embedder = Embedder.of(method, device=torch.device("cpu"))
    features = embedder.embed_table(table, show_progress=False)
    save_features(folder.path / UNTRAINED, features, replace(table, root=table.root.absolute()))
    return evaluate_many(features, table, choose_protocols(experiment))


def _fill(run: Path, twin: Path) -> SearchService:
    """All visible test pictures, in a gallery on disk."""
    service = open_service(run / "gallery", run, create=True)
    pictures = collect([twin], Known())
    visible = [i for i, entry in enumerate(pictures.entries) if entry.modality is Modality.VISIBLE]
    service.enroll([pictures.paths[i] for i in visible], [pictures.entries[i] for i in visible])
    return service


def _search(service: SearchService, table: ImageTable) -> tuple[RankedList, ...]:
    """Infrared pictures of some people, put to the gallery of visible ones."""
    rows = _queries(table)
    answers = service.search_many(
        [table.file(row) for row in rows], Modality.INFRARED, ANSWERS, Filter(modality=Modality.VISIBLE)
    )
    shown = []
    for row, matches in zip(rows, answers, strict=True):
        own = str(table.identity[row])
        found = tuple(
            Shown(Path(m.entry.source), m.entry.camera, m.entry.identity, m.score, m.entry.identity == own)
            for m in matches
        )
        shown.append(RankedList(Shown(table.file(row), int(table.camera[row]), own), found))
    return tuple(shown)


def _queries(table: ImageTable) -> list[int]:
    infrared: IntArray = np.flatnonzero(table.modality == Modality.INFRARED)
    people, first = np.unique(table.identity[infrared], return_index=True)
    chosen = np.linspace(0, len(people) - 1, min(SEARCHES, len(people))).round().astype(int)
    return [int(infrared[first[i]]) for i in chosen]


def _summary(
    run: Path,
    page: Path,
    reports: list[Report],
    untrained: list[Report],
    expected: float,
    service: SearchService,
    times: dict[str, float],
) -> str:
    first, before = reports[0].mean(), untrained[0].mean()
    pictures = service.status()["pictures"]
    lines = [
        format_table(reports),
        "",
        f"rank-1 of {reports[0].protocol}: {100 * first['rank1']:.1f} % trained, {100 * before['rank1']:.1f} % before "
        f"training, {100 * expected:.1f} % by chance",
        f"gallery: {pictures} visible pictures in {run / 'gallery'}",
        "time: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in times.items()),
        f"look at {page}",
    ]
    return "\n".join(lines)
