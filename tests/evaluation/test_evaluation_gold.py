"""What the data set authors' own functions print, to the last digit, through the public API."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from visir.benchmarks.catalog import find
from visir.core.types import ImageTable
from visir.evaluation.evaluate import evaluate, evaluate_many
from visir.evaluation.scorefile import format_report, load_features

FIGURES = ("rank1", "rank5", "rank10", "rank20", "mAP")


@pytest.fixture(scope="module")
def expected(gold: Path) -> dict[str, dict[str, list[float]]]:
    """Protocol id -> trial -> the five figures."""
    found: dict[str, dict[str, list[float]]] = {}
    with (gold / "expected.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            name = f"sysu-{row['mode'].removesuffix('_search')}-{row['shots']}-official"
            found.setdefault(name, {})[row["trial"]] = [float(row[figure]) for figure in FIGURES]
    assert sum(5 * len(trials) for trials in found.values()) == 200
    return found


def test_all_two_hundred_numbers(gold: Path, expected: dict[str, dict[str, list[float]]]) -> None:
    features, table = load_features(gold / "features.npz", gold)
    protocols = find("sysu_mm01").protocols(1)
    reports = evaluate_many(features, table, [protocols[name] for name in expected], distance="euclidean", device="cpu")
    for report, trials in zip(reports, expected.values(), strict=True):
        assert [trial["trial"] for trial in report.trials] == list(trials)
        for trial in report.trials:
            found = [trial[figure] for figure in FIGURES]
            np.testing.assert_allclose(found, trials[trial["trial"]], rtol=0, atol=1e-6)
        unscored = 1595 if "indoor" in report.protocol else 0
        assert (report.scored, report.unscored) == (3803 - unscored, unscored)


def test_five_lines_with_plain_arrays(gold: Path, expected: dict[str, dict[str, list[float]]]) -> None:
    arrays = np.load(gold / "features.npz")
    camera, person = arrays["camera"].astype(int), arrays["person"].astype(int)
    names = tuple(f"cam{c}/{p:04d}/{i:04d}.jpg" for c, p, i in zip(camera, person, arrays["image"], strict=True))
    table = ImageTable(gold, names, person, camera, np.isin(camera, (3, 6)).astype(int))
    name = "sysu-indoor-10-official"
    report = evaluate(arrays["feature"], table, find("sysu_mm01").protocols(1)[name], distance="euclidean")
    found = [[trial[figure] for figure in FIGURES] for trial in report.trials]
    np.testing.assert_allclose(found, list(expected[name].values()), rtol=0, atol=1e-6)
    rows = list(csv.DictReader(format_report(report, "csv").splitlines()))
    assert [row["trial"] for row in rows] == [*expected[name], "mean", "std"]
    np.testing.assert_allclose([float(row["mAP"]) for row in rows[:10]], np.array(found)[:, 4])
