"""Cumulative match curves of evaluations, and the course of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator, NullFormatter

from visir.core.errors import EvaluationError
from visir.evaluation.report import Report
from visir.report.log import TrainingLog
from visir.report.style import (
    LINES,
    PAGE_WIDTH,
    STROKES,
    Illustration,
    legend_below,
    new_figure,
    percent,
    printable,
    styled,
)

Points = npt.NDArray[np.float64]
MOST_POINTS = 400  # of one training curve; longer logs are averaged over equal stretches


def family(protocol: str) -> str:
    """The benchmark part of a protocol id: curves of different families never share axes.

    >>> family("sysu-all-1-official")
    'sysu'
    """
    return protocol.split("-", maxsplit=1)[0]


@styled
def cmc_curves(reports: Sequence[tuple[str, Report]], *, name: str = "cmc") -> Illustration:
    """Rank-k matching rate against k, one line for each report, labelled by its protocol.

    Args:
        reports: (label, report); the label, such as a method's name, is put before the protocol id and may be "".
        name: stem of the files.

    Raises:
        EvaluationError: no report, or reports of different benchmarks, whose numbers cannot be compared.
    """
    families = sorted({family(report.protocol) for _, report in reports})
    if len(families) != 1:
        got = ", ".join(families) or "nothing"
        raise EvaluationError(f"CMC curves: expected reports of one benchmark, got {got}; draw one figure for each.")
    figure = new_figure(PAGE_WIDTH, 3.2 + 0.1 * len(reports))
    axes = figure.add_subplot()
    for (label, report), colour, stroke in zip(reports, cycle(LINES), cycle(STROKES), strict=False):
        curve = 100 * np.asarray(report.curve, np.float64)
        ranks, mean = np.arange(1, curve.shape[1] + 1), 100 * report.mean_curve()
        text = f"{printable(f'{label} · ' if label else '')} {printable(report.protocol, 60)}".strip()
        text += f" (rank-1 {percent(report.mean()['rank1'])} %)"
        axes.plot(ranks, mean, stroke, color=colour, marker="o", markersize=2.6, label=text)
        if len(curve) > 1:
            axes.fill_between(ranks, curve.min(axis=0), curve.max(axis=0), color=colour, alpha=0.14, linewidth=0)
    last = max(np.asarray(report.curve).shape[1] for _, report in reports)
    axes.set_xlim(0.5, last + 0.5)
    axes.set_ylim(0, 102)
    axes.set_xticks([1, *range(5, last + 1, 5)])
    axes.set_xlabel("rank k")
    axes.set_ylabel("queries with a match in the first k (%)")
    axes.set_title(f"Cumulative match characteristic, {families[0]}")
    legend_below(figure, axes.get_legend_handles_labels()[0], 1 if len(reports) < 3 else 2)
    caption = "Share of scored queries whose first right match is among the first k; mean over the trials"
    if any(len(report.trials) > 1 for _, report in reports):
        caption += ", the band from the lowest to the highest trial"
    alt = "; ".join(
        f"{label or 'curve'} on {report.protocol}: rank-1 {percent(report.mean()['rank1'])} %, "
        f"rank-20 {percent(report.mean()['rank20'])} %"
        for label, report in reports
    )
    return Illustration(name, "Cumulative match characteristic", f"{caption}.", f"CMC curves. {alt}.", figure)


@styled
def training_curves(log: TrainingLog, *, name: str = "training") -> Illustration:
    """Loss terms and learning rates over steps, validation scores over epochs; panels without data are left out.

    Raises:
        EvaluationError: the log holds no step and no validation.
    """
    panels = [draw for draw, wanted in _panels(log) if wanted]
    if not panels:
        raise EvaluationError("training curves: the log holds no step and no validation; 'visir train' writes them.")
    figure = new_figure(PAGE_WIDTH, 3.0)
    for place, draw in enumerate(panels):
        draw(figure.add_subplot(1, len(panels), place + 1), log)
    caption = (
        "Loss terms as logged, thin, with their running mean; validation on held-out training identities, never on "
        "test queries; the rate of each parameter group."
    )
    if not log.validations:
        caption = "Loss terms as logged, thin, with their running mean; the rate of each group. No validation was run."
    return Illustration(name, "Course of the training", caption, _words(log), figure)


def _panels(log: TrainingLog) -> tuple[tuple[Any, bool], ...]:
    return (_losses, bool(log.losses)), (_validation, bool(log.validations)), (_rates, bool(log.rates))


def _losses(axes: Any, log: TrainingLog) -> None:
    for (term, values), colour, stroke in zip(log.losses.items(), cycle(LINES), cycle(STROKES), strict=False):
        steps, thinned = thin(log.steps, values)
        axes.plot(steps, thinned, color=colour, linewidth=0.6, alpha=0.35)
        axes.plot(steps, running_mean(thinned), stroke, color=colour, label=printable(term, 18))
    positive = np.concatenate([values[np.isfinite(values)] for values in log.losses.values()])
    if len(positive) and positive.min() > 0 and positive.max() > 30 * positive.min():
        _logarithmic(axes)
    axes.set(xlabel="step", ylabel="loss term (weighted, no unit)")
    axes.set_title("Losses")
    _legend_under(axes)


def _validation(axes: Any, log: TrainingLog) -> None:
    epochs = np.array([one.epoch for one in log.validations])
    for (key, label), colour, stroke in zip((("rank1", "rank-1"), ("mAP", "mAP"), ("mINP", "mINP")), LINES, STROKES):  # noqa: B905
        values = np.array([100 * one.scores.get(key, np.nan) for one in log.validations])
        if np.isfinite(values).any():
            axes.plot(epochs, values, stroke, color=colour, marker="o", markersize=2.6, label=label)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set(xlabel="epoch", ylabel="validation score (%)")
    axes.set_title("Validation")
    _legend_under(axes)


def _rates(axes: Any, log: TrainingLog) -> None:
    for (group, values), colour, stroke in zip(log.rates.items(), cycle(LINES), cycle(STROKES), strict=False):
        axes.plot(log.steps, values, stroke, color=colour, label=printable(group, 18), drawstyle="steps-post")
    values = np.concatenate(list(log.rates.values()))
    values = np.unique(values[np.isfinite(values)])
    if len(values) and values[0] > 0 and values[-1] > 10 * values[0]:
        _logarithmic(axes)
    if 0 < len(values) <= 8:  # a schedule of steps: its own values are the best ticks
        axes.set_yticks(values, [f"{value:g}" for value in values])
    axes.set(xlabel="step", ylabel="learning rate (no unit)")
    axes.set_title("Learning rate")
    _legend_under(axes)


def _logarithmic(axes: Any) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend_under(axes: Any) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.24), ncols=2, columnspacing=1.2, handlelength=1.8)


def thin(steps: Points, values: Points, most: int = MOST_POINTS) -> tuple[Points, Points]:
    """Means over at most ``most`` equal stretches of a curve, so that long logs stay small files.

    >>> thin(np.arange(4.0), np.array([1.0, 3.0, 5.0, 7.0]), most=2)[1].tolist()
    [2.0, 6.0]
    """
    if len(steps) <= most:
        return steps, values
    parts = np.array_split(np.arange(len(steps)), most)
    return np.array([steps[part].mean() for part in parts]), np.array([values[part].mean() for part in parts])


def running_mean(values: Points) -> Points:
    """The mean of a window of about a twentieth of the curve around each point; gaps (NaN) are left out of it."""
    half = max(1, len(values) // 40)
    known = np.isfinite(values)
    window = np.ones(2 * half + 1)
    total = np.convolve(np.where(known, values, 0.0), window, mode="full")[half : half + len(values)]
    count = np.convolve(known.astype(np.float64), window, mode="full")[half : half + len(values)]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _words(log: TrainingLog) -> str:
    ends: Mapping[str, float] = {term: float(values[-1]) for term, values in log.losses.items() if len(values)}
    losses = ", ".join(f"{term} {value:.3g}" for term, value in ends.items())
    steps = int(log.steps[-1]) + 1 if len(log.steps) else 0
    text = f"Training curves over {steps} steps. Last losses: {losses or 'none'}."
    if log.validations:
        last = log.validations[-1]
        text += f" Last validation (epoch {last.epoch:g}): rank-1 {percent(last.scores.get('rank1', np.nan))} %."
    return text
