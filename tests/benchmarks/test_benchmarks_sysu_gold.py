"""SYSU-MM01 at its full size: the official draws and scores of the gold data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from visir.benchmarks.sysu_mm01 import BENCHMARK
from visir.core.types import ImageTable
from visir.evaluation.evaluate import evaluate_many
from visir.evaluation.scorefile import load_features

PROTOCOLS = BENCHMARK.protocols(1)


@pytest.fixture(scope="module")
def real(gold: Path) -> ImageTable:
    return load_features(gold / "features.npz", gold)[1]


def file_numbers(table: ImageTable, rows: np.ndarray) -> list[tuple[int, int, int]]:
    return [(int(table.identity[i]), int(table.camera[i]), int(table.paths[i][-8:-4])) for i in rows]


@pytest.mark.parametrize(
    ("name", "sums"),
    [
        ("sysu-all-1-seeded", {0: 3649, 1: 3566, 9: 3453}),
        ("sysu-indoor-1-seeded", {0: 1647, 1: 1568, 9: 1376}),
        ("sysu-all-10-seeded", {0: 34949}),
        ("sysu-indoor-10-seeded", {0: 14804}),
        ("sysu-all-1-official", {0: 3671, 9: 3591}),
        ("sysu-all-10-official", {0: 35650, 9: 35250}),
        ("sysu-indoor-1-official", {0: 1570, 9: 1525}),
        ("sysu-indoor-10-official", {0: 15508, 9: 15235}),
    ],
)
def test_golden_sums(real, name, sums):
    trials = PROTOCOLS[name].trials(real)
    size = {"all-1": 301, "all-10": 3010, "indoor-1": 112, "indoor-10": 1120}[name[5:].rpartition("-")[0]]
    assert all(len(trial.query) == 3803 and len(trial.gallery) == size for trial in trials)
    assert {t: sum(number for *_, number in file_numbers(real, trials[t].gallery)) for t in sums} == sums


def test_golden_draws(real):
    first, second = PROTOCOLS["sysu-all-1-seeded"].trials(real)[:2]
    drawn = file_numbers(real, first.gallery)
    assert drawn[:6] == [(6, 1, 25), (6, 2, 25), (6, 4, 14), (6, 5, 2), (10, 1, 17), (10, 2, 17)]
    assert drawn[-1] == (333, 5, 17)
    assert file_numbers(real, second.gallery)[:4] == [(6, 1, 9), (6, 2, 19), (6, 4, 3), (6, 5, 9)]
    ten = file_numbers(real, PROTOCOLS["sysu-all-10-seeded"].trials(real)[0].gallery)
    assert [number for *_, number in ten[:10]] == [25, 27, 3, 17, 33, 32, 26, 20, 31, 23]


def full_size_features(gold: Path, table: ImageTable) -> np.ndarray:
    """Made-up features for every image of the real permutation file's cells, of which the test images are kept."""
    cells = scipy.io.loadmat(gold / "rand_perm_cam.mat")["rand_perm_cam"].ravel()
    rng = np.random.RandomState(7)
    people = rng.randn(534, 32)
    cameras = [0.8 * rng.randn(32) for _ in range(6)]
    made: dict[tuple[int, int], np.ndarray] = {}
    for camera, own in enumerate(cells, 1):
        for person, cell in enumerate(own.ravel(), 1):
            if cell.size:
                there = 0.75 * rng.randn(32)
                noise = 0.55 * rng.randn(cell.shape[1], 32)
                made[camera, person] = people[person] + cameras[camera - 1] + there + noise
    numbers = file_numbers(table, np.arange(len(table)))
    features = np.stack([made[camera, person][number - 1] for person, camera, number in numbers])
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_full_size_table(gold, real):
    expected = {
        "sysu-all-1-official": (65.956, 92.464, 96.292, 57.221, 37.213),
        "sysu-all-10-official": (69.235, 93.618, 96.960, 51.436, 19.131),
        "sysu-indoor-1-official": (72.242, 96.486, 98.999, 74.198, 67.221),
        "sysu-indoor-10-official": (76.395, 97.704, 99.615, 67.244, 45.351),
        "sysu-all-1-seeded": (65.575, None, None, 57.226, None),
        "sysu-all-10-seeded": (68.922, None, None, 51.467, None),
        "sysu-indoor-1-seeded": (72.726, None, None, 74.595, None),
        "sysu-indoor-10-seeded": (76.449, None, None, 67.364, None),
    }
    features = full_size_features(gold, real)
    for report in evaluate_many(features, real, [PROTOCOLS[name] for name in expected], device="cpu"):
        mean = report.mean()
        found = [100 * mean[name] for name in ("rank1", "rank10", "rank20", "mAP", "mINP")]
        for value, wanted in zip(found, expected[report.protocol], strict=True):
            assert wanted is None or value == pytest.approx(wanted, abs=6e-4), report.protocol
