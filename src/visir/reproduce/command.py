"""``visir reproduce`` and ``visir ablate``: from what is asked for to runs, tables and files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from visir import publications
from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.base import without_partition
from visir.benchmarks.manifest import read_manifest
from visir.core.errors import ConfigError, nearest
from visir.core.files import write_text
from visir.experiment.ablation import Ablation, Row, read_ablation, systems
from visir.experiment.shipped import find_config
from visir.publications import Publication, Table
from visir.reproduce.budget import BUDGETS, Budget
from visir.reproduce.claims import LOOKED_AT, orderings
from visir.reproduce.jobs import Job, Setup, jobs, obstacle, unique
from visir.reproduce.outcome import Outcome, outcome
from visir.reproduce.pretraining import pretrained
from visir.reproduce.protocols import benchmark_of
from visir.reproduce.render import markdown, write_results
from visir.reproduce.run import run_jobs
from visir.reproduce.sheet import Line, Results, Sheet, columns
from visir.twin import write as write_twin
from visir.twin.cameras import LAYOUTS

TWIN_SEED = 1
ROOTS = {"sysu_mm01": "SYSU_MM01", "regdb": "REGDB", "llcm": "LLCM"}  # the environment variables of the shipped files


@dataclass(frozen=True)
class Request:
    """What the user asks for; see the options of ``visir reproduce``."""

    roots: tuple[Path, ...] = ()
    twin: str | None = None
    benchmarks: tuple[str, ...] = ()
    draws: int | None = None
    seeds: tuple[int, ...] = ()
    settings: tuple[str, ...] = ()
    pretrained: bool = False
    devices: tuple[str, ...] = ()
    parallel: int = 1
    finished: bool = False
    output: Path | None = None
    document: Path | None = None


Need = tuple[str, str]  # system, benchmark


class Runs:
    """The runs that are needed, by system and benchmark, and why others cannot be had."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.jobs: dict[Need, list[Job]] = {}
        self.reasons: dict[Need, str] = {}
        self.failed: set[Need] = set()
        self.comparable = setup.budget is None and not any(read_manifest(root) for root in setup.roots.values())

    def want(self, ablation: Ablation, row: Row, benchmark: str, protocols: Iterable[str]) -> None:
        """Plan the runs of one row on one benchmark."""
        need = (ablation.system(row), benchmark)
        if benchmark not in self.setup.roots:
            self.reasons[need] = f"no folder of {benchmarks.find(benchmark).title} was given"
        elif benchmark not in ablation.benchmarks(row):
            self.reasons[need] = f"no experiment of it on {benchmarks.find(benchmark).title}"
        else:
            try:
                self.jobs.setdefault(need, []).extend(jobs(ablation, row, benchmark, protocols, self.setup))
            except ConfigError as error:
                raise ConfigError(f"{need[0]} on {benchmarks.find(benchmark).title}: {error}") from error

    def run(self, request: Request) -> None:
        """Run what is missing, unless only finished runs are asked for."""
        wanted = unique([job for found in self.jobs.values() for job in found])
        failed: dict[Path, str] = {}
        if not request.finished:
            failed = run_jobs(wanted, devices=request.devices, parallel=request.parallel)
        for need, found in self.jobs.items():
            for job in found:
                reason = obstacle(job)
                if reason is not None:
                    self.reasons[need] = reason
                elif job.folder in failed:
                    self.reasons[need] = f"not finished: {failed[job.folder]}"
                    self.failed.add(need)
        self.jobs = {need: unique(found) for need, found in self.jobs.items()}

    def outcome(self, system: str, protocol: str) -> Outcome | None:
        """The figures of a system by a protocol, if all of its runs are finished."""
        return outcome(self.jobs.get((system, benchmark_of(protocol)), []), protocol)


