"""``visir reproduce`` and ``visir ablate``."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer


class Twin(enum.StrEnum):
    """Sizes of the synthetic twin."""

    tiny = "tiny"
    demo = "demo"
    full = "full"


OutputOption = Annotated[Path | None, typer.Option(help="Folder for the runs and the tables.")]
RootsOption = Annotated[
    list[Path] | None,
    typer.Option("--root", help="Folder of a data set, recognised by what lies in it; may be repeated."),
]
TwinOption = Annotated[
    Twin | None,
    typer.Option("--twin", help="Make synthetic twins of this size and use them; tiny and demo have a budget."),
]
DrawsOption = Annotated[
    int | None, typer.Option(min=1, max=10, help="Partitions of RegDB, 1 to 10; by default all, on a twin one.")
]
SeedsOption = Annotated[str, typer.Option(help="Seeds, such as 0,1,2; by default those of the file, or 0.")]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", help="dotted.key=value over every row; may be repeated.")
]
DevicesOption = Annotated[
    list[str] | None, typer.Option("--device", help="cpu, cuda:0, ...; repeated: a row on each device at a time.")
]
ParallelOption = Annotated[int, typer.Option("--parallel", min=1, help="Rows at a time on each device.")]
PretrainedOption = Annotated[
    bool, typer.Option("--pretrained", help="Start from ImageNet weights; downloads them once if need be.")
]
FinishedOption = Annotated[
    bool, typer.Option("--finished", help="Run nothing; write the tables of the runs that are finished.")
]
BenchmarkOption = Annotated[list[str] | None, typer.Option("--benchmark", help="Only this data set; may be repeated.")]


DocumentOption = Annotated[Path | None, typer.Option(help="Also write the Markdown page here.")]


def _requested(
    roots: RootsOption = None,
    twin: TwinOption = None,
    benchmarks: BenchmarkOption = None,
    draws: DrawsOption = None,
    seeds: SeedsOption = "",
    settings: SettingsOption = None,
    pretrained: PretrainedOption = False,
    devices: DevicesOption = None,
    parallel: ParallelOption = 1,
    finished: FinishedOption = False,
    output: OutputOption = None,
    document: DocumentOption = None,
) -> Any:
    """The request that the options of both commands make."""
    from visir.reproduce.request import Request

    return Request(
        roots=tuple(roots or ()),
        twin=twin.value if twin else None,
        benchmarks=tuple(benchmarks or ()),
        draws=draws,
        seeds=_numbers(seeds),
        settings=tuple(settings or ()),
        pretrained=pretrained,
        devices=tuple(devices or ()),
        parallel=parallel,
        finished=finished,
        output=output,
        document=document,
    )


def _with_request(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of :func:`_requested` behind its own; it gets what they make as ``request``."""
    own, common = (inspect.signature(one, eval_str=True).parameters.values() for one in (command, _requested))
    parameters = [*(one for one in own if one.name != "request"), *common]

    @functools.wraps(command)
    def called(**given: Any) -> None:
        request = _requested(**{one.name: given.pop(one.name) for one in common})
        command(**given, request=request)

    called.__dict__["__signature__"] = inspect.Signature(parameters)
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


@_with_request
def reproduce(
    publication: Annotated[str, typer.Argument(help="Publication such as dfe or base-derivative, or 'all'.")],
    request: Any,
    tables: Annotated[list[str] | None, typer.Argument(help="Tables such as table4; by default all of them.")] = None,
    systems: Annotated[
        list[str] | None, typer.Option("--system", help="Only this system, such as dfe/baseline; may be repeated.")
    ] = None,
) -> None:
    """Run the rows of published tables and put our figures beside the printed ones.

    Finished runs are skipped and interrupted ones resumed, so the same command goes on where it stopped.
    """
    from visir.reproduce.command import run_tables

    _told(run_tables(publication, tuple(tables or ()), tuple(systems or ()), request))


@_with_request
def ablate(
    file: Annotated[
        Path, typer.Argument(help="Ablation file with base and rows, or a shipped one such as dfe/ablation.")
    ],
    request: Any,
    rows: Annotated[list[str] | None, typer.Option("--row", help="Only this row; may be repeated.")] = None,
) -> None:
    """Run every row of an ablation file and write one table; finished rows are skipped."""
    from visir.reproduce.command import run_ablation

    _told(run_ablation(file, tuple(rows or ()), request))


def _numbers(text: str) -> tuple[int, ...]:
    from visir.core.errors import ConfigError

    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(","))) if text else ()
    except ValueError as error:
        raise ConfigError(f"--seeds: expected whole numbers such as 0,1,2, got {text!r}.") from error


def _told(made: tuple[str, bool]) -> None:
    said, whole = made
    typer.echo(said)
    if not whole:
        raise typer.Exit(2)
