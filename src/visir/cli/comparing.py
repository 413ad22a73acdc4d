"""``visir compare``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from visir.cli.options import DeviceOption, ProtocolOption, RootOption

AGAINST = "--against"


class ComparisonFormat(enum.StrEnum):
    """How comparisons are printed."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"


class Groups(TyperCommand):
    """A command whose option ``--against`` takes all words up to the next option, as a shell's ``*`` gives them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The usual parsing, of arguments with ``--against`` before each of its words."""
        return super().parse_args(ctx, spread(args))


def spread(words: list[str]) -> list[str]:
    """Repeat ``--against`` before each word that follows it.

    >>> spread(["a", "--against", "b", "c", "--seed", "3"])
    ['a', '--against', 'b', '--against', 'c', '--seed', '3']
    """
    found: list[str] = []
    taking = False
    for word, following in zip(words, [*words, "-"][1:], strict=True):
        if not word.startswith("-"):
            found += [AGAINST, word] if taking else [word]
            continue
        taking = word == AGAINST or word.startswith(f"{AGAINST}=")
        if word != AGAINST or following.startswith("-"):  # without any word it stays, to be complained about
            found.append(word)
    return found


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Evaluated run folders: the first is compared with each other one, or see --against."),
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option(help="One run or more: RUNS and these are two groups, each of one experiment's seeds or draws."),
    ] = None,
    root: RootOption = None,
    protocols: ProtocolOption = None,
    form: Annotated[
        ComparisonFormat, typer.Option("--format", help="table, json, csv or markdown.")
    ] = ComparisonFormat.table,
    resamples: Annotated[int, typer.Option(help="Draws of people for the intervals.", min=100, max=1_000_000)] = 10_000,
    seed: Annotated[int, typer.Option(help="Of these draws.")] = 0,
    device: DeviceOption = None,
) -> None:
    """Compare evaluated runs: differences with 95 % intervals, by a paired bootstrap over the people searched for.

    Means over seeds: visir compare A1 A2 A3 --against B1 B2 B3. Draws of RegDB are paired by their number.
    """
    from visir.core.errors import ConfigError
    from visir.experiment.compare import compare_runs
    from visir.experiment.comparison import format_comparisons

    if not against and len(runs) < 2:
        raise ConfigError(f"compare: expected at least two runs, got {runs[0]} alone.")
    pairs = [(runs, against)] if against else [(runs[:1], [other]) for other in runs[1:]]
    found = [
        compare_runs(first, second, root=root, protocols=protocols or (), resamples=resamples, seed=seed, device=device)
        for first, second in pairs
    ]
    for warning in dict.fromkeys(warning for one in found for warning in one.warnings):
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(format_comparisons(found, form.value))
