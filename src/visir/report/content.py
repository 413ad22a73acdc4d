"""The report's content as plain values for its template: no markup here, and the template escapes every text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from visir.core.errors import ImageError
from visir.data.images import decode
from visir.evaluation import report as evaluation
from visir.evaluation.report import Report
from visir.report.pictures import blank, data_address, jpeg_address, thumbnail
from visir.report.ranked import RankedList, Shown, similarity
from visir.report.source import Run
from visir.report.style import Illustration, percent, render

METRICS = {name: name.replace("rank", "rank-") for name in evaluation.METRICS}
LARGEST_SVG = 400_000  # bytes; a heavier drawing goes into the page as PNG
PAGE_DPI = 160


def figure(drawn: Illustration) -> dict[str, str]:
    """A figure with its words; as SVG, or as PNG where that would be large."""
    drawing, kind = drawn.svg, "image/svg+xml"
    if len(drawing) > LARGEST_SVG:
        drawing, kind = render(drawn.figure, "png", dpi=PAGE_DPI), "image/png"
    return {
        "name": drawn.name,
        "title": drawn.title,
        "caption": drawn.caption,
        "alt": drawn.alt,
        "address": data_address(kind, drawing),
    }


def listing(name: str, title: str, caption: str, lists: Sequence[RankedList]) -> dict[str, Any]:
    """Ranked lists with their pictures as JPEG addresses."""
    rows = [
        {
            "query": _cell(one.query, "query"),
            "matches": [_cell(m, m.verdict) for m in one.matches],
            "remark": one.remark,
        }
        for one in lists
    ]
    return {"name": name, "title": title, "caption": caption, "lists": rows}


def _cell(shown: Shown, verdict: str) -> dict[str, Any]:
    picture = thumbnail(shown.path)
    words = ["query" if verdict == "query" else {"right": "right match", "wrong": "wrong match"}.get(verdict, "match")]
    words += [f"identity {shown.identity}"] if shown.identity is not None else []
    words += [f"camera {shown.camera}"] if shown.camera is not None else []
    words += ["picture not readable"] if picture is None else []
    return {
        "verdict": verdict,
        "address": jpeg_address(blank() if picture is None else picture),
        "alt": ", ".join(words),
        "path": shown.path.name,
        "camera": shown.camera,
        "identity": shown.identity,
        "score": None if shown.score is None else similarity(shown.score),
    }


def looks(run: Run, notes: list[str]) -> list[dict[str, str]]:
    """What the method showed of itself, as JPEG addresses; what cannot be read is noted."""
    found = []
    for look in run.looks:
        try:
            address = jpeg_address(decode(look.file))
        except ImageError as error:
            notes.append(f"A picture of the training is left out. {error}")
            continue
        found.append(
            {
                "name": look.name,
                "title": look.name.replace("_", " "),
                "caption": look.caption,
                "alt": look.caption,
                "address": address,
            }
        )
    return found


def headline(run: Run) -> list[dict[str, str]]:
    """Rank-1, mAP and mINP of the main protocol, in percent."""
    report = run.reports[0]
    mean, deviation = report.mean(), report.std()
    several = len(report.trials) > 1
    return [
        {"label": METRICS[key], "value": percent(mean[key]), "deviation": percent(deviation[key]) if several else ""}
        for key in ("rank1", "mAP", "mINP")
    ]


def protocols(run: Run) -> list[dict[str, Any]]:
    """One entry for each protocol of this run: its text, counts, rows to compare, trials."""
    published = run.published()
    entries = []
    for report in run.reports:
        rows = [_row(run.method, "this run", report)]
        for label, others in run.comparisons.items():
            rows += [_row(label, "same images", other) for other in others if other.protocol == report.protocol]
        if report.protocol in published:
            rows.append(_published_row(published[report.protocol]))
        entries.append(
            {
                "name": report.protocol,
                "note": _sentence(report.note),
                "rows": rows,
                "trials": [{"name": trial["trial"], **_cells(trial)} for trial in report.trials],
                "distance": report.distance,
                "scored": report.scored,
                "unscored": report.unscored,
                "ties": report.ties,
            }
        )
    return entries


def _row(label: str, kind: str, report: Report) -> dict[str, Any]:
    mean, deviation = report.mean(), report.std()
    several = len(report.trials) > 1
    cells = {
        key: f"{percent(mean[key])} ± {percent(deviation[key])}" if several else percent(mean[key]) for key in METRICS
    }
    return {"label": label, "kind": kind, "cells": cells}


def _published_row(values: Mapping[str, Any]) -> dict[str, Any]:
    cells = {key: f"{values[key]:.2f}" if isinstance(values.get(key), int | float) else "–" for key in METRICS}
    return {"label": "published", "kind": str(values.get("source", "")), "cells": cells}


def _cells(trial: Mapping[str, Any]) -> dict[str, str]:
    return {key: percent(float(trial[key])) for key in METRICS}


def _sentence(text: str) -> str:
    """``text`` with a capital at its start and a full stop at its end."""
    text = text.strip()
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
