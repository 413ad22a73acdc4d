"""Triplets by angle against worked numbers and a loop over anchors."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from loss_contract import Arguments, LossContract, drawn

from visir.losses.cosine_triplet import cosine_triplet_loss, two_way_cosine_triplet_loss

PEOPLE, OTHERS = torch.tensor([0, 1, 1, 0, 2, 2]), torch.tensor([2, 1, 0, 2, 0, 1])


def cosine(first: list[float], second: list[float]) -> float:
    product = sum(a * b for a, b in zip(first, second, strict=True))
    return product / (math.hypot(*first) * math.hypot(*second))


def slow(
    anchors: list[list[float]], people: list[int], others: list[list[float]], names: list[int], margin: float
) -> float:
    terms = []
    for anchor, own in zip(anchors, people, strict=True):
        same = [cosine(anchor, row) for row, name in zip(others, names, strict=True) if name == own]
        apart = [cosine(anchor, row) for row, name in zip(others, names, strict=True) if name != own]
        terms.append(max(0.0, margin - min(same) + max(apart)))
    return sum(terms) / len(terms)


class TwoSets(LossContract):
    def example(self) -> Arguments:
        return drawn(6, 5), drawn(6, 5, seed=3), PEOPLE, OTHERS

    def bad(self) -> list[Arguments]:
        return [
            (drawn(6, 5), drawn(6, 4), PEOPLE, OTHERS),
            (drawn(6, 5), drawn(6, 5), PEOPLE[:5], OTHERS),
            (drawn(6, 5), drawn(6, 5), PEOPLE, OTHERS[:5]),
            (drawn(6, 5, 2), drawn(6, 5, 2), PEOPLE, OTHERS),
            (drawn(6, 5), drawn(0, 5), PEOPLE, OTHERS[:0]),
        ]

    def degenerate(self) -> list[Arguments]:
        nobody = torch.zeros(6, dtype=torch.int64)
        return [
            (torch.ones(6, 5, requires_grad=True), torch.ones(6, 5, requires_grad=True), PEOPLE, OTHERS),
            (torch.zeros(6, 5, requires_grad=True), torch.zeros(6, 5, requires_grad=True), PEOPLE, OTHERS),
            (drawn(6, 5), drawn(6, 5, seed=1), nobody, nobody),
            (drawn(6, 5), drawn(6, 5, seed=1), nobody, nobody + 1),
        ]


class TestOneWay(TwoSets):
    loss = staticmethod(functools.partial(cosine_triplet_loss, margin=3.0))

    def test_equals_the_loop(self) -> None:
        first, second, people, names = self.example()
        for margin in (0.0, 0.3, 3.0):
            found = cosine_triplet_loss(first, second[:5], people, names[:5], margin=margin)
            expected = slow(first.tolist(), people.tolist(), second[:5].tolist(), names[:5].tolist(), margin)
            assert found.item() == pytest.approx(expected)

    def test_length_does_not_matter(self) -> None:
        first, second, people, names = self.example()
        lengths = torch.arange(1, 7)[:, None]
        torch.testing.assert_close(
            self.loss(first * lengths, second / lengths, people, names), self.loss(first, second, people, names)
        )

    def test_a_set_may_be_compared_with_itself(self) -> None:
        first, _, people, _ = self.example()
        rows, names = first.tolist(), people.tolist()
        assert self.loss(first, first, people, people).item() == pytest.approx(slow(rows, names, rows, names, 3.0))


class TestTwoWays(TwoSets):
    loss = staticmethod(functools.partial(two_way_cosine_triplet_loss, margin=3.0))

    def test_is_the_sum_of_both_ways(self) -> None:
        first, second, people, names = self.example()
        forth = cosine_triplet_loss(first, second[:5], people, names[:5], margin=1.0)
        back = cosine_triplet_loss(second[:5], first, names[:5], people, margin=1.0)
        both = two_way_cosine_triplet_loss(first, second[:5], people, names[:5], margin=1.0)
        torch.testing.assert_close(both, forth + back)


def test_worked_example() -> None:
    """Cosines of (1, 0) are 0.6 and 1 with its own identity, 0 and -1 with others."""
    anchor = torch.tensor([[2.0, 0.0]])
    others, names = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 1.0], [-5.0, 0.0]]), torch.tensor([0, 0, 1, 1])
    for margin, expected in ((1.0, 1 - 0.6 + 0), (0.5, 0.0), (0.7, 0.1)):
        found = cosine_triplet_loss(anchor, others, torch.tensor([0]), names, margin=margin)
        assert found.item() == pytest.approx(expected, abs=1e-6)


def test_anchors_with_a_missing_side_cost_nothing() -> None:
    features, nobody = drawn(4, 3), torch.zeros(4, dtype=torch.int64)
    assert cosine_triplet_loss(features, features, nobody, nobody + 1, margin=1.0).item() == 0
    assert cosine_triplet_loss(features, features, nobody, nobody, margin=1.0).item() == 0


def test_the_most_similar_negative_is_pushed_away() -> None:
    anchor, others = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 1.0]], requires_grad=True)
    cosine_triplet_loss(anchor, others, torch.tensor([0]), torch.tensor([0, 1, 1]), margin=1.0).backward()
    assert others.grad is not None
    assert others.grad[1, 0] > 0  # descent turns it away from the anchor
    assert not others.grad[2].any()
