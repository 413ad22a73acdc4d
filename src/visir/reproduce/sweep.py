"""Figures of ablations that vary a number: what each value gives, as curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, ScalarFormatter

from visir.experiment.ablation import Sweep
from visir.report.style import LINES, PAGE_WIDTH, STROKES, Illustration, legend_below, new_figure, styled
from visir.reproduce.outcome import Outcome
from visir.reproduce.sheet import Sheet

PANELS = {"rank1": "rank-1 in percent", "mAP": "mAP in percent"}
Points = Sequence[tuple[float, Outcome]]


def sweeps(sweep: Sweep, sheet: Sheet) -> Iterator[Illustration]:
    """One figure for each protocol of which a curve has at least two finished rows."""
    for protocol in sheet.columns:
        found = {line.name: line.outcomes[protocol] for line in sheet.lines if protocol in line.outcomes}
        curves = {
            name: [(value, found[row]) for value, row in sorted(rows.items()) if row in found]
            for name, rows in sweep.curves.items()
        }
        curves = {name: points for name, points in curves.items() if len(points) > 1}
        if curves:
            yield _drawn(sweep, sheet.title, protocol, curves)


@styled
def _drawn(sweep: Sweep, title: str, protocol: str, curves: Mapping[str, Points]) -> Illustration:
    figure = new_figure(PAGE_WIDTH, 3.0)
    lines: list[Line2D] = []
    for axes, (key, label) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        lines = []
        for (name, points), colour, stroke in zip(curves.items(), cycle(LINES), cycle(STROKES), strict=False):
            values, means = [value for value, _ in points], [one.mean[key] for _, one in points]
            spread = [0.0 if one.over_seeds is None else one.over_seeds[key] for _, one in points]
            if any(spread):
                axes.errorbar(values, means, spread, fmt="none", ecolor=colour, elinewidth=0.8, capsize=2)
            lines += axes.plot(values, means, stroke, color=colour, marker="o", markersize=3.5, label=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(sorted({value for points in curves.values() for value, _ in points}))
        axes.set_xlabel(sweep.along)
        axes.set_ylabel(label)
    legend_below(figure, lines, columns=len(lines))
    everything = [(one, name, value) for name, points in curves.items() for value, one in points]
    bars = " Bars: deviation over seeds." if any(one.over_seeds for one, _, _ in everything) else ""
    best, where, value = max(everything, key=lambda found: found[0].mean["mAP"])
    return Illustration(
        name=f"{title}-{protocol}",
        title=sweep.title,
        caption=f"{protocol}; one training for each point and seed.{bars}",
        alt=f"Rank-1 and mAP against the {sweep.along}; the best mAP, {best.mean['mAP']:.2f}, is {where} at {value:g}.",
        figure=figure,
    )
