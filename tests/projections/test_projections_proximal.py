"""MLAPG and HCML: loss and gradients against listed pairs and autograd, the minimum against another optimiser."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from people import people, rank1
from torch import Tensor

from visir.core.errors import TrainingError
from visir.projections import proximal
from visir.projections.hcml import hcml
from visir.projections.mlapg import mlapg
from visir.projections.proximal import PairLoss, ProximalSteps, mean_distance

DATA = people(count=8, dim=5, own=3, images=3)
X, WHO, Z, WHOSE = DATA.all()


def slow_loss(metric: Tensor, x: Tensor, who: np.ndarray, z: Tensor, whose: np.ndarray, offset: float) -> Tensor:
    """Pair by pair."""
    terms: dict[bool, list[Tensor]] = {True: [], False: []}
    for i, a in enumerate(who.tolist()):
        for j, b in enumerate(whose.tolist()):
            difference = x[i] - z[j]
            sign = 1 if a == b else -1
            terms[a == b].append(torch.log1p(torch.exp(sign * (difference @ metric @ difference - offset))))
    return torch.stack(terms[True]).mean() + torch.stack(terms[False]).mean()


def listed_mean(x: np.ndarray, z: np.ndarray) -> float:
    return float(np.mean([np.square(a - b).sum() for a in x for b in z]))


def test_mean_distance_is_that_of_all_pairs() -> None:
    assert mean_distance(X, Z) == pytest.approx(listed_mean(X, Z), rel=1e-12)


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_loss_and_gradients_are_those_of_all_pairs(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proximal, "BLOCK_BYTES", 8 * len(Z) * rows)
    skew = np.random.default_rng(0).standard_normal((5, 5))
    metric = torch.from_numpy(np.eye(5) + 0.2 * (skew + skew.T)).requires_grad_()
    x = torch.from_numpy(X).requires_grad_()
    expected = slow_loss(metric, x, WHO, torch.from_numpy(Z), WHOSE, 1.5)
    by_metric, by_x = torch.autograd.grad(expected, (metric, x))
    loss = PairLoss(WHO, WHOSE, 1.5)
    value, gradient = loss.value_and_gradient(metric.detach().numpy(), X, Z)
    assert loss.value(metric.detach().numpy(), X, Z) == pytest.approx(value, rel=1e-12)
    assert value == pytest.approx(expected.item(), rel=1e-10)
    np.testing.assert_allclose(gradient, by_metric.numpy(), atol=1e-10)
    slopes = loss.slopes(metric.detach().numpy(), X, Z)
    own = 2 * (slopes[:, :, None] * (X[:, None] - Z)).sum(1) @ metric.detach().numpy()
    np.testing.assert_allclose(own, by_x.numpy(), atol=1e-10)


def test_weights_of_people_of_one_modality_only() -> None:
    loss = PairLoss(np.array([0, 0, 7]), np.array([0, 2]), 0.0)
    at_zero = loss.value(np.zeros((1, 1)), np.ones((3, 1)), np.ones((2, 1)))
    assert at_zero == pytest.approx(2 * np.log(2))


def test_mlapg_reaches_the_minimum_that_another_optimiser_reaches() -> None:
    """The problem is convex in the metric: any way down ends at the same loss."""
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(8), 3)
    latent = rng.standard_normal((8, 5)) * (1.0, 1.0, 0.5, 0.0, 0.0)
    x, z = (latent[who] + rng.standard_normal((24, 5)) for _ in range(2))
    difference = torch.from_numpy((x[:, None] - z).reshape(-1, 5))
    same = torch.from_numpy((who[:, None] == who).ravel())
    offset = listed_mean(x, z)

    def loss(factor: np.ndarray) -> tuple[float, np.ndarray]:
        own = torch.from_numpy(factor.reshape(5, 5)).requires_grad_()
        exponent = torch.where(same, 1.0, -1.0) * ((difference @ own).square().sum(1) - offset)
        each = torch.nn.functional.softplus(exponent)
        value = each[same].mean() + each[~same].mean()
        value.backward()
        return value.item(), own.grad.numpy().ravel()

    best = scipy.optimize.minimize(loss, np.eye(5).ravel(), jac=True, options={"gtol": 1e-9, "maxiter": 2000})
    found = mlapg(x, who, z, who, dim=5, iterations=3000, tolerance=1e-12).visible.astype(np.float64)
    assert loss(found)[0] == pytest.approx(best.fun, rel=1e-7)
    expected = best.x.reshape(5, 5)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-3)


def test_steps_lower_the_loss_from_the_identity() -> None:
    steps, loss = ProximalSteps(5), PairLoss(WHO, WHOSE, mean_distance(X, Z))
    np.testing.assert_array_equal(steps.metric, np.eye(5))
    values = [loss.value(steps.metric, X, Z), *(steps.step(loss, X, Z) for _ in range(40))]
    assert values[-1] < 0.8 * values[0]
    assert np.linalg.eigvalsh(steps.metric).min() > -1e-9
    assert values[-1] == pytest.approx(loss.value(steps.metric, X, Z), rel=1e-12)


def test_features_too_large_for_a_loss_are_refused() -> None:
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match="not finite"):
        mlapg(X * 1e160, WHO, Z * 1e160, WHOSE, dim=5)


class SlowHCML:
    """The published iteration with listed pairs and autograd."""

    def __init__(self) -> None:
        self.sides = [
            (features, identity, np.stack([features[identity == who].mean(0) for who in np.unique(identity)]))
            for features, identity in ((X, WHO), (Z, WHOSE))
        ]
        self.names = [np.unique(identity) for _, identity, _ in self.sides]
        self.offset = listed_mean(self.sides[0][2], self.sides[1][2])

    def objective(self, metric: Tensor, maps: list[Tensor], within: float = 0.2) -> Tensor:
        means = [torch.from_numpy(side[2]) @ own for side, own in zip(self.sides, maps, strict=True)]
        total = slow_loss(metric, means[0], self.names[0], means[1], self.names[1], self.offset)
        for (features, identity, centres), names, own in zip(self.sides, self.names, maps, strict=True):
            rest = torch.from_numpy(features - centres[np.searchsorted(names, identity)]) @ own
            total = total + within * torch.log1p(torch.exp(rest.square().sum(1))).mean()
        return total

    def run(self, iterations: int) -> list[np.ndarray]:
        maps = [torch.eye(5, dtype=torch.float64) for _ in range(2)]
        metric = before = torch.eye(5, dtype=torch.float64)
        momentum, curvature = 1.0, 1 / 256
        for iteration in range(iterations):
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = (metric + (momentum - 1) / following * (metric - before)).requires_grad_()
            value = self.objective(ahead, maps)
            (slope,) = torch.autograd.grad(value, ahead)
            slope, ahead = (slope + slope.T) / 2, ahead.detach()
            while True:
                values, vectors = torch.linalg.eigh(ahead - slope / curvature)
                tried = (vectors * values.clamp_min(0)) @ vectors.T
                moved = tried - ahead
                model = value + (slope * moved).sum() + curvature / 2 * moved.square().sum()
                if self.objective(tried, maps) <= model + 1e-12:
                    break
                curvature *= 2
            before, metric, momentum = metric, tried, following
            for place in (0, 1):
                own = maps[place].clone().requires_grad_()
                value = self.objective(metric, [own if k == place else other for k, other in enumerate(maps)])
                (slope,) = torch.autograd.grad(value, own)
                maps[place] = maps[place] - 0.1 * 0.95**iteration * slope
        return [(own @ metric @ other.T).numpy() for own, other in ((maps[0],) * 2, maps, (maps[1],) * 2)]


def test_hcml_is_the_published_iteration() -> None:
    expected = SlowHCML().run(6)
    found = hcml(*DATA.all(), dim=5, iterations=6)
    v, t = found.visible.astype(np.float64), found.infrared.astype(np.float64)
    for own, other in zip((v @ v.T, v @ t.T, t @ t.T), expected, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-5)
    assert np.abs(v - t).max() > 0.01


def test_hcml_lowers_its_objective_whatever_the_scale() -> None:
    for scale in (0.01, 1.0, 30.0):
        found = hcml(X * scale, WHO, Z * scale, WHOSE, dim=5, iterations=30)
        assert np.isfinite(found.visible).all()
        assert found.directions >= 1


def test_hcml_with_two_maps_beats_one_where_the_modalities_differ() -> None:
    train, test = people(count=60, turn=0.4), people(count=30, turn=0.4, seed=1)
    assert rank1(hcml(*train.all(), dim=5), test) > rank1(mlapg(*train.all(), dim=5), test) > rank1(None, test)
