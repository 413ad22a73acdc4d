"""Scores as a value: one row a trial, mean and deviation, the CMC curves; and how reports are put side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from visir.core.errors import EvaluationError
from visir.evaluation.protocol import CmcLevel

METRICS = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")
RANKS = {"rank1": 1, "rank5": 5, "rank10": 10, "rank20": 20}
SPLITS = 10  # partitions of RegDB; a mean over fewer is no published number
_SPLIT_NAME = re.compile(r"^(?P<head>.+?)-t(?P<split>\d+)-(?P<tail>.+)$")


@dataclass(frozen=True, eq=False)
class Report:
    """The scores of one protocol.

    Attributes:
        protocol: the protocol id, such as ``sysu-all-1-official``.
        cmc: whether ranks count identities or images.
        distance: "cosine", "euclidean" or "manhattan".
        trials: for each trial ``trial`` (its name), the six figures of :data:`METRICS` in [0, 1], and the counts
            ``scored``, ``unscored`` (queries whose gallery holds no right image) and ``ties`` (right images at exactly
            the distance of a wrong one).
        curve: (t, k) float64, the cumulative match characteristic at ranks 1..k of each trial.
        note: the protocol in one sentence.
    """

    protocol: str
    cmc: CmcLevel
    distance: str
    trials: tuple[Mapping[str, Any], ...]
    curve: npt.NDArray[np.float64]
    note: str = ""

    @property
    def scored(self) -> int:
        """Queries that count in a trial (the fewest, should trials differ)."""
        return min(int(trial["scored"]) for trial in self.trials)

    @property
    def unscored(self) -> int:
        """Queries of a trial without a right image, left out of every mean (the most, should trials differ)."""
        return max(int(trial["unscored"]) for trial in self.trials)

    @property
    def ties(self) -> int:
        """Right images of all trials that tie with a wrong one; the earlier place in the gallery ranks first."""
        return sum(int(trial["ties"]) for trial in self.trials)

    def mean(self) -> dict[str, float]:
        """Each figure's plain mean over the trials."""
        return {name: float(np.mean([trial[name] for trial in self.trials])) for name in METRICS}

    def std(self) -> dict[str, float]:
        """Each figure's population standard deviation over the trials (0 for a single one)."""
        return {name: float(np.std([trial[name] for trial in self.trials])) for name in METRICS}

    def mean_curve(self) -> npt.NDArray[np.float64]:
        """(k,) float64, the mean over the trials' curves."""
        return np.asarray(self.curve.mean(axis=0), np.float64)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; :meth:`from_dict` reads them back."""
        return {
            "protocol": self.protocol,
            "cmc": self.cmc,
            "distance": self.distance,
            "note": self.note,
            "trials": [dict(trial) for trial in self.trials],
            "mean": self.mean(),
            "std": self.std(),
            "curve": self.curve.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """Read what :meth:`as_dict` made; mean and deviation are computed anew.

        Raises:
            EvaluationError: a value is missing or of the wrong kind.
        """
        try:
            trials = tuple(_trial(trial) for trial in values["trials"])
            curve = np.asarray(values["curve"], np.float64)
            if not trials or curve.ndim != 2 or len(curve) != len(trials):
                raise EvaluationError(
                    f"report: expected one curve for each of {len(trials)} trials, got {curve.shape}."
                )
            cmc: CmcLevel = "identity" if values["cmc"] == "identity" else "image"
            note = str(values.get("note", ""))
            return cls(str(values["protocol"]), cmc, str(values["distance"]), trials, curve, note)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EvaluationError(f"report: expected the values that 'visir evaluate' writes ({error!r}).") from error


def _trial(values: Mapping[str, Any]) -> dict[str, Any]:
    counts = {name: int(values[name]) for name in ("scored", "unscored", "ties")}
    return {"trial": str(values["trial"]), **{name: float(values[name]) for name in METRICS}, **counts}


def format_table(reports: Sequence[Report]) -> str:
    """A text table in percent, one row a report, each under its own protocol id: nothing is averaged across rows."""
    head = ("protocol", "trials", *METRICS, "scored", "unscored", "ties")
    rows: list[tuple[str, ...]] = [head]
    for report in reports:
        mean, std, several = report.mean(), report.std(), len(report.trials) > 1
        cells = (f"{100 * mean[m]:.2f}" + (f" ±{100 * std[m]:.2f}" if several else "") for m in METRICS)
        counts = (f"{n:,}" for n in (report.scored, report.unscored, report.ties))
        rows.append((report.protocol, str(len(report.trials)), *cells, *counts))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def combine(reports: Sequence[Report], *, incomplete: bool = False) -> Report:
    """One report over the partitions of a benchmark: ``regdb-t01-v2t-img`` .. ``regdb-t10-v2t-img`` ->
    ``regdb-v2t-img``, the trials being the partitions.

    Args:
        reports: one for each partition, in any order.
        incomplete: accept fewer than ten partitions; the id then says how many, ``regdb-v2t-img (3 of 10 splits)``.

    Raises:
        EvaluationError: reports of different protocols, of the same partition twice, or of fewer than ten partitions.
    """
    found = [_SPLIT_NAME.match(report.protocol) for report in reports]
    names = sorted({report.protocol for report in reports})
    if not reports or not all(found):
        raise EvaluationError(
            f"combine: expected reports such as 'regdb-t01-v2t-img', got {', '.join(names) or 'none'}."
        )
    parts = {int(match["split"]): report for match, report in zip(found, reports, strict=True) if match}
    families = {f"{match['head']}-{match['tail']}" for match in found if match}
    settings = {(report.cmc, report.distance, report.curve.shape[1]) for report in reports}
    if len(families) > 1 or len(settings) > 1:
        raise EvaluationError(
            f"combine: expected one protocol, distance and curve length, got {', '.join(names)}; "
            "numbers of different protocols are never averaged."
        )
    if len(parts) < len(reports):
        raise EvaluationError(f"combine: a partition is given twice among {', '.join(names)}.")
    if len(parts) < SPLITS and not incomplete:
        raise EvaluationError(
            f"combine: expected the {SPLITS} partitions of {families.pop()}, got {len(parts)}; a mean over fewer is "
            "not comparable with published numbers. Ask for it with incomplete=True; the label then says so."
        )
    (name,) = families
    label = name if len(parts) >= SPLITS else f"{name} ({len(parts)} of {SPLITS} splits)"
    ordered = [parts[split] for split in sorted(parts)]
    trials = tuple({**trial, "trial": _name(s, trial, parts[s])} for s in sorted(parts) for trial in parts[s].trials)
    curve = np.concatenate([report.curve for report in ordered])
    return Report(label, ordered[0].cmc, ordered[0].distance, trials, curve, _shared_note(label, len(parts)))


def _name(split: int, trial: Mapping[str, Any], report: Report) -> str:
    return f"t{split:02d}" if len(report.trials) == 1 else f"t{split:02d}/{trial['trial']}"


def _shared_note(label: str, count: int) -> str:
    return f"Mean over {count} partitions, a model for each ({label})."
