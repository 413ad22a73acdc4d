"""One self-contained HTML page of a run, and its figures as files for papers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from visir.core.errors import VisirError
from visir.core.files import write_text
from visir.core.progress import track
from visir.evaluation.product import as_distance
from visir.evaluation.ranking import Ranking, rank
from visir.evaluation.report import Report
from visir.report import content
from visir.report.curves import cmc_curves, family, training_curves
from visir.report.pictures import thumbnail
from visir.report.ranked import RankedList, from_ranking, hardest, ranked_lists, representative
from visir.report.source import Run, read_run
from visir.report.spaces import correlation_curves, distance_histograms, feature_map
from visir.report.style import Illustration, percent, save


@dataclass(frozen=True, eq=False)
class Listing:
    """Ranked lists under one heading: pictures and text on the page, one drawing for papers."""

    name: str
    title: str
    caption: str
    lists: tuple[RankedList, ...]

    def draw(self) -> Illustration:
        """The same lists as a figure."""
        return ranked_lists(self.lists, name=f"ranked-{self.name}", title=self.title, caption=self.caption)


def write_report(
    run: Path,
    *,
    output: Path | None = None,
    searches: Sequence[RankedList] = (),
    queries: int = 6,
    top: int = 10,
    seed: int = 0,
    figures: bool = True,
) -> Path:
    """Write ``report.html`` and ``figures/`` (PNG, SVG and PDF of every figure) from the files of a run.

    The page needs no other file and no network. Equal runs give equal bytes.

    Args:
        run: a run folder with experiment.yaml, log.jsonl, scores.json and features.npz; features-untrained.npz is used
            if there.
        output: the page; ``run/report.html`` by default. Figures go to ``figures`` beside it.
        searches: searches in a gallery to show, for instance those of the demo.
        queries: how many queries each ranked-list figure shows.
        top: how many matches of each.
        seed: of every random sample drawn for figures.
        figures: also write ``figures/``; the page alone takes a fraction of the time.

    Returns:
        The page.

    Raises:
        ConfigError: the folder is not a run, or lacks a file; the command that makes it is named.
        EvaluationError: damaged scores or features.
        StorageError: the page or a figure could not be written.
    """
    read = read_run(run)
    output = run / "report.html" if output is None else output
    notes = list(read.notes)
    listings = _listings(read, searches, queries, top, notes)
    makers = _figure_makers(read, seed)
    drawn: list[Illustration] = []
    for make in track(makers, "figures", len(makers)):
        drawn.extend(_attempt(make, notes))
    files = [*drawn, *(one.draw() for one in listings)] if figures else []
    for one in track(files, "figure files", len(files)):
        save(one, output.parent / "figures")
    write_text(output, _page(read, drawn, listings, sorted(one.name for one in files), notes))
    return output


def _attempt(make: Callable[[], Illustration], notes: list[str]) -> Iterator[Illustration]:
    """The figure, or a note why it is left out: one figure that cannot be drawn costs no other."""
    try:
        yield make()
    except VisirError as error:
        notes.append(f"A figure is left out. {error}")


def _figure_makers(run: Run, seed: int) -> list[Callable[[], Illustration]]:
    by_family: dict[str, list[tuple[str, Report]]] = {}
    for label, report in _labelled(run):
        by_family.setdefault(family(report.protocol), []).append((label, report))
    space = {"untrained": run.untrained} if run.untrained is not None else {}
    space["trained"] = run.features
    return [
        *(_cmc(reports, name) for name, reports in by_family.items()),
        lambda: distance_histograms(run.features, run.table, seed=seed),
        lambda: feature_map(run.features, run.table, seed=seed),
        lambda: correlation_curves(space, run.table, seed=seed),
        lambda: training_curves(run.log),
    ]


def _cmc(reports: list[tuple[str, Report]], name: str) -> Callable[[], Illustration]:
    return lambda: cmc_curves(reports, name=f"cmc-{name}")


def _labelled(run: Run) -> list[tuple[str, Report]]:
    label = run.method if run.comparisons else ""
    own = [(label, report) for report in run.reports]
    return own + [(label, report) for label, reports in run.comparisons.items() for report in reports]


def _listings(
    run: Run, searches: Sequence[RankedList], queries: int, top: int, notes: list[str]
) -> tuple[Listing, ...]:
    found = []
    if searches:
        found.append(Listing("search", "Gallery search", SEARCH_WORDS, tuple(searches)))
    report = run.reports[0]
    try:
        protocol = run.protocol(report.protocol)
        trial = protocol.trials(run.table)[0]
        ranking = rank(run.features, run.table, trial, protocol, k=top, distance=as_distance(report.distance))
    except VisirError as error:
        notes.append(f"Ranked lists are left out. {error}")
        return tuple(found)
    _check_scores(ranking, report, notes)
    where = f"{report.protocol}, trial {trial.name}"
    choices = {
        "representative": ("Representative queries", representative(ranking, queries), REPRESENTATIVE_WORDS),
        "hardest": ("Hardest queries", hardest(ranking, run.table, queries), HARDEST_WORDS),
    }
    for name, (title, places, words) in choices.items():
        if len(places):
            lists = from_ranking(ranking, run.table, places, top=top)
            found.append(Listing(name, title, f"{words} Protocol {where}.", lists))
    missing = _unreadable(found)
    if missing:
        notes.append(
            f"{missing} picture(s) of the ranked lists could not be read and are shown blank; "
            f"is the data set still at {run.table.root}?"
        )
    return tuple(found)


REPRESENTATIVE_WORDS = (
    "Queries at evenly spaced ranks of average precision, best first: a fair sample, not picked by hand."
)
HARDEST_WORDS = "The queries with the lowest average precision, worst first, one per identity where there are enough."
SEARCH_WORDS = "Queries put to the persistent gallery, with its nearest pictures by cosine similarity."


def _unreadable(listings: Sequence[Listing]) -> int:
    paths = {shown.path for one in listings for ranked in one.lists for shown in (ranked.query, *ranked.matches)}
    return sum(thumbnail(path) is None for path in paths)


def _check_scores(ranking: Ranking, report: Report, notes: list[str]) -> None:
    """Say so if the features do not give the stored scores: then one of the two files is of another evaluation."""
    scored = ranking.first > 0
    ours = float((ranking.first[scored] == 1).mean()) if scored.any() else float("nan")
    stored = float(report.trials[0]["rank1"])
    if abs(ours - stored) > 1e-6:
        notes.append(
            f"scores.json says rank-1 {percent(stored)} % for the first trial of {report.protocol}, features.npz gives "
            f"{percent(ours)} %: one of them is of another evaluation; run 'visir evaluate' again."
        )


def _page(
    run: Run,
    figures: Sequence[Illustration],
    listings: Sequence[Listing],
    files: Sequence[str],
    notes: list[str],
) -> str:
    environment = Environment(
        loader=PackageLoader("visir.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    drawn = [content.figure(one) for one in figures]
    looks = content.looks(run, notes)
    return environment.get_template("report.html").render(
        run=run.folder.resolve().name,
        method=run.method,
        benchmark=run.title,
        headline=content.headline(run),
        protocols=content.protocols(run),
        metrics=content.METRICS,
        listings=[content.listing(one.name, one.title, one.caption, one.lists) for one in listings],
        looks=looks,
        cmc=[one for one in drawn if one["name"].startswith("cmc")],
        space=[one for one in drawn if one["name"] in ("distances", "map", "correlation")],
        training=[one for one in drawn if one["name"] == "training"],
        counts=run.table.summary(),
        facts=run.facts,
        config=run.config_text,
        notes=notes,
        files=files,
        version=version("visir"),
    )
