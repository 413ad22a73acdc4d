"""PCA: three ways to the same axes, from features on disk, in little memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from visir.core.errors import TrainingError
from visir.projections import pca as module
from visir.projections.pca import pca


def features(n: int, d: int, rank: int | None = None, seed: int = 0) -> np.ndarray:
    """Variances that fall, off centre."""
    rng = np.random.default_rng(seed)
    inner = rank or min(n, d)
    sides = rng.standard_normal((n, inner)) * 0.9 ** np.arange(inner), rng.standard_normal((inner, d))
    return np.asarray(sides[0] @ sides[1] + 3, np.float32)


@pytest.mark.parametrize(("n", "d", "exact_side"), [(60, 20, 99), (20, 60, 99), (60, 40, 5), (40, 60, 5)])
def test_axes_are_those_of_scikit_learn(n: int, d: int, exact_side: int) -> None:
    given = features(n, d)
    found = pca(given, dim=8, exact_side=exact_side)
    expected = PCA(8, svd_solver="full").fit(given.astype(np.float64))
    np.testing.assert_allclose(found.mean, expected.mean_, rtol=1e-10)
    np.testing.assert_allclose(found.variance, expected.explained_variance_ * (n - 1) / n, rtol=1e-4)
    aligned = np.abs(found.axes.T @ expected.components_.T)
    np.testing.assert_allclose(aligned, np.eye(8), atol=1e-3 if exact_side == 5 else 1e-6)
    np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(8), atol=1e-6)
    largest = np.abs(found.axes).argmax(0)
    assert (found.axes[largest, np.arange(8)] > 0).all()
    np.testing.assert_allclose(found.project(given), (given - found.mean) @ found.axes, atol=1e-9)


def test_iteration_settles_on_the_axes_where_variances_fall_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MORE_AXES", 10)
    rng = np.random.default_rng(0)
    given = (rng.standard_normal((300, 200)) * 0.98 ** np.arange(200)).astype(np.float32)
    found, exact = pca(given, dim=20, exact_side=5), pca(given, dim=20)
    assert found.variance.sum() == pytest.approx(exact.variance.sum(), rel=1e-4)
    shared = np.linalg.svd(found.axes[:, :10].T @ exact.axes)[1]
    assert shared.min() > 0.99


@pytest.mark.parametrize("exact_side", [99, 5])
@pytest.mark.parametrize(("n", "d"), [(50, 30), (30, 50)])
def test_no_more_axes_than_the_rank(n: int, d: int, exact_side: int) -> None:
    assert pca(features(n, d, rank=4), dim=20, exact_side=exact_side).axes.shape == (d, 4)
    assert pca(features(6, 90), dim=20, exact_side=exact_side).axes.shape == (90, 5)


@pytest.mark.parametrize("exact_side", [400, 5])
@pytest.mark.parametrize(("n", "d"), [(900, 300), (300, 900)])
def test_blocks_bound_the_memory_and_change_nothing(
    n: int, d: int, exact_side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = features(n, d)
    np.save(tmp_path / "features.npy", given)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    whole = pca(given, dim=10, exact_side=exact_side)
    monkeypatch.setattr(module, "BLOCK_BYTES", 1 << 15)
    found = pca(mapped, dim=10, exact_side=exact_side)
    np.testing.assert_allclose(found.axes, whole.axes, atol=1e-6)
    np.testing.assert_allclose(found.project(mapped), whole.project(given), atol=1e-4)
    tracemalloc.start()
    again = pca(mapped, dim=10, exact_side=exact_side)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    side = min(n, d) if exact_side == 400 else 2 * (10 + module.MORE_AXES)
    assert most < 8 * (3 * side * max(side, 300) + 4 * d * 110) + (1 << 20)
    assert again.axes.tobytes() == found.axes.tobytes()


@pytest.mark.parametrize("shape", [(1, 5), (0, 5), (5, 0), (5,)])
def test_too_little_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(TrainingError, match="expected features"):
        pca(np.ones(shape, np.float32), dim=2)


def test_equal_or_broken_features_are_refused() -> None:
    for value in (7.1, 0.0):
        with pytest.raises(TrainingError, match="all features are equal"):
            pca(np.full((9, 4), value, np.float32), dim=2)
    with pytest.raises(TrainingError, match="finite"):
        pca(np.where(np.eye(5) > 0, np.nan, 1.0), dim=2)
    with pytest.raises(TrainingError, match="at least one axis"):
        pca(features(9, 4), dim=0)
