"""``visir convert``."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Annotated

import typer

from visir.cli.options import DeviceOption, JsonOption, RootOption


class Direction(enum.StrEnum):
    """From which modality to which."""

    both = "both"
    ir2v = "ir2v"
    v2ir = "v2ir"


def convert(
    run: Annotated[Path, typer.Argument(help="Trained run of a method that converts, such as cyclegan.")],
    output: Annotated[Path, typer.Argument(help="Folder to write; new, empty, or the same unfinished conversion.")],
    root: RootOption = None,
    split: Annotated[
        str | None, typer.Option(help="train, validation, trainval or test; by default what was trained on.")
    ] = None,
    direction: Annotated[
        Direction, typer.Option(help="Infrared to visible, visible to infrared, or both.")
    ] = Direction.both,
    truth: Annotated[
        Path | None,
        typer.Option(help="Folder of the true pictures, laid out as the data set; by default a twin's counterparts."),
    ] = None,
    device: DeviceOption = None,
    workers: Annotated[int, typer.Option(help="Threads that read and write.", min=0)] = 2,
    as_json: JsonOption = False,
) -> None:
    """Convert the training images to the other modality; where the truth is known, say how good they are.

    The same command again goes on where it was stopped. Learn from the images: --set benchmark.converted=OUTPUT.
    """
    from visir.experiment.quality import format_quality
    from visir.experiment.translate import convert_images

    done = convert_images(
        run,
        output,
        root=root,
        split=split,
        direction=direction.value,
        device=device,
        workers=workers,
        truth=truth,
    )
    if as_json:
        typer.echo(json.dumps(done.as_dict(), indent=2))
        return
    if done.quality:
        typer.echo(format_quality(done.quality))
    count = sum(done.about["images"].values())
    typer.echo(f"{output}: {count:,} pictures converted to the other modality.")
