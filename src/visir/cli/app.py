"""The table of commands and the one place where errors become sentences and exit codes."""

from __future__ import annotations

import os
import sys
import warnings

import typer
from typer.exceptions import TyperException

from visir.cli import comparing, converting, data, evaluation, gallery, reproducing, training
from visir.core.errors import VisirError

INTERRUPTED = 130

app = typer.Typer(
    name="visir",
    help="Visible-infrared person re-identification: published systems, official protocols, a searchable gallery.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.command()(training.train)
app.command()(evaluation.evaluate)
app.command(cls=comparing.Groups)(comparing.compare)
app.command()(evaluation.score)
app.command()(evaluation.embed)
app.command()(converting.convert)
app.add_typer(gallery.app, name="gallery")
app.command()(gallery.search)
app.command()(reproducing.reproduce)
app.command()(reproducing.ablate)
app.command()(training.report)
app.command()(training.demo)
app.command(name="list")(training.list_known)


def _version(shown: bool) -> None:
    if shown:
        from visir import __version__

        typer.echo(f"visir {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_version, is_eager=True),
) -> None:
    """Visible-infrared person re-identification."""


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as one line for people, without the place in the source that raised it."""
    typer.echo(f"warning: {message}", err=True)


def _usage(error: TyperException) -> str:
    """What is wrong with a command line, in one sentence, and where its help is."""
    told = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    if context is None:
        return f"{told}."
    told = f"{told[:1].lower()}{told[1:]}".replace(". Did", "; did").removesuffix("?")
    return f"{told}; '{context.command_path} -h' tells what it takes."


def main() -> None:
    """Run the command line: 0 when all went well, 2 for anything the user can mend, 130 when interrupted."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait cost a busy machine most
    warnings.showwarning = _warn
    try:
        code = app(prog_name="visir", standalone_mode=False)  # else typer says what is wrong in a box of five lines
        if code == INTERRUPTED:  # typer has caught the key and says nothing
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except TyperException as error:
        if str(error).strip():  # nothing to say: the help, which is shown already where no command is given
            typer.echo(f"visir: {_usage(error)}", err=True)
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("visir: stopped; what was finished is kept.", err=True)
        sys.exit(INTERRUPTED)
    except VisirError as error:
        typer.echo(f"visir: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:  # a folder that may not be read, a disk that went away
        if error.filename is None:
            raise
        typer.echo(f"visir: {error.filename}: {error.strerror or error}.", err=True)
        sys.exit(2)
