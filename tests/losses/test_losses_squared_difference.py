"""The squared-difference triplet loss against worked numbers and a loop over the anchors."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from loss_contract import Arguments, LossContract, drawn
from torch import Tensor

from visir.losses.squared_difference import squared_difference_loss
from visir.losses.triplet import weighted_triplet_loss


def slow_squared_difference(features: Tensor, identities: list[int], sharpness: float, gain: float) -> float:
    rows = features.tolist()
    total = 0.0
    for i, anchor in enumerate(rows):
        sides = []
        for same, sign in ((True, 1), (False, -1)):
            distances = [
                max(math.dist(anchor, row), 1e-6)
                for row, identity in zip(rows, identities, strict=True)
                if (identity == identities[i]) == same
            ]
            weights = [math.exp(sign * sharpness * d) for d in distances]
            sides.append(sum(w * d for w, d in zip(weights, distances, strict=True)) / sum(weights))
        difference = sides[0] - sides[1]
        total += math.log(1 + math.exp(math.copysign(gain * difference**2, difference)))
    return total / len(rows)


class TestSquaredDifferenceLoss(LossContract):
    loss = staticmethod(functools.partial(squared_difference_loss, gain=0.5))

    def example(self) -> Arguments:
        return drawn(7, 5), torch.tensor([0, 0, 1, 1, 2, 2, 2])

    def bad(self) -> list[Arguments]:
        labels = torch.zeros(4, dtype=torch.int64)
        return [(drawn(3, 5), labels), (drawn(4, 5, 2), labels), (drawn(0, 5), labels[:0]), (drawn(4), labels)]

    def degenerate(self) -> list[Arguments]:
        equal = torch.ones(4, 3, requires_grad=True)
        return [
            (equal, torch.tensor([0, 0, 1, 1])),
            (drawn(3, 5), torch.tensor([0, 0, 0])),
            (drawn(3, 5), torch.tensor([0, 1, 2])),
        ]

    @pytest.mark.parametrize(("sharpness", "gain"), [(1.0, 1.0), (2.0, 0.3)])
    def test_equals_the_loop(self, sharpness: float, gain: float) -> None:
        features, identities = self.example()
        expected = slow_squared_difference(features, identities.tolist(), sharpness, gain)
        found = squared_difference_loss(features, identities, sharpness=sharpness, gain=gain)
        assert found.item() == pytest.approx(expected, rel=1e-9)


def test_worked_example() -> None:
    """The differences of the anchors are -2.268941, -1.268941 and -2.268941."""
    features, identities = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])
    squares = [2.268941**2, 1.268941**2, 2.268941**2]
    expected = sum(math.log(1 + math.exp(-square)) for square in squares) / 3
    assert squared_difference_loss(features, identities).item() == pytest.approx(expected, abs=1e-6)
    assert expected == pytest.approx(0.064593, abs=1e-6)


def test_wrong_orders_cost_more_and_right_ones_less_than_without_the_square() -> None:
    identities = torch.tensor([0, 0, 1, 1])
    right, wrong = torch.tensor([[0.0], [1.0], [9.0], [10.0]]), torch.tensor([[0.0], [9.0], [1.0], [10.0]])
    assert squared_difference_loss(right, identities) < weighted_triplet_loss(right, identities)
    assert squared_difference_loss(wrong, identities) > 3 * weighted_triplet_loss(wrong, identities)
