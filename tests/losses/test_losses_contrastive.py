"""Contrastive loss against worked numbers and a loop."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from loss_contract import Arguments, LossContract, drawn
from torch import Tensor

from visir.losses.contrastive import contrastive_loss

SAME = torch.tensor([True, False, False, True])


def slow_contrastive(first: Tensor, second: Tensor, same: list[bool], margin: float) -> float:
    total = 0.0
    for one, other, alike in zip(first.tolist(), second.tolist(), same, strict=True):
        apart = math.dist([v / math.hypot(*one) for v in one], [v / math.hypot(*other) for v in other])
        total += apart**2 if alike else max(0.0, margin - apart) ** 2
    return total / len(same) / 2


class TestContrastiveLoss(LossContract):
    loss = staticmethod(partial(contrastive_loss, margin=2.5))

    def example(self) -> Arguments:
        return drawn(4, 7), drawn(4, 7, seed=1), SAME

    def bad(self) -> list[Arguments]:
        return [
            (drawn(4, 7), drawn(3, 7), SAME),
            (drawn(4, 7), drawn(4, 6), SAME),
            (drawn(3, 7), drawn(3, 7), SAME),
            (drawn(4, 2, 7), drawn(4, 2, 7), SAME),
            (drawn(0, 7), drawn(0, 7), SAME[:0]),
        ]

    def degenerate(self) -> list[Arguments]:
        equal = torch.ones(4, 3)
        return [
            (equal.clone().requires_grad_(), equal.clone().requires_grad_(), SAME),
            (torch.zeros(4, 3, requires_grad=True), equal.clone().requires_grad_(), SAME),
            (drawn(1, 7), drawn(1, 7, seed=1), SAME[:1]),
        ]

    @pytest.mark.parametrize("margin", [0.5, 1.3])
    def test_equals_the_loop(self, margin: float) -> None:
        first, second, same = self.example()
        expected = slow_contrastive(first, second, same.tolist(), margin)
        assert contrastive_loss(first, second, same, margin=margin).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("alike", "expected"), [(True, 0.045), (False, 0.02)])
def test_worked_example(alike: bool, expected: float) -> None:
    """Two vectors of any length, 0.3 apart once normalised."""
    cosine = 1 - 0.3**2 / 2
    first = torch.tensor([[5.0, 0.0]], dtype=torch.float64)
    second = torch.tensor([[cosine, math.sqrt(1 - cosine**2)]], dtype=torch.float64)
    assert contrastive_loss(first, second, torch.tensor([alike]), margin=0.5).item() == pytest.approx(expected)


def test_far_negatives_cost_nothing() -> None:
    apart = contrastive_loss(torch.eye(2), torch.eye(2).flip(0), torch.tensor([False, False]), margin=0.5)
    assert apart.item() == 0
