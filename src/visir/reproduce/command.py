"""``visir reproduce`` and ``visir ablate``: from what is asked for to runs, tables and files."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from visir import publications
from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.base import without_partition
from visir.core.errors import ConfigError, nearest
from visir.core.files import write_text
from visir.experiment.ablation import Ablation, Row, read_ablation, systems
from visir.experiment.config import Experiment
from visir.experiment.shipped import find_config
from visir.methods import catalog as methods
from visir.methods.base import ConversionMethod
from visir.publications import Publication, Table
from visir.report.style import save
from visir.reproduce.budget import BUDGETS
from visir.reproduce.claims import LOOKED_AT, orderings
from visir.reproduce.conversions import converts, run_conversions
from visir.reproduce.jobs import Setup
from visir.reproduce.locks import FOLDER as LOCKS
from visir.reproduce.locks import hold
from visir.reproduce.places import TWIN_SEED, check_places, find_roots, start_file
from visir.reproduce.planning import Need, Runs
from visir.reproduce.protocols import benchmark_of
from visir.reproduce.render import markdown, write_results
from visir.reproduce.request import Request
from visir.reproduce.sheet import Line, Results, Sheet, columns
from visir.reproduce.sweep import sweeps

NOTHING: Mapping[str, Path] = {}
LISTED = "'visir list' shows all."

__all__ = ["Request", "run_ablation", "run_tables"]


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
    request.check()
    chosen = list(_tables(name, tuple(dict.fromkeys(tables))))
    known = systems()
    only = [_system(system, known) for system in only]
    wanted = _wanted(chosen, only)
    if name == "all":
        wanted |= _unprinted(known, only, {system for system, _ in wanted})
    for system in only:
        if system not in {name for name, _ in wanted}:
            raise ConfigError(f"--system {system}: no row of the chosen tables names it; 'visir ablate' runs any row.")
    if not wanted:
        raise ConfigError(f"{' '.join((name, *tables))}: visir runs none of these rows; docs/published.md shows them.")
    setup = _setup(request, {benchmark for _, benchmark in wanted}, default=f"reproduce-{name}")
    runs = Runs(setup, request, choose="--system")
    for (system, benchmark), protocols in wanted.items():
        if request.benchmarks and benchmark not in request.benchmarks:
            runs.reasons[system, benchmark] = "left out by --benchmark"
        elif system in known:
            runs.want(*known[system], benchmark, protocols)
        else:
            runs.reasons[system, benchmark] = "not in this version of visir"
    runs.run()
    results = Results(
        title="Results on the synthetic twin" if request.twin else f"Reproduction of {name}",
        facts=tuple(_facts(request, setup)),
        sheets=(*_summary(runs, chosen), *(_sheet(publication, table, runs, only) for publication, table in chosen)),
        orderings=tuple(orderings(runs.jobs, runs.reasons)),
        command=_command(["reproduce", name, *tables], "--system", only, request),
    )
    return _written(results, setup.output, request.document, runs)


def _system(name: str, known: Collection[str]) -> str:
    """The system of this name; hyphens of its method count as underscores."""
    method, slash, row = name.partition("/")
    plain = f"{method.replace('-', '_')}{slash}{row}"
    if plain not in known:
        family = [system for system in known if system.partition("/")[0] == plain.partition("/")[0]]
        hint = nearest(plain, family or known, otherwise="" if family else LISTED)
        raise ConfigError(f"--system: unknown system {name!r}. {hint}")
    return plain


def run_ablation(file: Path, only: Sequence[str], request: Request) -> tuple[str, bool]:
    """Run the rows of an ablation file; see :func:`run_tables`.

    Raises:
        ConfigError: also an unknown row.
    """
    request.check()
    ablation = read_ablation(find_config(file))
    names = [row.name for row in ablation.rows]
    for row_name in only:
        if row_name not in names:
            raise ConfigError(f"--row: unknown row {row_name!r}. {nearest(row_name, names)}")
    rows = [row for row in ablation.rows if not only or row.name in only]
    bases = {name: _base(ablation, name) for name in ablation.bases}
    named = {name: root for name, base in bases.items() if (root := _own_root(base)) is not None}
    setup = _setup(request, set(ablation.bases), default=f"ablation-{ablation.name}", named=named)
    command = _command(["ablate", str(file)], "--row", only, request)
    if converts(ablation, rows):
        return run_conversions(ablation, rows, setup, request, command=command, facts=tuple(_facts(request, setup)))
    runs = Runs(setup, request, choose="--row")
    protocols: dict[str, tuple[str, ...]] = {}
    for benchmark in (name for name in ablation.bases if not request.benchmarks or name in request.benchmarks):
        protocols[benchmark] = bases[benchmark].benchmark.protocols or _default(benchmark)
        for row in rows:
            if benchmark in ablation.benchmarks(row):
                runs.want(ablation, row, benchmark, protocols[benchmark])
    runs.run()
    shown = [protocol for names in protocols.values() for protocol in names]
    lines = tuple(_ablation_line(ablation, row, shown, runs) for row in rows)
    sheet = Sheet(ablation.name, f"Rows of {Path(file).name}.", columns(shown), lines, comparable=runs.comparable)
    drawn = [] if ablation.figure is None else list(sweeps(ablation.figure, sheet))
    results = Results(f"Ablation {ablation.name}", tuple(_facts(request, setup)), (sheet,), command=command)
    said, complete = _written(results, setup.output, request.document, runs)
    figures = [path for one in drawn for path in save(one, setup.output / "figures").values()]
    return "\n".join([*map(str, figures), said]), complete


def _base(ablation: Ablation, benchmark: str) -> Experiment:
    try:
        return ablation.experiment(Row("base"), benchmark)
    except ConfigError as error:
        raise ConfigError(f"{ablation.bases[benchmark]}: {error}") from error


def _own_root(base: Experiment) -> Path | None:
    """The folder that a base names; None when it names none, or an environment variable that is not set."""
    try:
        return base.root()
    except ConfigError:
        return None


def _default(benchmark: str) -> tuple[str, ...]:
    return tuple(map(without_partition, list(benchmarks.find(benchmark).protocols(1))[:1]))


def _ablation_line(ablation: Ablation, row: Row, shown: Sequence[str], runs: Runs) -> Line:
    system = ablation.system(row)
    known = shown if ablation.shipped else ()
    printed = {p: quotes[0].figures for p in known if (quotes := publications.figures(system, p))}
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


def _unprinted(
    known: Mapping[str, tuple[Ablation, Row]], only: Sequence[str], printed: Collection[str]
) -> dict[Need, list[str]]:
    """The systems that no table prints, each on the first data set that it has an experiment on."""
    found: dict[Need, list[str]] = {}
    for system, (ablation, row) in known.items():
        benchmark = next((name for name in ablation.benchmarks(row) if name in LOOKED_AT), None)
        if system in printed or (only and system not in only) or benchmark is None:
            continue
        if not issubclass(methods.find(ablation.experiment(row, benchmark).method), ConversionMethod):
            found[system, benchmark] = [LOOKED_AT[benchmark]]
    return found


def _setup(request: Request, needed: set[str], *, default: str, named: Mapping[str, Path] = NOTHING) -> Setup:
    """``named``: benchmark -> the folder that a file of the user's own gives. Nothing is made yet."""
    for name in request.benchmarks:
        if name not in needed:
            raise ConfigError(f"--benchmark: these rows are not on {name!r}. {nearest(name, needed)}")
    needed = {name for name in needed if not request.benchmarks or name in request.benchmarks}
    output = request.output or Path("runs") / (f"{default}-twin-{request.twin}" if request.twin else default)
    check_places(output, request.document)
    budget = BUDGETS.get(request.twin or "")
    start = start_file(budget, output)
    return Setup(
        output=output,
        roots=find_roots(request, needed, named, output),
        draws=request.draws or (1 if request.twin else 10),
        seeds=request.seeds,
        settings=request.settings,
        pretrained=request.pretrained,
        budget=budget,
        weights="scratch" if start is None else start.resolve().as_posix(),
    )


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


def _command(words: Sequence[str], choose: str, only: Sequence[str], request: Request) -> str:
    chosen = [word for name in only for word in (choose, name)]
    return shlex.join(["visir", *words, *chosen, *request.words()])


def _written(results: Results, output: Path, document: Path | None, runs: Runs) -> tuple[str, bool]:
    with hold(output / LOCKS / "results"):
        for left in output.glob(".results.*.tmp"):  # of a process that was killed
            left.unlink(missing_ok=True)
        files = write_results(results, output)
        if document is not None:
            write_text(document, markdown(results))
            files.append(document)
    said = "\n".join(f"{path}" for path in files)
    if runs.failed:
        rows = "1 row is" if len(runs.failed) == 1 else f"{len(runs.failed)} rows are"
        said += f"\n{rows} not finished; the same command goes on: {', '.join(sorted({n for n, _ in runs.failed}))}"
        said += f"\n{runs.advice}" if runs.advice else ""
    return said, not runs.failed
