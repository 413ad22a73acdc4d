"""Triplet losses against worked numbers and loops over anchors."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from loss_contract import Arguments, LossContract, drawn

from visir.losses.triplet import (
    cross_triplet_loss,
    euclidean,
    triplet_loss,
    two_way_triplet_loss,
    weighted_distances,
    weighted_triplet_loss,
)

FOUR = torch.tensor([[0.0], [1.0], [1.2], [2.0]]), torch.tensor([0, 0, 1, 1])
FIRST, SECOND, TWO = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.5], [0.6]]), torch.tensor([0, 1])
THREE = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])
PEOPLE, OTHERS = torch.tensor([0, 1, 1, 0, 2, 2]), torch.tensor([2, 1, 0, 2, 0, 1])


def slow_terms(
    anchors: list[list[float]], people: list[int], others: list[list[float]], names: list[int], margin: float
) -> list[float]:
    """The hinge of each anchor."""
    terms = []
    for anchor, own in zip(anchors, people, strict=True):
        positive = [math.dist(anchor, row) for row, name in zip(others, names, strict=True) if name == own]
        negative = [math.dist(anchor, row) for row, name in zip(others, names, strict=True) if name != own]
        terms.append(max(0.0, margin + max(positive) - min(negative)))
    return terms


def slow_weighted(rows: list[list[float]], people: list[int]) -> float:
    total = 0.0
    for anchor, own in zip(rows, people, strict=True):
        positive = [math.dist(anchor, row) for row, name in zip(rows, people, strict=True) if name == own]
        negative = [math.dist(anchor, row) for row, name in zip(rows, people, strict=True) if name != own]
        near, far = sum(math.exp(-d) for d in negative), sum(math.exp(d) for d in positive)
        soft = sum(math.exp(d) / far * d for d in positive) - sum(math.exp(-d) / near * d for d in negative)
        total += math.log1p(math.exp(soft))
    return total / len(rows)


class OneSet:
    """What the losses within one set are asked."""

    def example(self) -> Arguments:
        return drawn(6, 5), PEOPLE

    def bad(self) -> list[Arguments]:
        return [
            (drawn(6, 5), PEOPLE[:5]),
            (drawn(6, 5, 2), PEOPLE),
            (drawn(6), PEOPLE),
            (drawn(0, 5), PEOPLE[:0]),
        ]

    def degenerate(self) -> list[Arguments]:
        return [
            (torch.ones(6, 5, requires_grad=True), PEOPLE),
            (drawn(6, 5), torch.zeros(6, dtype=torch.int64)),
            (drawn(6, 5), torch.arange(6)),
            (drawn(1, 5), torch.zeros(1, dtype=torch.int64)),
        ]


class TwoSets:
    """What the losses across two sets are asked."""

    def example(self) -> Arguments:
        return drawn(6, 5), drawn(6, 5, seed=3), PEOPLE, OTHERS  # every other image is the hardest of some anchor

    def bad(self) -> list[Arguments]:
        return [
            (drawn(6, 5), drawn(6, 4), PEOPLE, OTHERS),
            (drawn(6, 5), drawn(6, 5), PEOPLE[:5], OTHERS),
            (drawn(6, 5), drawn(6, 5), PEOPLE, OTHERS[:5]),
            (drawn(6, 5, 2), drawn(6, 5, 2), PEOPLE, OTHERS),
            (drawn(6, 5), drawn(0, 5), PEOPLE, OTHERS[:0]),
        ]

    def degenerate(self) -> list[Arguments]:
        same = torch.ones(6, 5, requires_grad=True)
        nobody = torch.zeros(6, dtype=torch.int64)
        return [
            (same, torch.ones(6, 5, requires_grad=True), PEOPLE, OTHERS),
            (drawn(6, 5), drawn(6, 5, seed=1), nobody, nobody),
            (drawn(6, 5), drawn(6, 5, seed=1), nobody, nobody + 1),
        ]


class TestTripletLoss(OneSet, LossContract):
    loss = staticmethod(functools.partial(triplet_loss, margin=5.0))

    def test_equals_the_loop(self) -> None:
        features, people = self.example()
        for margin in (0.0, 0.3, 5.0):
            terms = slow_terms(features.tolist(), people.tolist(), features.tolist(), people.tolist(), margin)
            assert triplet_loss(features, people, margin=margin).item() == pytest.approx(sum(terms) / 6)
            assert triplet_loss(features, people, margin=margin, reduction="sum").item() == pytest.approx(sum(terms))

    def test_shift_of_all_features_does_not_matter(self) -> None:
        features, people = self.example()
        torch.testing.assert_close(self.loss(features + 100, people), self.loss(features, people))


class TestCrossTripletLoss(TwoSets, LossContract):
    loss = staticmethod(functools.partial(cross_triplet_loss, margin=5.0))

    def test_equals_the_loop(self) -> None:
        first, second, people, names = self.example()
        terms = slow_terms(first.tolist(), people.tolist(), second[:5].tolist(), names[:5].tolist(), 0.3)
        for reduction, expected in (("mean", sum(terms) / 6), ("sum", sum(terms))):
            found = cross_triplet_loss(first, second[:5], people, names[:5], margin=0.3, reduction=reduction)
            assert found.item() == pytest.approx(expected)


class TestTwoWayTripletLoss(TwoSets, LossContract):
    loss = staticmethod(functools.partial(two_way_triplet_loss, margin=5.0))

    def test_is_the_sum_of_both_ways(self) -> None:
        first, second, people, names = self.example()
        forth = cross_triplet_loss(first, second[:5], people, names[:5], margin=0.3)
        back = cross_triplet_loss(second[:5], first, names[:5], people, margin=0.3)
        both = two_way_triplet_loss(first, second[:5], people, names[:5], margin=0.3)
        torch.testing.assert_close(both, forth + back)


class TestWeightedTripletLoss(OneSet, LossContract):
    loss = staticmethod(weighted_triplet_loss)

    def test_equals_the_loop(self) -> None:
        features, people = self.example()
        expected = slow_weighted(features.tolist(), people.tolist())
        assert weighted_triplet_loss(features, people).item() == pytest.approx(expected)
        summed = weighted_triplet_loss(features, people, reduction="sum")
        assert summed.item() == pytest.approx(6 * expected)


def test_worked_example_within_a_set() -> None:
    terms = [0.1, 1.1, 0.9, 0.1]
    assert slow_terms(FOUR[0].tolist(), FOUR[1].tolist(), FOUR[0].tolist(), FOUR[1].tolist(), 0.3) == pytest.approx(
        terms
    )
    assert triplet_loss(*FOUR, margin=0.3, reduction="sum").item() == pytest.approx(2.2, abs=1e-5)
    assert triplet_loss(*FOUR, margin=0.3).item() == pytest.approx(0.55, abs=1e-5)


def test_the_nearest_negative_is_pushed_away_not_pulled() -> None:
    """The Base-Derivative paper prints a plus before the minimum over negatives, which would give 7.4 here."""
    features = FOUR[0].clone().requires_grad_()
    loss = triplet_loss(features, FOUR[1], margin=0.3, reduction="sum")
    distance = torch.cdist(FOUR[0], FOUR[0]).tolist()
    printed = sum(
        0.3 + max(row[:2] if i < 2 else row[2:]) + min(row[2:] if i < 2 else row[:2]) for i, row in enumerate(distance)
    )
    assert printed == pytest.approx(7.4, abs=1e-5)
    assert abs(loss.item() - printed) > 5
    loss.backward()
    assert features.grad is not None
    assert features.grad[1] > 0 > features.grad[2]  # descent parts the near negatives 1.0 and 1.2


def test_worked_example_across_sets() -> None:
    expected = {("mean", True): 0.2, ("sum", True): 0.4, ("mean", False): 0.55, ("sum", False): 1.1}
    for (reduction, forth), value in expected.items():
        sets = (FIRST, SECOND) if forth else (SECOND, FIRST)
        found = cross_triplet_loss(*sets, TWO, TWO, margin=0.3, reduction=reduction)  # type: ignore[arg-type]
        assert found.item() == pytest.approx(value, abs=1e-5)
    assert two_way_triplet_loss(FIRST, SECOND, TWO, TWO, margin=0.3).item() == pytest.approx(0.75, abs=1e-5)
    summed = two_way_triplet_loss(FIRST, SECOND, TWO, TWO, margin=0.3, reduction="sum")
    assert summed.item() == pytest.approx(1.5, abs=1e-5)


def test_worked_example_of_weighted_triplets() -> None:
    distance = euclidean(THREE[0])
    positive, negative = weighted_distances(distance, THREE[1][:, None] == THREE[1])
    each = torch.nn.functional.softplus(positive - negative)
    torch.testing.assert_close(each, torch.tensor([0.098416, 0.247742, 0.098416]), atol=1e-6, rtol=0)
    assert weighted_triplet_loss(*THREE).item() == pytest.approx(0.148191, abs=1e-6)


def test_anchors_with_a_missing_side_cost_nothing() -> None:
    features = drawn(4, 3)
    alone = torch.zeros(4, dtype=torch.int64)
    assert triplet_loss(features, alone, margin=0.3).item() == 0
    assert cross_triplet_loss(features, features, alone, alone + 1, margin=0.3).item() == 0
    assert cross_triplet_loss(features, features, alone, alone, margin=0.3).item() == 0


class TestEuclidean:
    def test_equals_the_distance_of_every_two_rows(self) -> None:
        first, second = drawn(5, 7).detach(), drawn(4, 7, seed=1).detach()
        torch.testing.assert_close(euclidean(first, second), torch.cdist(first, second))
        torch.testing.assert_close(euclidean(first).fill_diagonal_(0), torch.cdist(first, first))

    def test_near_features_far_from_the_origin_keep_their_distance(self) -> None:
        """In float32 the difference of their squares, about 1e8, would have no digits left."""
        step = torch.tensor([0.25, 0.0]).repeat(1024)
        features = torch.stack([torch.full((2048,), 256.0), 256 + step])
        assert euclidean(features)[0, 1].item() == pytest.approx(8.0, rel=1e-6)

    def test_equal_rows_have_no_gradient(self) -> None:
        features = torch.ones(3, 4, requires_grad=True)
        euclidean(features).sum().backward()
        torch.testing.assert_close(features.grad, torch.zeros(3, 4))
