"""The training log of a run, ``log.jsonl``, as arrays. Damaged lines are counted and left out, never fatal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Validation:
    """Scores on held-out training identities after an epoch, as fractions: rank1, mAP, mINP."""

    epoch: float
    protocol: str
    scores: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class TrainingLog:
    """What a training wrote down.

    Attributes:
        steps: (n,) float64, the logged steps, ascending.
        losses: term -> (n,) float64, NaN where a step lacks the term or it was not a number.
        rates: parameter group -> (n,) float64 learning rates, NaN where absent.
        validations: by epoch.
        notes: remarks that the training left.
        damaged: lines that could not be read.
    """

    steps: Points = field(default_factory=lambda: np.empty(0))
    losses: Mapping[str, Points] = field(default_factory=dict)
    rates: Mapping[str, Points] = field(default_factory=dict)
    validations: tuple[Validation, ...] = ()
    notes: tuple[str, ...] = ()
    damaged: int = 0


def read_log(path: Path) -> TrainingLog:
    """Read ``log.jsonl``.

    Lines have a ``kind``: ``step`` (step, losses, learning_rate), ``validation`` (epoch, protocol, rank1, mAP, mINP)
    or ``note``. A step or epoch that occurs twice (a run that was resumed) counts once, the later line holding.

    Raises:
        OSError: the file cannot be opened.
    """
    damaged = 0
    steps: dict[int, Mapping[str, Any]] = {}
    validations: dict[tuple[float, str], Validation] = {}
    notes: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in filter(str.strip, lines):
            try:
                entry = json.loads(line)
                match entry["kind"]:
                    case "step":
                        steps[int(entry["step"])] = _checked(entry)
                    case "validation":
                        one = _validation(entry)
                        validations[one.epoch, one.protocol] = one
                    case "note":
                        notes.append(_note(entry))
            except (ValueError, KeyError, TypeError, AttributeError):
                damaged += 1
    ordered = [steps[step] for step in sorted(steps)]
    return TrainingLog(
        steps=np.array(sorted(steps), np.float64),
        losses=_columns(ordered, "losses"),
        rates=_columns(ordered, "learning_rate"),
        validations=tuple(sorted(validations.values(), key=lambda one: one.epoch)),
        notes=tuple(notes),
        damaged=damaged,
    )


def _checked(entry: Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    """The numbers of a step; a line of a wrong shape raises here and is counted as damaged."""
    rates = entry.get("learning_rate", {})
    return {
        "losses": {str(name): float(value) for name, value in entry["losses"].items()},
        "learning_rate": {str(n): float(v) for n, v in (rates if isinstance(rates, dict) else {"main": rates}).items()},
    }


def _validation(entry: Mapping[str, Any]) -> Validation:
    scores = {name: float(entry[name]) for name in ("rank1", "mAP", "mINP") if entry.get(name) is not None}
    return Validation(float(entry["epoch"]), str(entry.get("protocol", "")), scores)


def _note(entry: Mapping[str, Any]) -> str:
    for key in ("text", "note", "message"):
        if key in entry:
            return str(entry[key])
    return ", ".join(f"{key}: {value}" for key, value in entry.items() if key != "kind")


def _columns(steps: Iterable[Mapping[str, Mapping[str, float]]], key: str) -> dict[str, Points]:
    rows = [step[key] for step in steps]
    names = dict.fromkeys(name for row in rows for name in row)  # a dict keeps the order of the log
    columns = {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}
    return {name: np.where(np.isfinite(values), values, np.nan) for name, values in columns.items()}