def run_tables(name: str, tables: Sequence[str], only: Sequence[str], request: Request) -> tuple[str, bool]:
    """Reproduce the tables of one publication, or of all.

    Args:
        name: key of a publication, or ``all``.
        tables: names of its tables; none for all.
        only: systems to run; none for all that its rows name.
        request: data, partitions, seeds, devices, places.

    Returns:
        what to tell the user, and whether every run that could be started is finished.

    Raises:
        ConfigError: an unknown publication, table, system or benchmark, or no data set at hand.
    """
    chosen = list(_tables(name, tables))
    known = systems()
    for system in only:
        if system not in known:
            raise ConfigError(f"--system {system}: {nearest(system, known)}")
    wanted = _wanted(chosen, only)
    for system in only:
        if system not in {name for name, _ in wanted}:
            raise ConfigError(f"--system {system}: no row of the chosen tables names it; 'visir ablate' runs any row.")
    setup = _setup(request, {benchmark for _, benchmark in wanted}, default=f"reproduce-{name}")
    runs = Runs(setup)
    for (system, benchmark), protocols in wanted.items():
        if system in known:
            runs.want(*known[system], benchmark, protocols)
        else:
            runs.reasons[system, benchmark] = "not in this version of visir"
    runs.run(request)
    results = Results(
        title="Results on the synthetic twin" if request.twin else f"Reproduction of {name}",
        facts=tuple(_facts(request, setup)),
        sheets=(*_summary(runs, chosen), *(_sheet(publication, table, runs, only) for publication, table in chosen)),
        orderings=tuple(orderings(runs.jobs, runs.reasons)),
        command=_command(name, tables, only, request),
    )
    return _written(results, setup.output, request.document, runs)


def run_ablation(file: Path, only: Sequence[str], request: Request) -> tuple[str, bool]:
    """Run the rows of an ablation file; see :func:`run_tables`.

    Raises:
        ConfigError: also an unknown row.
    """
    ablation = read_ablation(find_config(file))
    names = [row.name for row in ablation.rows]
    for row_name in only:
        if row_name not in names:
            raise ConfigError(f"--row {row_name}: {nearest(row_name, names)}")
    rows = [row for row in ablation.rows if not only or row.name in only]
    chosen = [name for name in ablation.bases if not request.benchmarks or name in request.benchmarks]
    named = {name: root for name in chosen if (root := _own_root(ablation, name)) is not None}
    setup = _setup(request, set(chosen), default=f"ablation-{ablation.name}", named=named)
    runs = Runs(setup)
    protocols: dict[str, tuple[str, ...]] = {}
    for benchmark in chosen:
        for row in rows:
            if benchmark in ablation.benchmarks(row):
                experiment = ablation.experiment(row, benchmark)
                protocols[benchmark] = experiment.benchmark.protocols or _default(benchmark)
                runs.want(ablation, row, benchmark, protocols[benchmark])
    runs.run(request)
    shown = [protocol for names in protocols.values() for protocol in names]
    lines = tuple(_ablation_line(ablation, row, shown, runs) for row in rows)
    sheet = Sheet(ablation.name, f"Rows of {Path(file).name}.", columns(shown), lines, comparable=runs.comparable)
    results = Results(f"Ablation {ablation.name}", tuple(_facts(request, setup)), (sheet,))
    return _written(results, setup.output, request.document, runs)


def _own_root(ablation: Ablation, benchmark: str) -> Path | None:
    row = next((row for row in ablation.rows if benchmark in ablation.benchmarks(row)), None)
    if row is None:
        return None
    try:
        return ablation.experiment(row, benchmark).root()
    except ConfigError:  # none, or an environment variable that is not set
        return None


def _default(benchmark: str) -> tuple[str, ...]:
    return tuple(map(without_partition, list(benchmarks.find(benchmark).protocols(1))[:1]))


def _ablation_line(ablation: Ablation, row: Row, shown: Sequence[str], runs: Runs) -> Line:
    system = ablation.system(row)
    printed = {p: quotes[0].figures for p in shown if (quotes := publications.figures(system, p))}
    outcomes = {p: found for p in shown if (found := runs.outcome(system, p)) is not None}
    reasons = [runs.reasons[need] for need in runs.reasons if need[0] == system]
    return Line(row.name, system, printed, outcomes, reason="; ".join(dict.fromkeys(reasons)))


