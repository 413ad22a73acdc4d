"""One look for all figures: a palette that colour-blind readers can tell apart, quiet axes, reproducible files.

Figures are made from :class:`matplotlib.figure.Figure` directly, so there is no current figure and no window, and the
settings below hold only inside functions marked :func:`styled`.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from visir.core.files import write_bytes
from visir.core.types import Modality

P = ParamSpec("P")
R = TypeVar("R")

# Okabe and Ito's colours; the meanings are fixed so that a reader learns them once.
MODALITY_COLOUR = {Modality.VISIBLE: "#0072B2", Modality.INFRARED: "#D55E00"}
MODALITY_NAME = {Modality.VISIBLE: "visible", Modality.INFRARED: "infrared"}
MODALITY_MARKER = {Modality.VISIBLE: "o", Modality.INFRARED: "^"}
SAME, DIFFERENT = "#009E73", "#8A6BA8"
QUERY, RIGHT, WRONG, UNKNOWN = "#0072B2", "#12855E", "#C7362B", "#8A8F98"
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B5B5B", "#000000")
# Tol's "muted" set: ten identities that stay apart under the three common colour-vision deficiencies
IDENTITIES = (
    "#332288", "#88CCEE", "#117733", "#CC6677", "#DDCC77", "#AA4499", "#44AA99", "#882255", "#999933", "#777777",
)  # fmt: skip
INK, MUTED, GRID = "#1F2430", "#626A78", "#E3E6EB"
STROKES = ("-", "--", "-.", ":")
PAGE_WIDTH = 7.0  # inches: the text width of a two-column paper

STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.0,
    "text.parse_math": False,  # a "$" in a file name is a "$"
    "text.color": INK,
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.labelsize": 8.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "visir",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True, eq=False)
class Illustration:
    """A figure with the words that go with it.

    Attributes:
        name: stem of its files, such as ``cmc-sysu``.
        title: a short heading.
        caption: what is shown, how it was made, what to look for.
        alt: the content in one or two sentences, for readers who cannot see it.
        figure: the matplotlib figure.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure

    def __post_init__(self) -> None:
        self.figure.draw_without_rendering()  # lays it out once instead of anew for each file
        self.figure.set_layout_engine("none")

    @functools.cached_property
    def svg(self) -> bytes:
        """The figure as an SVG file."""
        return render(self.figure, "svg")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function`` under :data:`STYLE` and leave matplotlib's settings as they were."""

    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return inner


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches, tied to the Agg canvas and to nothing else."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def legend_below(figure: Figure, handles: Sequence[Any], columns: int) -> None:
    """One legend for the whole figure, under its axes, where it covers no data."""
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


@styled
def render(figure: Figure, kind: Literal["png", "svg", "pdf"], *, dpi: int = 300) -> bytes:
    """The figure as the bytes of a file; equal figures give equal bytes (no date is written)."""
    metadata: dict[str, Any] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def save(illustration: Illustration, folder: Path, *, dpi: int = 300) -> dict[str, Path]:
    """Write ``<name>.png`` (``dpi`` dots per inch), ``.svg`` and ``.pdf`` into ``folder``, each atomically.

    Returns:
        kind -> file.

    Raises:
        StorageError: the folder cannot be written or the disk is full.
    """
    written = {}
    for kind in ("png", "svg", "pdf"):
        path = folder / f"{illustration.name}.{kind}"
        write_bytes(path, illustration.svg if kind == "svg" else render(illustration.figure, kind, dpi=dpi))
        written[kind] = path
    return written


@functools.cache
def _drawable() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())


def printable(text: object, limit: int = 40) -> str:
    """``text`` on one line, at most ``limit`` characters, with "?" for characters that the figure font lacks.

    >>> printable("a\\nb")
    'a b'
    >>> printable("abcdefgh", limit=5)
    'ab…gh'
    """
    line = " ".join(str(text).split())
    line = "".join(c if ord(c) in _drawable() else "?" for c in line)
    if len(line) <= limit:
        return line
    head = limit // 2
    return f"{line[:head]}…{line[len(line) - (limit - head - 1) :]}"


def percent(value: float) -> str:
    """A fraction in percent as the field's tables print it; "–" where there is no number.

    >>> percent(0.48713)
    '48.71'
    """
    return "–" if value != value else f"{100 * value:.2f}"
