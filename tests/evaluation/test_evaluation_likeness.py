"""Likeness of pictures: against slow loops, the Fréchet distance against SciPy's matrix square root."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.linalg import sqrtm

from visir.core.errors import EvaluationError
from visir.evaluation.likeness import Moments, frechet_distance, mean_absolute_error, psnr, ssim

Doubles = npt.NDArray[np.float64]


def slow_ssim(a: Doubles, b: Doubles) -> float:
    """One window after the other, in 0..1."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    found = []
    for channel in range(a.shape[2]):
        for row in range(a.shape[0] - 10):
            for column in range(a.shape[1] - 10):
                x = a[row : row + 11, column : column + 11, channel]
                y = b[row : row + 11, column : column + 11, channel]
                mx, my = (window * x).sum(), (window * y).sum()
                vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
                both = (window * (x - mx) * (y - my)).sum()
                light = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
                found.append(light * (2 * both + 9e-4) / (vx + vy + 9e-4))
    return float(np.mean(found))


def noisy(seed: int, shape: tuple[int, ...], spread: float) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    base = rng.uniform(0, 255, shape)
    return base.astype(np.uint8), np.clip(base + rng.normal(0, spread, shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("spread", [3.0, 60.0])
def test_structural_similarity_is_that_of_one_window_after_the_other(spread: float) -> None:
    a, b = noisy(1, (19, 14, 3), spread)
    assert ssim(a, b) == pytest.approx(slow_ssim(a / 255.0, b / 255.0), abs=1e-12)
    assert ssim(a / 255.0, b / 255.0) == pytest.approx(ssim(a, b), abs=1e-12)
    assert ssim(a, b) == pytest.approx(ssim(b, a), abs=1e-12)
    assert ssim(a[:11, :11], b[:11, :11]) == pytest.approx(slow_ssim(a[:11, :11] / 255.0, b[:11, :11] / 255.0))


def test_structural_similarity_of_known_pictures() -> None:
    a, _ = noisy(2, (20, 20), 0.0)
    assert ssim(a, a) == 1.0
    assert ssim(a, 255 - a) < -0.5
    flat, lighter = np.full((16, 16), 0.5), np.full((16, 16), 0.6)
    assert ssim(flat, lighter) == pytest.approx((2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4), abs=1e-12)
    grey = np.repeat(a[..., None], 3, axis=2)
    other = np.repeat(noisy(3, (20, 20), 9.0)[1][..., None], 3, axis=2)
    assert ssim(grey, other) == pytest.approx(ssim(grey[..., 0], other[..., 0]), abs=1e-12)
    assert ssim(grey[..., :1], other[..., :1]) == pytest.approx(ssim(grey, other), abs=1e-12)


def test_errors_of_pixels_against_loops() -> None:
    a, b = noisy(4, (5, 4, 3), 30.0)
    pairs = [(int(x) / 255, int(y) / 255) for x, y in zip(a.ravel(), b.ravel(), strict=True)]
    absolute = sum(abs(x - y) for x, y in pairs) / len(pairs)
    squared = sum((x - y) ** 2 for x, y in pairs) / len(pairs)
    assert mean_absolute_error(a, b) == pytest.approx(absolute, abs=1e-12)
    assert psnr(a, b) == pytest.approx(-10 * math.log10(squared), abs=1e-9)
    assert psnr((a / 255).astype(np.float32), (b / 255).astype(np.float32)) == pytest.approx(psnr(a, b), abs=1e-4)
    assert mean_absolute_error(a, a) == 0.0
    assert psnr(a, a) == math.inf
    assert psnr(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)) == 0.0


def test_pictures_that_cannot_be_compared() -> None:
    a, b = noisy(5, (12, 12, 3), 9.0)
    for measure in (mean_absolute_error, psnr, ssim):
        with pytest.raises(EvaluationError, match="one size"):
            measure(a, b[:11])
        with pytest.raises(EvaluationError, match="uint8 or two"):
            measure(a, b / 255.0)
        with pytest.raises(EvaluationError, match="uint8 or two"):
            measure(a.astype(np.int64), b.astype(np.int64))
        with pytest.raises(EvaluationError, match=r"0\.\.1"):
            measure(a.astype(np.float32), b.astype(np.float32))
        with pytest.raises(EvaluationError, match=r"0\.\.1"):
            measure(np.full((12, 12), np.nan), np.zeros((12, 12)))
        with pytest.raises(EvaluationError, match="one size"):
            measure(a[:0], b[:0])
    with pytest.raises(EvaluationError, match="11 x 11"):
        ssim(a[:10], b[:10])


def by_sqrtm(a: Doubles, b: Doubles) -> float:
    ca, cb = np.cov(a.T), np.cov(b.T)
    root = np.real(np.asarray(sqrtm(ca @ cb)))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca) + np.trace(cb) - 2 * np.trace(root))