def _tables(name: str, tables: Sequence[str]) -> Iterator[tuple[Publication, Table]]:
    if name == "all":
        if tables:
            raise ConfigError(f"tables {' '.join(tables)}: 'all' takes every table; name a publication to choose some.")
        for key in publications.available():
            yield from ((publications.find(key), table) for table in publications.find(key).tables)
        return
    publication = publications.find(name)
    chosen = [publication.table(table) for table in tables] or list(publication.tables)
    yield from ((publication, table) for table in chosen)


def _wanted(chosen: Sequence[tuple[Publication, Table]], only: Sequence[str]) -> dict[Need, list[str]]:
    """System and benchmark -> the protocols that some cell asks for, and the one by which claims are looked at."""
    wanted: dict[Need, list[str]] = {}
    for _, table in chosen:
        for row in table.rows:
            if row.system is None or (only and row.system not in only):
                continue
            for column in table.columns:
                wanted.setdefault((row.system, benchmark_of(column.protocol)), []).append(column.protocol)
    for (_, benchmark), protocols in wanted.items():
        if benchmark in LOOKED_AT:
            protocols.append(LOOKED_AT[benchmark])
    return wanted


def _setup(request: Request, needed: set[str], *, default: str, named: Mapping[str, Path] | None = None) -> Setup:
    """``named``: benchmark -> the folder that a file of the user's own gives."""
    for name in request.benchmarks:
        if name not in needed:
            raise ConfigError(f"--benchmark {name}: {nearest(name, needed)}")
    needed = {name for name in needed if not request.benchmarks or name in request.benchmarks}
    output = request.output or Path("runs") / (f"{default}-twin-{request.twin}" if request.twin else default)
    roots = _twins(request, needed, output) if request.twin else _given(request, needed, named or {})
    budget = BUDGETS.get(request.twin or "")
    return Setup(
        output=output,
        roots=roots,
        draws=request.draws or (1 if request.twin else 10),
        seeds=request.seeds,
        settings=request.settings,
        pretrained=request.pretrained,
        budget=budget,
        weights=_start(budget, output),
    )


def _start(budget: Budget | None, output: Path) -> str:
    """The weights that rows start from within a budget; made at the first call."""
    if budget is None or not budget.pretraining or budget.others is None:
        return "scratch"
    file = pretrained(
        output / "pretrained",
        name=budget.backbone,
        height=budget.height,
        width=budget.width,
        images=2 * budget.images,
        steps=budget.pretraining,
        size=budget.others,
    )
    return file.as_posix()


def _twins(request: Request, needed: set[str], output: Path) -> dict[str, Path]:
    if request.roots:
        raise ConfigError("--root and --twin: give one of them; a twin is made in the output folder.")
    assert request.twin is not None
    layouts = [layout for layout in LAYOUTS if layout in needed]
    return {
        layout: write_twin(output / "twins" / layout, layout=layout, size=request.twin, seed=TWIN_SEED)
        for layout in layouts
    }


def _given(request: Request, needed: set[str], named: Mapping[str, Path]) -> dict[str, Path]:
    found = {**named, **{benchmarks.recognise(root).name: root for root in request.roots}}
    for name, variable in ROOTS.items():
        if name in needed and os.environ.get(variable):
            found.setdefault(name, Path(os.environ[variable]))
    usable = {name: root for name, root in found.items() if name in needed}
    if not usable:
        titles = ", ".join(sorted(benchmarks.find(name).title for name in needed))
        raise ConfigError(
            f"no data set at hand: these rows need {titles}. Its authors give it on request (docs/data.md tells how to "
            "get it and where its files go); then give --root DIR. Without it, --twin demo runs every row on a "
            "synthetic twin."
        )
    return usable


