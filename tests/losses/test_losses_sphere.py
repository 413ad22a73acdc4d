"""Sphere softmax against the worked number, a loop, and what an angle does not depend on."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from loss_contract import Arguments, LossContract, drawn
from torch import Tensor

from visir.losses.sphere import sphere_softmax_loss


def slow_sphere(features: Tensor, weights: Tensor, identities: list[int], scale: float) -> float:
    total = 0.0
    for feature, identity in zip(features.tolist(), identities, strict=True):
        powers = []
        for weight in weights.tolist():
            dot = sum(a * b for a, b in zip(feature, weight, strict=True))
            powers.append(math.exp(scale * dot / (math.hypot(*feature) * math.hypot(*weight))))
        total -= math.log(powers[identity] / sum(powers))
    return total / len(features)


class TestSphereSoftmaxLoss(LossContract):
    loss = staticmethod(partial(sphere_softmax_loss, scale=14.0))

    def example(self) -> Arguments:
        return drawn(5, 4), drawn(3, 4, seed=1), torch.tensor([0, 2, 1, 1, 0])

    def bad(self) -> list[Arguments]:
        labels = torch.tensor([0, 1, 2, 0])
        return [
            (drawn(4, 7), drawn(3, 6), labels),
            (drawn(4, 7), drawn(3, 7), labels[:3]),
            (drawn(4, 7, 2), drawn(3, 7, 2), labels),
            (drawn(4, 7), drawn(7), labels),
            (drawn(0, 7), drawn(3, 7), labels[:0]),
            (drawn(4, 7), drawn(0, 7), labels),
        ]

    def degenerate(self) -> list[Arguments]:
        labels = torch.tensor([0, 1])
        return [
            (torch.zeros(2, 4, requires_grad=True), torch.randn(3, 4).requires_grad_(), labels),
            (torch.randn(2, 4).requires_grad_(), torch.zeros(3, 4, requires_grad=True), labels),
            (torch.full((2, 4), 1e18, requires_grad=True), torch.ones(3, 4, requires_grad=True), labels),
        ]

    def test_order_of_the_batch_does_not_matter(self) -> None:
        features, weights, identities = self.example()
        order, names = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 1])
        found = self.loss(features[order], weights[names], names.argsort()[identities[order]])
        torch.testing.assert_close(found, self.loss(*self.example()))

    @pytest.mark.parametrize("scale", [1.0, 14.0])
    def test_equals_the_loop(self, scale: float) -> None:
        features, weights, identities = self.example()
        expected = slow_sphere(features, weights, identities.tolist(), scale)
        assert sphere_softmax_loss(features, weights, identities, scale=scale).item() == pytest.approx(expected)

    def test_lengths_do_not_matter(self) -> None:
        features, weights, identities = self.example()
        longer = features * torch.tensor([[0.1], [2.0], [30.0], [1.0], [5.0]], dtype=torch.float64)
        torch.testing.assert_close(self.loss(longer, weights * 7, identities), self.loss(features, weights, identities))


def test_worked_number() -> None:
    cosines = torch.tensor([0.9, 0.1, 0.0], dtype=torch.float64)
    weights = torch.stack([cosines, (1 - cosines.square()).sqrt()], dim=1)
    loss = sphere_softmax_loss(torch.tensor([[5.0, 0.0]], dtype=torch.float64), weights, torch.tensor([0]), scale=14.0)
    assert loss.item() == pytest.approx(1.70e-5, abs=5e-8)
