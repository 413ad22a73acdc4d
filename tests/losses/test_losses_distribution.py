"""Distribution loss against worked numbers and a loop."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from loss_contract import Arguments, LossContract, drawn
from torch import Tensor

from visir.losses.distribution import distribution_loss, moments


def slow_distribution(visible: Tensor, infrared: Tensor) -> float:
    pairs, _, dim = visible.shape
    total = 0.0
    for pair in range(pairs):
        for place in range(dim):
            seen, hidden = visible[pair, :, place].tolist(), infrared[pair, :, place].tolist()
            total += (statistics.mean(seen) - statistics.mean(hidden)) ** 2
            total += (statistics.pstdev(seen) - statistics.pstdev(hidden)) ** 2
    return total / (2 * pairs)


VISIBLE = torch.tensor([[[1.0, 0.0], [3.0, 2.0]]])
INFRARED = torch.tensor([[[0.0, 0.0], [2.0, 4.0]]])


class TestDistributionLoss(LossContract):
    loss = staticmethod(distribution_loss)

    def example(self) -> Arguments:
        return drawn(4, 6, 5), drawn(4, 6, 5, seed=1)

    def bad(self) -> list[Arguments]:
        return [
            (drawn(4, 6, 5), drawn(3, 6, 5)),
            (drawn(4, 6, 5), drawn(4, 6, 4)),
            (drawn(4, 30), drawn(4, 30)),
            (drawn(0, 6, 5), drawn(0, 6, 5)),
        ]

    def degenerate(self) -> list[Arguments]:
        return [
            (torch.ones(1, 6, 5, requires_grad=True), torch.zeros(1, 6, 5, requires_grad=True)),
            (drawn(2, 1, 5), drawn(2, 1, 5, seed=1)),  # a single part has no deviation
        ]

    def test_equals_the_loop(self) -> None:
        visible, infrared = self.example()
        expected = slow_distribution(visible, infrared)
        assert distribution_loss(visible, infrared).item() == pytest.approx(expected, rel=1e-9)

    def test_spectra_and_parts_may_change_places(self) -> None:
        visible, infrared = self.example()
        value = distribution_loss(visible, infrared)
        torch.testing.assert_close(distribution_loss(infrared, visible), value)
        torch.testing.assert_close(distribution_loss(visible.flip(1), infrared), value)

    def test_equal_moments_cost_nothing(self) -> None:
        visible, _ = self.example()
        assert distribution_loss(visible, visible.flip(1)).item() == pytest.approx(0, abs=1e-18)


def test_worked_moments() -> None:
    mean, deviation = moments(torch.cat([VISIBLE, INFRARED]))
    torch.testing.assert_close(mean, torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
    torch.testing.assert_close(deviation, torch.tensor([[1.0, 1.0], [1.0, 2.0]]))


def test_worked_example() -> None:
    assert distribution_loss(VISIBLE, INFRARED).item() == pytest.approx(1.5, abs=1e-6)


def test_worked_example_with_a_pair_that_agrees() -> None:
    same = torch.tensor([[[5.0, -1.0], [2.0, 7.0]]])
    value = distribution_loss(torch.cat([VISIBLE, same]), torch.cat([INFRARED, same]))
    assert value.item() == pytest.approx(0.75, abs=1e-6)


def test_it_is_not_the_jeffreys_divergence_that_it_replaces() -> None:
    (seen,), (seen_spread,) = ([list(row) for row in m.tolist()] for m in moments(VISIBLE))
    (other,), (other_spread,) = ([list(row) for row in m.tolist()] for m in moments(INFRARED))
    divergence = 0.0
    for a, s, b, t in zip(seen, seen_spread, other, other_spread, strict=True):
        divergence += (s**2 / t**2 + t**2 / s**2 + (a - b) ** 2 * (1 / s**2 + 1 / t**2)) / 2 - 1
    assert divergence == pytest.approx(2.75, abs=1e-5)
    assert not math.isclose(divergence, distribution_loss(VISIBLE, INFRARED).item(), abs_tol=0.1)