def _facts(request: Request, setup: Setup) -> Iterator[str]:
    if request.twin:
        titles = ", ".join(benchmarks.find(name).title for name in setup.roots)
        yield (
            f"Data: synthetic twins ({request.twin}, seed {TWIN_SEED}) of {titles}, made by visir. No figure "
            "here is comparable with a printed one: other people, other pictures. What can be compared is the order of "
            "the rows."
        )
    if setup.budget is not None:
        yield setup.budget.sentence()
    if setup.settings:
        yield f"Changed in every row: {', '.join(setup.settings)}."
    if request.pretrained:
        yield (
            "Networks start from ImageNet weights where the publication does; in place of Caffe's AlexNet, of which "
            "none can be fetched, stands torchvision's."
        )


def _summary(runs: Runs, chosen: Sequence[tuple[Publication, Table]]) -> Iterator[Sheet]:
    """Every system that was run, once, the best first: one sheet for each data set, where there are several tables."""
    for benchmark, protocol in LOOKED_AT.items():
        lines = []
        for system in sorted({name for name, where in runs.jobs if where == benchmark}):
            found = runs.outcome(system, protocol)
            printed = publications.figures(system, protocol)
            if found is not None:
                shown = {protocol: printed[0].figures} if printed else {}
                lines.append(Line(system, system, shown, {protocol: found}))
        lines.sort(key=lambda line: -line.outcomes[protocol].mean["mAP"])
        if len(chosen) > 1 and lines:
            title = f"All systems on {benchmarks.find(benchmark).title}"
            caption = "Every system that was run and has this protocol, by our mAP."
            yield Sheet(title, caption, columns([protocol]), tuple(lines), comparable=runs.comparable)


def _sheet(publication: Publication, table: Table, runs: Runs, only: Sequence[str]) -> Sheet:
    lines = []
    for row in table.rows:
        if only and row.system not in only:
            continue
        protocols = [column.protocol for column in table.columns]
        outcomes = {}
        reasons = [row.missing] if row.missing else []
        for protocol in protocols if row.system else ():
            found = runs.outcome(row.system or "", protocol)
            if found is not None:
                outcomes[protocol] = found
            else:
                reasons.append(runs.reasons.get((row.system or "", benchmark_of(protocol)), "not run"))
        reason = "; ".join(dict.fromkeys(reason for reason in reasons if reason))
        lines.append(Line(row.name, row.system, row.published(), outcomes, reason, row.errors, row.own))
    names = {column.protocol: column.figures for column in table.columns}
    title = f"{publication.key.replace('_', '-')}, {table.name}"
    return Sheet(
        title, f"{table.caption} ({publication.citation}).", names, tuple(lines), table.errors, runs.comparable
    )


def _command(name: str, tables: Sequence[str], only: Sequence[str], request: Request) -> str:
    words = ["visir", "reproduce", name, *tables]
    words += [word for system in only for word in ("--system", system)]
    words += ["--twin", request.twin] if request.twin else ["--root DIR"] * len(request.roots)
    words += [word for benchmark in request.benchmarks for word in ("--benchmark", benchmark)]
    words += ["--draws", str(request.draws)] if request.draws else []
    words += ["--seeds", ",".join(map(str, request.seeds))] if request.seeds else []
    words += [word for setting in request.settings for word in ("--set", setting)]
    words += ["--pretrained"] if request.pretrained else []
    words += ["--finished"] if request.finished else []
    return " ".join(words)


def _written(results: Results, output: Path, document: Path | None, runs: Runs) -> tuple[str, bool]:
    files = write_results(results, output)
    if document is not None:
        write_text(document, markdown(results))
        files.append(document)
    said = "\n".join(f"{path}" for path in files)
    if runs.failed:
        rows = "1 row is" if len(runs.failed) == 1 else f"{len(runs.failed)} rows are"
        said += f"\n{rows} not finished; the same command goes on: {', '.join(sorted({n for n, _ in runs.failed}))}"
    return said, not runs.failed
