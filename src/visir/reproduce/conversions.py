"""Ablations of networks that convert pictures: their rows have no rank-1, but a likeness to the truth."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from visir.benchmarks import catalog as benchmarks
from visir.core.errors import ConfigError
from visir.core.files import write_text
from visir.experiment.ablation import Ablation, Row
from visir.experiment.folder import RunFolder
from visir.experiment.quality import TITLES, Likeness, Quality
from visir.experiment.translate import convert_images
from visir.methods import catalog as methods
from visir.methods.base import ConversionMethod
from visir.reproduce.jobs import Job, Setup, jobs
from visir.reproduce.locks import FOLDER as LOCKS
from visir.reproduce.locks import hold, tidy
from visir.reproduce.places import make_twin, name_data
from visir.reproduce.render import MADE, table
from visir.reproduce.request import Request
from visir.reproduce.run import TRACES, attempt, say, train_job

HEAD = ("row", "data", "people", "direction", "pictures", "PSNR", "SSIM", "MAE", "Fréchet", "notes")
LEGEND = (
    "PSNR in decibels and SSIM: larger is better. MAE, a share of the full scale, and the Fréchet distance of form and "
    "colour: smaller is better. 'as it was' is the yardstick: the picture before its conversion, in grey."
)
PEOPLE = {"train": "trained on", "trainval": "trained on", "validation": "held out"}


@dataclass(frozen=True)
class Converted:
    """One row's pictures.

    Attributes:
        row: its name.
        benchmark: of the data.
        split: whose pictures.
        quality: their likeness to the truth; empty where none is known.
        reason: why there is none.
    """

    row: str
    benchmark: str
    split: str
    quality: Quality
    reason: str = ""


def converts(ablation: Ablation, rows: Sequence[Row]) -> bool:
    """Whether the rows of an ablation convert pictures.

    Raises:
        ConfigError: some do and some do not.
    """
    found = set()
    for row in rows:
        for name in ablation.benchmarks(row)[:1]:
            with contextlib.suppress(ConfigError):  # of a row that does not fit; told where rows are planned
                found.add(issubclass(methods.find(ablation.experiment(row, name).method), ConversionMethod))
    if len(found) > 1:
        raise ConfigError(
            f"{ablation.name}: some rows convert pictures and some give vectors, which no table shows together; put "
            "them into two files."
        )
    return found == {True}


def run_conversions(
    ablation: Ablation, rows: Sequence[Row], setup: Setup, request: Request, *, command: str, facts: Sequence[str]
) -> tuple[str, bool]:
    """Train the rows, convert the pictures of the people trained on and of those held out, and compare with the truth.

    One row at a time, on the first device. Finished trainings and whole conversions are not made again.

    Returns:
        what to tell the user, and whether every row is finished.
    """
    found: list[Converted] = []
    data: dict[str, str] = {}
    for row in rows:
        for benchmark in (name for name in ablation.benchmarks(row) if name in setup.roots):
            if request.twin:
                make_twin(request, benchmark, setup.output, counterparts=True)
            if benchmark not in data:
                known = benchmarks.find(benchmark)
                data[benchmark] = f"{known.title}: {name_data(known, setup.roots[benchmark], setup.draws)}."
            for job in jobs(ablation, row, benchmark, (), setup):
                found += _converted(job, row.name, request)
    files = _written(
        ablation.name, found, setup.output, request.document, command=command, facts=[*data.values(), *facts]
    )
    missing = sorted({one.row for one in found if one.reason})
    said = "\n".join(map(str, files))
    if missing:
        said += f"\nwithout figures: {', '.join(missing)}; {files[0].name} says why"
    return said, not missing


def _converted(job: Job, row: str, request: Request) -> Iterator[Converted]:
    base, name = job.folder.parents[1], job.folder.name
    split = job.experiment.benchmark.split
    made: dict[str, Quality] = {}

    def work() -> None:
        with hold(base / LOCKS / name, waiting=lambda: say(f"{job.title}: another visir runs it; waiting")):
            tidy(job.folder)
            if not RunFolder(job.folder).encoder.is_dir():
                if request.finished:
                    raise ConfigError("not run")
                train_job(job, device)
            convert = partial(convert_images, job.folder, device=device)
            for part in (split, "validation") if split == "train" else (split,):
                made[part] = convert(base / "converted" / f"{name}-{part}", split=part).quality

    device = request.devices[0] if request.devices else None
    say(job.title)
    error = attempt(work, base / TRACES / f"{name}.txt")
    if error is not None:
        say(f"{job.title}: FAILED: {error}")
        yield Converted(row, job.benchmark, split, {}, error)
        return
    for part, quality in made.items():
        unknown = "the truth is not known: the data have no counterparts ('visir data make --counterparts' makes them)"
        yield Converted(row, job.benchmark, part, quality, "" if quality else unknown)


def _written(
    name: str, found: Sequence[Converted], output: Path, document: Path | None, *, command: str, facts: Sequence[str]
) -> list[Path]:
    rows = list(_rows(found))
    made = f"{MADE}{command.removesuffix(' --finished')}`."
    lines = [f"# Converted pictures: {name}", "", made, "", *(f"- {fact}" for fact in facts), ""]
    text = "\n".join([*lines, LEGEND, "", *table(HEAD, rows)]) + "\n"
    values = io.StringIO()
    csv.writer(values, lineterminator="\n").writerows([HEAD, *rows])
    files = [output / "conversions.md", output / "conversions.csv"]
    for path, content in zip(files, (text, values.getvalue()), strict=True):
        write_text(path, content)
    if document is not None:
        write_text(document, text)
        files.append(document)
    return files


def _rows(found: Sequence[Converted]) -> Iterator[list[str]]:
    """Cells, by data set, people and direction; the yardstick once in each, before what is measured by it."""
    places: dict[tuple[str, str, str], list[list[str]]] = {}
    for one in found:
        people = PEOPLE[one.split]
        if not one.quality:
            places.setdefault((one.benchmark, people, "-"), []).append([one.row, *["-"] * 5, one.reason])
        for way, sides in one.quality.items():
            lines = places.setdefault((one.benchmark, people, TITLES[way]), [])
            if not lines:
                lines.append(["as it was", *_figures(sides["unconverted"]), ""])
            lines.append([one.row, *_figures(sides["converted"]), ""])
    for place in sorted(places, key=lambda place: (place[0], place[1] != "trained on", place[2])):
        yield from ([line[0], *place, *line[1:]] for line in places[place])


def _figures(one: Likeness) -> list[str]:
    distance = "-" if one.form_colour is None else f"{one.form_colour:.4f}"
    return [f"{one.pictures:,}", f"{one.psnr:.2f}", f"{one.ssim:.4f}", f"{one.mae:.4f}", distance]
