"""All triplets across two sets against worked numbers and a loop."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from loss_contract import Arguments, LossContract, drawn

from visir.losses.all_triplets import two_way_all_triplets_loss

PEOPLE, OTHERS = torch.tensor([0, 1, 1, 0, 2, 2]), torch.tensor([2, 1, 0, 2, 0, 1])
Rows = list[list[float]]


def slow(anchors: Rows, people: list[int], others: Rows, names: list[int], margin: float) -> float:
    """One way."""
    terms = []
    for (anchor, own), (p, of_p), (n, of_n) in itertools.product(
        zip(anchors, people, strict=True), zip(others, names, strict=True), zip(others, names, strict=True)
    ):
        if of_p == own != of_n:
            terms.append(max(0.0, margin + math.dist(anchor, p) - math.dist(anchor, n)))
    return sum(terms) / len(terms)


class TestAllTriplets(LossContract):
    loss = staticmethod(functools.partial(two_way_all_triplets_loss, margin=5.0))

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
            (drawn(6, 5), drawn(6, 5, seed=1), nobody, nobody),
            (drawn(6, 5), drawn(6, 5, seed=1), nobody, nobody + 1),
        ]

    def test_equals_the_loop(self) -> None:
        first, second, people, names = self.example()
        sets = (first.tolist(), people.tolist(), second[:5].tolist(), names[:5].tolist())
        for margin in (0.0, 0.3, 1.4, 5.0):
            expected = slow(*sets, margin) + slow(*sets[2:], *sets[:2], margin)
            found = two_way_all_triplets_loss(first, second[:5], people, names[:5], margin=margin)
            assert found.item() == pytest.approx(expected)

    def test_sets_may_change_places(self) -> None:
        first, second, people, names = self.example()
        torch.testing.assert_close(self.loss(second, first, names, people), self.loss(first, second, people, names))


def test_worked_example() -> None:
    """Positives at 0 and 5, a negative at 5: hinges [1.4 + 0 - 5]_+ = 0 and [1.4 + 5 - 5]_+ = 1.4, mean 0.7."""
    anchor, people = torch.zeros(1, 1), torch.tensor([7])
    others, names = torch.tensor([[0.0], [5.0], [-5.0]]), torch.tensor([7, 7, 8])
    back = 0.0  # no image of the second set has both a positive and a negative in the first
    found = two_way_all_triplets_loss(anchor, others, people, names, margin=1.4)
    assert found.item() == pytest.approx(0.7 + back, abs=1e-6)


def test_without_triplets_nothing_is_lost() -> None:
    features, nobody = drawn(4, 3), torch.zeros(4, dtype=torch.int64)
    assert two_way_all_triplets_loss(features, features, nobody, nobody, margin=1.4).item() == 0
    assert two_way_all_triplets_loss(features, features, nobody, nobody + 1, margin=1.4).item() == 0
