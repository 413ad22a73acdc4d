"""Correlation loss against worked numbers, a loop and NumPy."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import torch
from loss_contract import Arguments, LossContract, drawn
from torch import Tensor

from visir.losses.correlation import correlation_loss, pearson
from visir.losses.distribution import distribution_loss


def slow_correlation(visible: Tensor, infrared: Tensor) -> float:
    seen, hidden = visible.tolist(), infrared.tolist()
    total = 0.0
    for i in range(len(seen)):
        for j in range(len(seen)):
            if i != j:
                total += (statistics.correlation(seen[i], seen[j]) - statistics.correlation(hidden[i], hidden[j])) ** 2
    return total / len(seen)


class TestCorrelationLoss(LossContract):
    loss = staticmethod(correlation_loss)

    def example(self) -> Arguments:
        return drawn(4, 7), drawn(4, 7, seed=1)

    def bad(self) -> list[Arguments]:
        return [
            (drawn(4, 7), drawn(3, 7)),
            (drawn(4, 7), drawn(4, 6)),
            (drawn(4, 6, 5), drawn(4, 6, 5)),
            (drawn(0, 7), drawn(0, 7)),
        ]

    def degenerate(self) -> list[Arguments]:
        constant = torch.ones(3, 5, requires_grad=True)
        return [
            (constant, torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()),
            (drawn(1, 7), drawn(1, 7, seed=1)),
        ]

    def test_equals_the_loop(self) -> None:
        visible, infrared = self.example()
        expected = slow_correlation(visible, infrared)
        assert correlation_loss(visible, infrared).item() == pytest.approx(expected, rel=1e-9)

    def test_shift_and_positive_scale_of_a_feature_do_not_matter(self) -> None:
        visible, infrared = self.example()
        changed = visible * torch.tensor([[0.1], [2.0], [30.0], [1.0]]) + torch.tensor([[5.0], [-3.0], [0.0], [1.0]])
        torch.testing.assert_close(correlation_loss(changed, infrared), correlation_loss(visible, infrared))

    def test_one_pair_costs_nothing(self) -> None:
        assert correlation_loss(drawn(1, 7), drawn(1, 7, seed=1)).item() == pytest.approx(0, abs=1e-18)


def test_matrix_is_that_of_numpy() -> None:
    features = drawn(6, 1536).detach()
    np.testing.assert_allclose(pearson(features).numpy(), np.corrcoef(features.numpy()), atol=1e-12)


def test_constant_feature_correlates_with_nothing() -> None:
    features = torch.stack([torch.ones(4), torch.arange(4.0)])
    torch.testing.assert_close(pearson(features), torch.tensor([[0.0, 0.0], [0.0, 1.0]]))


def test_worked_example_of_two() -> None:
    visible = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    infrared = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    assert correlation_loss(visible, infrared).item() == pytest.approx(4.0, abs=1e-5)


def test_worked_example_of_three() -> None:
    visible = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 0.0, 1.0]])
    infrared = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0], [0.0, 0.0, 3.0]])
    expected = torch.tensor([[1.0, -0.5, 0.866025], [-0.5, 1.0, 0.0], [0.866025, 0.0, 1.0]])
    torch.testing.assert_close(pearson(infrared), expected, atol=1e-6, rtol=0)
    assert correlation_loss(visible, infrared).item() == pytest.approx(2 / 3, abs=1e-6)


@pytest.mark.parametrize(("beta", "gamma", "expected"), [(1.0, 1.0, 8.798764), (11.0, 2.0, 27.798764)])
def test_worked_totals(beta: float, gamma: float, expected: float) -> None:
    apart = distribution_loss(torch.tensor([[[1.0, 0.0], [3.0, 2.0]]]), torch.tensor([[[0.0, 0.0], [2.0, 4.0]]]))
    unlike = correlation_loss(
        torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    )
    assert 3.298764 + beta * apart.item() + gamma * unlike.item() == pytest.approx(expected, abs=1e-4)
