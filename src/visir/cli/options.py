"""Options that several commands share."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer


class Layout(enum.StrEnum):
    """Layouts that a twin can have."""

    sysu_mm01 = "sysu_mm01"
    regdb = "regdb"
    llcm = "llcm"


class Format(enum.StrEnum):
    """How scores are printed."""

    table = "table"
    json = "json"
    csv = "csv"


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
WorkersOption = Annotated[int | None, typer.Option(help="Processes; by default one for each core.", min=1)]
FormatOption = Annotated[Format, typer.Option("--format", help="table, json or csv.")]
RootOption = Annotated[Path | None, typer.Option(help="Folder of the data set, instead of the one in the file.")]
ProtocolOption = Annotated[list[str] | None, typer.Option("--protocol", help="Protocol id; may be repeated.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; by default a GPU where there is one.")]


class Distance(enum.StrEnum):
    """How two features are compared."""

    euclidean = "euclidean"
    cosine = "cosine"
    manhattan = "manhattan"
