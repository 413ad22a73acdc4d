"""Run folders as 'visir evaluate' leaves them, from made-up features: no training, and as good or bad as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visir.core.files import write_json
from visir.evaluation.evaluate import evaluate_many
from visir.evaluation.scorefile import save_features
from visir.experiment.config import build
from visir.experiment.evaluate import choose_protocols, read_test
from visir.experiment.folder import RunFolder


def write_evaluated(
    run: Path,
    root: Path,
    *,
    benchmark: str = "sysu_mm01",
    noise: float = 0.5,
    seed: int = 0,
    draw: int = 1,
    split: str = "train",
    protocols: Sequence[str] = (),
    warnings: Sequence[str] = (),
    **options: Any,
) -> Path:
    """An evaluated run; the more ``noise``, the worse its scores. ``options`` are those of DFE."""
    section = {"name": benchmark, "root": str(root), "draw": draw, "split": split, "protocols": list(protocols)}
    experiment = build({"benchmark": section, "method": "dfe", "with": options, "seed": seed})
    table = read_test(experiment)
    random = np.random.default_rng([seed, draw, round(1000 * noise)])
    centres = random.standard_normal((int(table.identity.max()) + 1, 8))
    features = centres[table.identity] + noise * random.standard_normal((len(table), 8))
    reports = evaluate_many(features, table, choose_protocols(experiment), device="cpu")
    folder = RunFolder(run)
    run.mkdir(parents=True)
    folder.write_experiment(experiment)
    save_features(folder.features, features, table)
    notes = {f"warning, {number}": text for number, text in enumerate(warnings)}
    write_json(folder.scores, {**notes, "reports": [one.as_dict() for one in reports], "comparisons": {}})
    return run
