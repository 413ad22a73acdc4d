"""Cross-modal ranking against worked numbers and loops over anchors, positives and negatives."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from loss_contract import Arguments, LossContract, drawn
from torch import Tensor

from visir.losses.ranking import (
    center_ranking_loss,
    cross_hinges,
    intra_hinges,
    intra_ranking_loss,
    top_ranking_loss,
    unit,
)

Vectors = list[list[float]]
SEEN, UNSEEN = torch.tensor([0, 0, 1, 2, 1]), torch.tensor([1, 0, 0, 2, 1])


def normalised(features: Tensor) -> Vectors:
    rows = features.detach().tolist()
    return [[value / math.hypot(*row) for value in row] for row in rows]


def slow_cross(
    anchors: Vectors, others: Vectors, own: list[int], theirs: list[int], margin: float, intra: float
) -> tuple[float, float, int]:
    """Sums of both hinges over all pairs of one identity, and the number of pairs; one direction."""
    ranking, apart, count = 0.0, 0.0, 0
    for anchor, identity in zip(anchors, own, strict=True):
        negatives = [other for other, name in zip(others, theirs, strict=True) if name != identity]
        nearest = min(negatives, key=lambda other: math.dist(anchor, other), default=None)
        for positive in (other for other, name in zip(others, theirs, strict=True) if name == identity):
            count += 1
            if nearest is not None:
                ranking += max(0.0, math.dist(anchor, positive) - math.dist(anchor, nearest) + margin)
                apart += max(0.0, intra - math.dist(positive, nearest))
    return ranking, apart, count


def slow_center(anchors: Vectors, others: Vectors, own: list[int], theirs: list[int], margin: float) -> float:
    costs = []
    for anchor, identity in zip(anchors, own, strict=True):
        positives = [other for other, name in zip(others, theirs, strict=True) if name == identity]
        negatives = [other for other, name in zip(others, theirs, strict=True) if name != identity]
        if positives:
            total = [sum(column) for column in zip(*positives, strict=True)]
            center = [value / math.hypot(*total) for value in total]
            pushed = min(min(math.dist(anchor, other), math.dist(center, other)) for other in negatives)
            costs.append(max(0.0, margin + math.dist(anchor, center) - pushed))
    return sum(costs) / len(costs)


class RankingContract(LossContract):
    def example(self) -> Arguments:
        return drawn(5, 7), drawn(5, 7, seed=1), SEEN, UNSEEN

    def bad(self) -> list[Arguments]:
        four = torch.zeros(4, dtype=torch.int64)
        return [
            (drawn(4, 7), drawn(4, 6), four, four),
            (drawn(4, 7), drawn(3, 7), four, four),
            (drawn(4, 7), drawn(4, 7), four[:3], four),
            (drawn(4, 2, 7), drawn(4, 2, 7), four, four),
            (drawn(0, 7), drawn(4, 7), four[:0], four),
        ]

    def degenerate(self) -> list[Arguments]:
        one, two = torch.zeros(1, dtype=torch.int64), torch.tensor([0, 1])
        equal = torch.ones(2, 3)
        return [
            (drawn(1, 7), drawn(1, 7, seed=1), one, one),  # no negative
            (drawn(1, 7), drawn(1, 7, seed=1), one, one + 1),  # no positive
            (drawn(2, 7), drawn(2, 7, seed=1), two * 0, two * 0),
            (equal.clone().requires_grad_(), equal.clone().requires_grad_(), two, two),
            (torch.zeros(2, 7, requires_grad=True), drawn(2, 7), two, two),
        ]


class TestTopRanking(RankingContract):
    loss = staticmethod(partial(top_ranking_loss, margin=2.0))

    @pytest.mark.parametrize("margin", [0.1, 0.5, 2.0])
    def test_equals_the_loop(self, margin: float) -> None:
        visible, infrared, _, _ = self.example()
        seen, unseen = normalised(visible), normalised(infrared)
        v2t, _, pairs = slow_cross(seen, unseen, SEEN.tolist(), UNSEEN.tolist(), margin, 0)
        t2v, _, again = slow_cross(unseen, seen, UNSEEN.tolist(), SEEN.tolist(), margin, 0)
        loss = partial(top_ranking_loss, visible, infrared, SEEN, UNSEEN, margin=margin)
        assert pairs == again == 9
        assert loss(directions="v2t").item() == pytest.approx(v2t / pairs, rel=1e-9)
        assert loss().item() == pytest.approx((v2t + t2v) / pairs, rel=1e-9)
        assert loss(reduction="sum").item() == pytest.approx(v2t + t2v, rel=1e-9)

    def test_spectra_of_different_sizes(self) -> None:
        visible, infrared = drawn(5, 7), drawn(3, 7, seed=1)
        expected = sum(
            slow_cross(*arguments, 0.5, 0)[0] / 5
            for arguments in (
                (normalised(visible), normalised(infrared), SEEN.tolist(), UNSEEN[:3].tolist()),
                (normalised(infrared), normalised(visible), UNSEEN[:3].tolist(), SEEN.tolist()),
            )
        )
        pairs = int((SEEN[:, None] == UNSEEN[:3]).sum())
        found = top_ranking_loss(visible, infrared, SEEN, UNSEEN[:3], margin=0.5)
        assert found.item() * pairs == pytest.approx(expected * 5, rel=1e-9)

    def test_length_of_a_feature_does_not_matter(self) -> None:
        visible, infrared, *identities = self.example()
        longer = visible * torch.tensor([[0.1], [2.0], [30.0], [1.0], [5.0]])
        torch.testing.assert_close(self.loss(longer, infrared, *identities), self.loss(visible, infrared, *identities))


class TestIntraRanking(RankingContract):
    loss = staticmethod(partial(intra_ranking_loss, margin=3.0))

    @pytest.mark.parametrize("margin", [0.1, 1.2])
    def test_equals_the_loop(self, margin: float) -> None:
        visible, infrared, _, _ = self.example()
        seen, unseen = normalised(visible), normalised(infrared)
        _, v2t, pairs = slow_cross(seen, unseen, SEEN.tolist(), UNSEEN.tolist(), 0, margin)
        _, t2v, _ = slow_cross(unseen, seen, UNSEEN.tolist(), SEEN.tolist(), 0, margin)
        loss = partial(intra_ranking_loss, visible, infrared, SEEN, UNSEEN, margin=margin)
        assert loss(directions="v2t").item() == pytest.approx(v2t / pairs, rel=1e-9)
        assert loss().item() == pytest.approx((v2t + t2v) / pairs, rel=1e-9)
        assert loss(reduction="sum").item() == pytest.approx(v2t + t2v, rel=1e-9)


class TestCenterRanking(RankingContract):
    loss = staticmethod(partial(center_ranking_loss, margin=3.0))

    @pytest.mark.parametrize("margin", [0.1, 0.5])
    def test_equals_the_loop(self, margin: float) -> None:
        visible, infrared, _, _ = self.example()
        seen, unseen = normalised(visible), normalised(infrared)
        v2t = slow_center(seen, unseen, SEEN.tolist(), UNSEEN.tolist(), margin)
        t2v = slow_center(unseen, seen, UNSEEN.tolist(), SEEN.tolist(), margin)
        loss = partial(center_ranking_loss, visible, infrared, SEEN, UNSEEN, margin=margin)
        assert loss(directions="v2t").item() == pytest.approx(v2t, rel=1e-9)
        assert loss().item() == pytest.approx(v2t + t2v, rel=1e-9)

    def test_anchors_without_a_positive_do_not_count(self) -> None:
        visible, infrared, _, _ = self.example()
        seen = torch.tensor([0, 0, 1, 9, 1])
        found = center_ranking_loss(visible, infrared, seen, UNSEEN, margin=0.5, directions="v2t")
        expected = slow_center(normalised(visible), normalised(infrared), seen.tolist(), UNSEEN.tolist(), 0.5)
        assert found.item() == pytest.approx(expected, rel=1e-9)


def test_worked_example_of_distances() -> None:
    """Two identities; rows are visible images, columns infrared ones."""
    cross, same = torch.tensor([[0.4, 0.7], [0.9, 0.6]]), torch.eye(2, dtype=torch.bool)
    infrared, visible = torch.tensor([[0.0, 0.05], [0.05, 0.0]]), torch.tensor([[0.0, 0.3], [0.3, 0.0]])
    ranking = [cross_hinges(way, same, margin=0.5).item() for way in (cross, cross.T)]
    apart = [
        intra_hinges(way, within, same, margin=0.1).item() for way, within in ((cross, infrared), (cross.T, visible))
    ]
    assert ranking == pytest.approx([0.2, 0.2], abs=1e-6)
    assert apart == pytest.approx([0.05, 0.0], abs=1e-6)
    assert sum(ranking) == pytest.approx(0.4, abs=1e-6)
    assert sum(ranking) + 0.1 * sum(apart) == pytest.approx(0.405, abs=1e-6)
    summed = [cross_hinges(way, same, margin=0.5, reduction="sum") for way in (cross, cross.T)]
    assert sum(summed).item() == pytest.approx(0.8, abs=1e-6)
    assert intra_hinges(cross, infrared, same, margin=0.1, reduction="sum").item() == pytest.approx(0.1, abs=1e-6)


def test_worked_example_of_vectors() -> None:
    visible, infrared = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    people = torch.tensor([0, 1])
    loss = partial(top_ranking_loss, visible, infrared, people, people, margin=0.5)
    assert loss(reduction="sum").item() == pytest.approx(1.699226, abs=1e-6)
    assert loss().item() == pytest.approx(0.849613, abs=1e-6)
    assert intra_ranking_loss(visible, infrared, people, people, margin=0.1).item() == 0
    apart = intra_ranking_loss(visible, infrared, people, people, margin=1.0, reduction="sum")
    assert apart.item() == pytest.approx(4 * (1 - 0.894427), abs=1e-6)


def test_visible_anchors_only_choose_which_infrared_images_are_compared() -> None:
    visible, infrared = drawn(2, 4), drawn(2, 4, seed=1)
    people = torch.tensor([0, 1])
    intra_ranking_loss(visible, infrared, people, people, margin=3.0, directions="v2t").backward()
    assert visible.grad is None
    assert float(infrared.grad.abs().sum()) > 0


def test_a_row_of_zeros_stays() -> None:
    features = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(features, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
