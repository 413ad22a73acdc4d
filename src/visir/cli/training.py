"""``visir train``, ``report``, ``demo`` and ``list``."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Annotated

import typer

from visir.cli.options import DeviceOption, RootOption


def train(
    config: Annotated[Path, typer.Argument(help="Experiment file, or a shipped one by name such as dfe/sysu_mm01.")],
    run: Annotated[Path | None, typer.Option(help="Run folder; by default runs/<name of the experiment>.")] = None,
    root: RootOption = None,
    draw: Annotated[int | None, typer.Option(help="Train/test partition, for RegDB 1 to 10.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="dotted.key=value over the file; may be repeated.")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start from ImageNet weights; downloads them once if need be.")
    ] = False,
    weights: Annotated[Path | None, typer.Option(help="Start from this safetensors file.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin again instead of resuming what the folder holds.")
    ] = False,
    device: DeviceOption = None,
) -> None:
    """Train one experiment; the same command again resumes it where it stopped.

    Several GPUs: torchrun --nproc-per-node 4 -m -- visir train CONFIG.
    """
    from visir.experiment.config import load
    from visir.experiment.prepared import prepared
    from visir.experiment.shipped import find_config
    from visir.experiment.train import train as run_training
    from visir.methods.base import ConversionMethod
    from visir.methods.catalog import find

    if pretrained and weights is not None:
        raise typer.BadParameter("give --pretrained or --weights, not both")
    start = "imagenet" if pretrained else weights and str(weights)
    given = {"benchmark.root": root and str(root), "benchmark.draw": draw, "with.weights": start}
    file = find_config(config)
    experiment = load(file, settings or [], {key: value for key, value in given.items() if value is not None})
    name = file.stem if config.is_file() else f"{file.parent.name}-{file.stem}"
    place = run or Path("runs") / name
    folder = run_training(prepared(experiment, place, device=device), place, fresh=fresh, device=device)
    if os.environ.get("RANK", "0") == "0":
        converts = issubclass(find(experiment.method), ConversionMethod)
        following = f"visir convert {folder.path} DIR" if converts else f"visir evaluate {folder.path}"
        typer.echo(f"{folder.path}: trained. Next: {following}")


def report(
    run: Annotated[Path, typer.Argument(help="Run folder that has been evaluated.")],
    output: Annotated[Path | None, typer.Option(help="The page; RUN/report.html by default.")] = None,
) -> None:
    """Write report.html (one file, no network) and figures/ into the run folder."""
    from visir.report.page import write_report

    typer.echo(f"{write_report(run, output=output)}")


def demo(
    run: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Seed of the twin and of the training.")] = 1,
) -> None:
    """Twin, training, official evaluation, gallery, search and report, in a few minutes on two CPU cores."""
    from visir.demo.demo import run_demo

    typer.echo(run_demo(run, seed=seed))


def list_known() -> None:
    """List methods, systems, experiment files, publications with their tables, benchmarks with their protocols."""
    from visir import publications
    from visir.benchmarks import catalog as benchmarks
    from visir.experiment.ablation import systems
    from visir.experiment.shipped import names
    from visir.methods import catalog as methods

    for name in methods.available():
        first = (methods.find(name).__doc__ or "").strip().splitlines()[0].partition("; see :class:")[0].rstrip(".")
        typer.echo(f"method     {name:18} {first}")
    for name, (ablation, row) in systems().items():
        typer.echo(f"system     {name:34} {', '.join(ablation.benchmarks(row))}")
    for method, files in itertools.groupby(names(), lambda name: name.partition("/")[0]):
        typer.echo(f"file       {method:18} {', '.join(files)}")
    for name in publications.available():
        found = publications.find(name)
        typer.echo(
            f"published  {name:18} {found.venue} {found.year}: {', '.join(table.name for table in found.tables)}"
        )
    for name in benchmarks.available():
        benchmark = benchmarks.find(name)
        typer.echo(f"benchmark  {name:18} {benchmark.title}: {', '.join(benchmark.protocols(1))}")
