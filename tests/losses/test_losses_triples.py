"""Triplet losses of the disentangling systems: worked numbers, and loops over the anchors."""

from __future__ import annotations

import functools

import pytest
import torch
from loss_contract import Arguments, LossContract, drawn
from torch import Tensor

from visir.losses.triples import hardest_manhattan_loss, manhattan_triplet_loss, squared_triplet_loss


def squared(first: list[float], second: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(first, second, strict=True))


def manhattan(first: list[float], second: list[float]) -> float:
    return sum(abs(a - b) for a, b in zip(first, second, strict=True))


class GivenTriples(LossContract):
    def example(self) -> Arguments:
        return drawn(5, 4), drawn(5, 4, seed=1), drawn(5, 4, seed=3)

    def bad(self) -> list[Arguments]:
        rows = drawn(4, 3)
        return [
            (rows, drawn(3, 3), rows),
            (rows, rows, drawn(4, 2)),
            (drawn(4), drawn(4), drawn(4)),
            (drawn(0, 3),) * 3,
        ]

    def degenerate(self) -> list[Arguments]:
        return [tuple(torch.ones(3, 2, requires_grad=True) for _ in range(3)), (drawn(1, 2), drawn(1, 2), drawn(1, 2))]


class TestSquared(GivenTriples):
    loss = staticmethod(functools.partial(squared_triplet_loss, margin=30.0))

    def test_equals_the_loop(self) -> None:
        triples = list(zip(*(rows.tolist() for rows in self.example()), strict=True))
        expected = sum(max(0.0, 1.5 + squared(a, p) - squared(a, n)) for a, p, n in triples) / 5
        assert squared_triplet_loss(*self.example(), margin=1.5).item() == pytest.approx(expected, rel=1e-9)


class TestManhattan(GivenTriples):
    loss = staticmethod(functools.partial(manhattan_triplet_loss, margin=30.0))

    def test_equals_the_loop(self) -> None:
        triples = list(zip(*(rows.tolist() for rows in self.example()), strict=True))
        expected = sum(max(0.0, 1.5 + manhattan(a, p) - manhattan(a, n)) for a, p, n in triples) / 5
        assert manhattan_triplet_loss(*self.example(), margin=1.5).item() == pytest.approx(expected, rel=1e-9)


class TestHardest(LossContract):
    loss = staticmethod(functools.partial(hardest_manhattan_loss, margin=30.0))

    def example(self) -> Arguments:
        people = torch.tensor([0, 1, 2, 3])
        return drawn(4, 3), drawn(4, 3, seed=1), people, people

    def bad(self) -> list[Arguments]:
        rows, people = drawn(4, 3), torch.zeros(4, dtype=torch.int64)
        return [
            (rows, drawn(4, 2), people, people),
            (rows, rows, people[:3], people),
            (rows, drawn(0, 3), people, people[:0]),
        ]

    def degenerate(self) -> list[Arguments]:
        one, people = torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 1, 1])
        equal = torch.ones(4, 3, requires_grad=True)
        return [(equal, equal, people, people), (drawn(4, 3), drawn(4, 3, seed=1), one, one)]

    def test_equals_the_loop(self) -> None:
        people, others = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 2, 2, 0])
        first, second = drawn(4, 3), drawn(6, 3, seed=1)
        expected = []
        for anchor, person in zip(first.tolist(), people.tolist(), strict=True):
            distances = [(manhattan(anchor, row), other) for row, other in zip(second.tolist(), others, strict=True)]
            farthest = max(d for d, other in distances if other == person)
            nearest = min(d for d, other in distances if other != person)
            expected.append(max(0.0, 1.0 + farthest - nearest))
        found = hardest_manhattan_loss(first, second, people, others, margin=1.0)
        assert found.item() == pytest.approx(sum(expected) / 4, rel=1e-9)

    def test_only_the_hardest_get_a_gradient(self) -> None:
        others = torch.tensor([[1.0], [3.0], [4.0], [9.0]], requires_grad=True)
        hardest_manhattan_loss(
            torch.zeros(1, 1), others, torch.tensor([0]), torch.tensor([0, 0, 1, 1]), margin=5.0
        ).backward()
        assert others.grad.flatten().tolist() == [0.0, 1.0, -1.0, 0.0]

    def test_an_anchor_without_others_costs_nothing(self) -> None:
        people, alone = torch.tensor([0, 1]), torch.tensor([0, 0])
        rows = drawn(2, 3)
        assert hardest_manhattan_loss(rows, rows, alone, alone, margin=1.0) == 0
        assert hardest_manhattan_loss(rows, rows, people + 5, people, margin=1.0) == 0


def rows(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


def test_worked_numbers() -> None:
    """Squared distances 1 and 1.25; sums of absolute differences 1 and 3."""
    assert squared_triplet_loss(rows(0, 0), rows(1, 0), rows(1, 0.5), margin=1.0).item() == pytest.approx(0.75)
    triple = rows(1, 0, 2), rows(1, 1, 2), rows(0, 2, 2)
    assert manhattan_triplet_loss(*triple, margin=0.5).item() == 0
    assert manhattan_triplet_loss(*triple, margin=3.0).item() == pytest.approx(1.0)
    first, second, third = triple
    mined = hardest_manhattan_loss(first, torch.cat([second, third]), torch.tensor([0]), torch.tensor([0, 1]), margin=3)
    assert mined.item() == pytest.approx(1.0)