def features(seed: int, count: int, dim: int) -> Doubles:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.standard_normal((count, dim)) @ rng.standard_normal((dim, dim)) + rng.normal(0, 2, dim))


@pytest.mark.parametrize(("dim", "count"), [(2, 20), (7, 50), (24, 90)])
def test_frechet_distance_is_that_of_the_matrix_square_root(dim: int, count: int) -> None:
    a, b = features(1, count, dim), features(2, count + 13, dim)
    assert frechet_distance(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_frechet_distance_of_known_gaussians() -> None:
    a = features(3, 200, 6)
    scale = float(np.abs(a).max())
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-10 * scale**2)
    assert frechet_distance(a, a + 3.0) == pytest.approx(6 * 9.0, rel=1e-9)
    # of twice as wide a cloud about the same mean: tr(C) + 4 tr(C) - 2 * 2 tr(C)
    wide = a.mean(0) + 2 * (a - a.mean(0))
    assert frechet_distance(a, wide) == pytest.approx(np.trace(np.cov(a.T)), rel=1e-9)
    # commuting covariances: sums of squared differences of deviations
    x, y = np.diag([1.0, 2.0, 3.0]), np.diag([4.0, 0.0, 1.0])
    corners = np.concatenate([np.eye(3), -np.eye(3)]) * np.sqrt(5 / 2)
    assert frechet_distance(corners @ x, corners @ y) == pytest.approx(9 + 4 + 4, rel=1e-9)


def test_frechet_distance_of_fewer_samples_than_dimensions() -> None:
    """Singular covariances: equal to the distance in the space that the samples span."""
    rng = np.random.default_rng(0)
    low_a, low_b = features(5, 9, 4), features(6, 9, 4)
    axes = np.linalg.qr(rng.standard_normal((60, 4)))[0].T
    exact = by_sqrtm(low_a, low_b)
    assert frechet_distance(low_a @ axes, low_b @ axes) == pytest.approx(exact, rel=1e-9)
    assert frechet_distance(low_a @ axes, low_a @ axes) < 1e-10
    assert frechet_distance(1e4 + low_a @ axes, 1e4 + low_b @ axes) == pytest.approx(exact, rel=1e-7)


def test_moments_come_in_any_batches() -> None:
    a, b = features(7, 70, 5) + 1e5, features(8, 31, 5) + 1e5
    one, other = Moments(5), Moments(5)
    for part in (a[:1], a[1:1], a[1:30], a[30:]):
        one.add(part.astype(np.float64))
    other.add(b)
    np.testing.assert_allclose(one.covariance(), np.cov(a.T), rtol=1e-8)
    np.testing.assert_allclose(one.mean, a.mean(0), rtol=1e-14)
    assert one.count == 70
    assert one.distance(other) == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_features_that_cannot_be_compared() -> None:
    a = features(9, 10, 4)
    with pytest.raises(EvaluationError, match="at least two"):
        frechet_distance(a, a[:1])
    with pytest.raises(EvaluationError, match=r"expected \(n, 4\)"):
        frechet_distance(a, a[:, :3])
    with pytest.raises(EvaluationError, match=r"expected \(n, D\)"):
        frechet_distance(a[0], a)
    with pytest.raises(EvaluationError, match="finite"):
        frechet_distance(a, np.where(a > 0, np.nan, a))
    with pytest.raises(EvaluationError, match="one length"):
        Moments(3).distance(Moments(4))
