"""``visir data``: look at, make and convert data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from visir.cli.options import JsonOption, Layout, WorkersOption

app = typer.Typer(help="Look at, make and convert data sets.", no_args_is_help=True)


@app.command()
def doctor(
    root: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    images: Annotated[bool, typer.Option(help="Decode every image to find unreadable ones.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Recognise a data set, count it against the published table, and name what is wrong with its repair.

    Exit code 2 when something must be mended before the data set can be used.
    """
    from visir.experiment.doctor import examine, format_diagnosis

    diagnosis = examine(root, images=images)
    typer.echo(json.dumps(diagnosis.as_dict(), indent=2) if as_json else format_diagnosis(diagnosis))
    if any(finding.severity == "error" for finding in diagnosis.findings):
        raise typer.Exit(2)


@app.command()
def make(
    root: Annotated[
        Path, typer.Argument(help="Folder to write; it must be empty, missing, or the same unfinished twin.")
    ],
    layout: Annotated[Layout, typer.Option(help="Which real data set to imitate.")] = Layout.sysu_mm01,
    size: Annotated[str, typer.Option(help="tiny, demo or full.")] = "demo",
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    counterparts: Annotated[
        bool, typer.Option("--counterparts", help="Add every training image's moment in the other spectrum.")
    ] = False,
    workers: WorkersOption = None,
) -> None:
    """Make a synthetic twin of a data set: same folders, names and split files, invented people."""
    from visir.twin.write import write

    written = write(root, layout=layout.value, size=size, seed=seed, counterparts=counterparts, workers=workers)
    what = f"a synthetic {layout.value} twin, size {size}, seed {seed}{', with counterparts' if counterparts else ''}"
    typer.echo(f"{written}: {what}. Look at it: visir data doctor {written}")


@app.command()
def convert(
    root: Annotated[Path, typer.Argument(help="Folder of a known data set.")],
    output: Annotated[Path, typer.Argument(help="Folder to write; for a table also a .csv or .parquet file.")],
    to: Annotated[str, typer.Option(help="folder (visible/<id>/*, infrared/<id>/*) or table (index.csv).")] = "folder",
    split: Annotated[str, typer.Option(help="train, validation, trainval, test or all.")] = "test",
    draw: Annotated[int, typer.Option(help="Train/test partition, for RegDB 1 to 10.")] = 1,
    link: Annotated[bool, typer.Option("--link", help="Link to the pictures instead of copying them.")] = False,
) -> None:
    """Write any known data set in the plain layout of the ``folder`` benchmark."""
    from visir.experiment.convert import convert as run

    written = run(root, output, to=to, split=split, draw=draw, link=link)
    typer.echo(f"{written}")
