"""Figures of the feature space: distances by modality pair, a map of pictures, DFE's correlation curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from visir.core.errors import EvaluationError
from visir.core.types import FloatArray, ImageTable, Modality
from visir.evaluation.product import Features
from visir.report.features import (
    Correlations,
    Doubles,
    aligned_rows,
    cosine_distances,
    mask_of,
    overlap,
    pairs,
    project,
    sample_for_map,
    unit_length,
)
from visir.report.style import (
    DIFFERENT,
    GRID,
    IDENTITIES,
    INK,
    MODALITY_COLOUR,
    MODALITY_MARKER,
    MODALITY_NAME,
    MUTED,
    PAGE_WIDTH,
    SAME,
    Illustration,
    legend_below,
    new_figure,
    printable,
    styled,
)

V, I = Modality.VISIBLE, Modality.INFRARED  # noqa: E741 - the field's own letters
PANELS = ((V, V, "visible – visible"), (I, I, "infrared – infrared"), (V, I, "visible – infrared"))


@styled
def distance_histograms(
    features: Features, table: ImageTable, *, most: int = 50_000, seed: int = 0, name: str = "distances"
) -> Illustration:
    """Cosine distances of pairs of the same and of different identities, by modality pair, with means and overlap.

    Args:
        features: (n, D) float32, any length; finite.
        table: the n images.
        most: bound of the pairs of each kind; more are sampled with ``seed``.
        seed: of the sample.
        name: stem of the files.

    Raises:
        EvaluationError: features that do not fit the table or are not finite.
    """
    unit = unit_length(features, table)
    samples = [
        [cosine_distances(unit, *pairs(table, one, two, same=same, most=most, seed=seed)) for same in (True, False)]
        for one, two, _ in PANELS
    ]
    present = [values for panel in samples for values in panel if len(values)]
    if not present:
        raise EvaluationError("distances: expected at least one pair of pictures with known identities, got none.")
    low, high = min(float(v.min()) for v in present), max(float(v.max()) for v in present)
    count = int(np.clip(2 * np.sqrt(min(map(len, present))), 12, 60))
    bins = np.linspace(low, max(high, low + 1e-3), count + 1)
    figure = new_figure(PAGE_WIDTH, 2.5)
    words: list[str] = []
    axes = None
    for place, ((_, _, label), (same, different)) in enumerate(zip(PANELS, samples, strict=True)):
        axes = figure.add_subplot(1, 3, place + 1, sharex=axes, sharey=axes)
        words.append(_histogram(axes, label, same, different, bins))
        axes.set_xlabel("cosine distance (0 to 2)")
    figure.axes[0].set_ylabel("share of pairs (%)")
    for later in figure.axes[1:]:
        later.tick_params(labelleft=False)
    handles = [
        Patch(color=SAME, alpha=0.55, label="same identity"),
        Patch(color=DIFFERENT, alpha=0.55, label="different identities"),
    ]
    legend_below(figure, [*handles, Line2D([], [], color=INK, linestyle="--", label="mean")], 3)
    caption = (
        "Cosine distances between pictures of the same and of different identities, inside each modality and across; "
        "dashed and above: means. The overlap is the common area of the two histograms (0 apart, 1 equal). A modality "
        "gap shows as a right panel further right and with more overlap than the other two. "
        f"At most {most:,} pairs of a kind, sampled uniformly."
    )
    return Illustration(
        name, "Distances by modality pair", caption, "Histograms of distances. " + " ".join(words), figure
    )


def _histogram(axes: Any, label: str, same: FloatArray, different: FloatArray, bins: Doubles) -> str:
    for values, colour in ((same, SAME), (different, DIFFERENT)):
        if len(values):
            weights = np.full(len(values), 100.0 / len(values))
            axes.hist(values, bins=bins, weights=weights, color=colour, alpha=0.55)
            axes.axvline(values.mean(), color=colour, linestyle="--", linewidth=1.2)
    shared = overlap(same, different, bins)
    axes.set_title(f"{label}\n", loc="left")
    means = [f"{values.mean():.3f}" if len(values) else "no pairs" for values in (same, different)]
    text = f"same {means[0]}, different {means[1]}" + ("" if np.isnan(shared) else f", overlap {shared:.2f}")
    axes.text(0.0, 1.03, text, transform=axes.transAxes, color=MUTED, fontsize=6.5).set_in_layout(False)
    return f"{label}: mean {text}."


@styled
def feature_map(
    features: Features, table: ImageTable, *, identities: int = 10, images: int = 20, seed: int = 0, name: str = "map"
) -> Illustration:
    """A 2-D map of pictures: the marker tells the modality, the colour the identity.

    Args:
        features: (n, D) float32, finite.
        table: the n images.
        identities: at most so many people (colours repeat beyond ten).
        images: at most so many pictures of each person in each modality.
        seed: of the sample and of t-SNE.
        name: stem of the files.

    Raises:
        EvaluationError: features that do not fit the table or are not finite, or no picture of a known identity.
    """
    unit = unit_length(features, table)
    rows = sample_for_map(table, identities=identities, images=images, seed=seed)
    if not len(rows):
        raise EvaluationError("map: expected pictures of known identities, got none.")
    part = table.take(rows)
    places, method = project(unit[rows], seed=seed)
    figure = new_figure(PAGE_WIDTH, 4.6)
    axes = figure.add_subplot()
    for number, person in enumerate(part.identities()):
        _person(axes, places, part, int(person), IDENTITIES[number % len(IDENTITIES)])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.set_xlabel("first map coordinate (no unit)")
    axes.set_ylabel("second map coordinate (no unit)")
    axes.set_title(f"Features on a plane ({method})")
    axes.margins(0.07)
    markers = [
        Line2D([], [], color=MUTED, marker=MODALITY_MARKER[m], linestyle="none", label=MODALITY_NAME[m])
        for m in Modality
    ]
    link = Line2D([], [], color=MUTED, linewidth=1.0, label="from visible to infrared mean of an identity")
    legend_below(figure, [*markers, link], 3)
    count = len(part.identities())
    caption = (
        f"{len(rows)} test pictures of {count} identities drawn at random. Colour and number: identity; marker: "
        "modality; the line joins an identity's visible and infrared means. Short lines between tight groups are what "
        f"a modality-invariant encoder gives. {method}; distances between far groups mean nothing in such a map."
    )
    alt = f"Scatter of {len(rows)} pictures of {count} identities in two modalities, by {method}."
    return Illustration(name, "Map of the features", caption, alt, figure)


def _person(axes: Any, places: Doubles, table: ImageTable, person: int, colour: str) -> None:
    centres = []
    for modality in Modality:
        own = places[mask_of(table, modality, person)]
        if len(own):
            axes.scatter(
                *own.T, s=16, marker=MODALITY_MARKER[modality], color=colour, alpha=0.75, linewidth=0.4,
                edgecolor="white", zorder=2,
            )  # fmt: skip
            centres.append(own.mean(axis=0))
    if len(centres) == 2:
        axes.plot(*np.array(centres).T, color=colour, linewidth=1.0, zorder=3)
    box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": colour, "linewidth": 0.8, "alpha": 0.9}
    x, y = np.mean(centres, axis=0)
    axes.text(x, y, str(person), fontsize=6.5, ha="center", va="center", bbox=box, zorder=4)


@styled
def correlation_curves(
    features: Mapping[str, Features],
    table: ImageTable,
    *,
    identities: int = 24,
    seed: int = 0,
    name: str = "correlation",
) -> Illustration:
    """DFE's correlation curves: how one person correlates with the others, seen in visible and seen in infrared.

    For N identities with one picture of each modality, C_V and C_I are the N x N Pearson matrices inside each modality
    (DFE, equations 9-11). Drawn are the columns j of both; L_c (equation 12) is the mean over all j of their squared
    difference and is written above. The sample j is the one of median squared difference under the last features given,
    the same in every panel: typical, not chosen.

    Args:
        features: label -> (n, D) float32, for instance ``{"untrained": ..., "trained": ...}``; one panel each.
        table: the n images.
        identities: N, at most.
        seed: of the draw of identities and pictures.
        name: stem of the files.

    Raises:
        EvaluationError: no features, fewer than three identities with both modalities, or features that do not fit.
    """
    if not features:
        raise EvaluationError("correlation curves: expected at least one set of features, got none.")
    visible, infrared = aligned_rows(table, identities, seed=seed)
    if len(visible) < 3:
        raise EvaluationError(
            f"correlation curves: expected at least 3 identities with pictures of both modalities, got {len(visible)}."
        )
    found = {
        label: Correlations.of(unit_length(values, table), visible, infrared) for label, values in features.items()
    }
    differences = list(found.values())[-1].difference()
    chosen = int(np.argsort(differences, kind="stable")[(len(differences) - 1) // 2])
    people = table.identity[visible]
    figure = new_figure(PAGE_WIDTH, 2.1 * len(found) + 0.5)
    axes = None
    for place, (label, one) in enumerate(found.items()):
        axes = figure.add_subplot(len(found), 1, place + 1, sharex=axes, sharey=axes)
        _curves(axes, printable(label, 30), one, chosen)
        axes.tick_params(labelbottom=place == len(found) - 1)
    axes.set_xticks(np.arange(len(people)), [str(person) for person in people], fontsize=6.5)  # type: ignore[union-attr]
    axes.set_xlabel("identity of the other sample")  # type: ignore[union-attr]
    lines = [_sample(modality) for modality in Modality]
    legend_below(figure, lines, 2)
    losses = ", ".join(f"{printable(label, 30)} {one.loss():.4f}" for label, one in found.items())
    caption = (
        f"Pearson correlation of identity {people[chosen]}'s feature (dotted line) with those of the other "
        f"{len(people) - 1} identities, once among visible and once among infrared pictures, one picture each. The "
        "closer the two curves, the more alike people relate to each other in both modalities, which is what DFE's "
        "correlation loss asks for. The identity shown is the one of median squared difference. L_c, the mean of that "
        f"difference over all {len(people)} identities: {losses}."
    )
    alt = f"Two curves over {len(people)} identities. L_c: {losses}."
    return Illustration(name, "Correlation curves", caption, alt, figure)


def _sample(modality: Modality) -> Line2D:
    """The line of a modality as the legend shows it."""
    style: dict[str, Any] = {"color": MODALITY_COLOUR[modality], "marker": MODALITY_MARKER[modality], "markersize": 3.5}
    return Line2D([], [], label=f"among {MODALITY_NAME[modality]} pictures", **style)


def _curves(axes: Any, label: str, one: Correlations, chosen: int) -> None:
    places = np.arange(len(one.visible))
    curves = [matrix[:, chosen].copy() for matrix in (one.visible, one.infrared)]
    for modality, curve in zip(Modality, curves, strict=True):
        curve[chosen] = np.nan  # 1 by definition in both modalities; it would only squeeze the scale
        axes.plot(places, curve, color=MODALITY_COLOUR[modality], marker=MODALITY_MARKER[modality], markersize=3.0)
    axes.fill_between(places, *curves, color=GRID, zorder=0.5)
    axes.axvline(chosen, color=MUTED, linewidth=0.8, linestyle=":")
    axes.set_ylabel("Pearson correlation")
    axes.set_title(label)
    text = f"squared difference {one.difference()[chosen]:.4f}; mean over all samples L_c = {one.loss():.4f}"
    axes.set_title(text, loc="right", fontweight="normal", fontsize=7.5, color=MUTED)
