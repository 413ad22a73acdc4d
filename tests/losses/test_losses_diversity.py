"""The losses on generated embeddings against worked numbers and loops over identities, branches and spectra."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from loss_contract import Arguments, LossContract, drawn
from torch import Tensor

from visir.core.errors import TrainingError
from visir.losses.diversity import center_mining_loss, orthogonal_loss

IDENTITIES = torch.tensor([4, 1, 4, 2, 1, 4])


def slow_center_mining(*arguments: Tensor, margin: float) -> float:
    *features, identities = (argument.tolist() for argument in arguments)
    people = sorted(set(identities))

    def center(rows: list[list[float]], person: int) -> list[float]:
        own = [row for row, identity in zip(rows, identities, strict=True) if identity == person]
        return [sum(column) / len(own) for column in zip(*own, strict=True)]

    visible, infrared, from_visible, from_infrared = features
    total = 0.0
    for own, other, made in ((visible, infrared, from_visible), (infrared, visible, from_infrared)):
        for person in people:
            here, there = center(own, person), center(other, person)
            nearest = min(math.dist(here, center(own, k)) for k in people if k != person)
            for branch in range(len(made[0])):
                generated = center([row[branch] for row in made], person)
                term = math.dist(there, generated) - math.dist(here, generated) - nearest + margin
                total += max(term, 0.0) / len(people)
    return total


class TestCenterMiningLoss(LossContract):
    loss = staticmethod(functools.partial(center_mining_loss, margin=9.0))

    def example(self) -> Arguments:
        return drawn(6, 4), drawn(6, 4, seed=1), drawn(6, 2, 4, seed=2), drawn(6, 2, 4, seed=3), IDENTITIES

    def bad(self) -> list[Arguments]:
        visible, infrared, made, other, labels = self.example()
        return [
            (visible, infrared[:5], made, other, labels),
            (visible, infrared, made[:, 0], other, labels),
            (visible, infrared, made, other[:, :1], labels),
            (visible, infrared, made[:, :, :3], other[:, :, :3], labels),
            (visible, infrared, made, other, labels[:5]),
            (visible[:0], infrared[:0], made[:0], other[:0], labels[:0]),
        ]

    def degenerate(self) -> list[Arguments]:
        visible, infrared, made, other, labels = self.example()
        equal = torch.ones(6, 4, dtype=torch.float64, requires_grad=True)
        generated = torch.ones(6, 2, 4, dtype=torch.float64, requires_grad=True)
        return [
            (visible, infrared, made, other, torch.zeros_like(labels)),
            (equal, equal, generated, generated, labels),
        ]

    @pytest.mark.parametrize("margin", [0.2, 1.0, 9.0])
    def test_equals_the_loop(self, margin: float) -> None:
        arguments = self.example()
        expected = slow_center_mining(*arguments, margin=margin)
        assert center_mining_loss(*arguments, margin=margin).item() == pytest.approx(expected, rel=1e-9)

    def test_one_identity_costs_nothing(self) -> None:
        assert center_mining_loss(*self.degenerate()[0], margin=9.0).item() == 0


def test_worked_example_of_centre_mining() -> None:
    visible, infrared = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [6.0]])
    made, other = torch.tensor([[[0.0]], [[1.0]]]), torch.tensor([[[2.0]], [[5.0]]])
    # visible: [2 - 0 - 1 + .2] and [5 - 0 - 1 + .2]; infrared: [2 - 0 - 4 + .2] and [4 - 1 - 4 + .2], both below 0
    found = center_mining_loss(visible, infrared, made, other, torch.tensor([0, 1]), margin=0.2)
    assert found.item() == pytest.approx((1.2 + 4.2) / 2, abs=1e-5)


def test_generated_centres_are_drawn_to_the_other_spectrum_and_from_their_own() -> None:
    visible, infrared = torch.tensor([[0.0], [10.0]]), torch.tensor([[20.0], [30.0]])
    made = torch.tensor([[[1.0]], [[11.0]]], requires_grad=True)
    other = torch.tensor([[[19.0]], [[29.0]]], requires_grad=True)
    center_mining_loss(visible, infrared, made, other, torch.tensor([0, 1]), margin=0.2).backward()
    assert made.grad is not None
    assert other.grad is not None
    assert (made.grad < 0).all()
    assert (other.grad > 0).all()


class TestOrthogonalLoss(LossContract):
    loss = staticmethod(orthogonal_loss)

    def example(self) -> Arguments:
        return (drawn(4, 3, 5),)

    def bad(self) -> list[Arguments]:
        return [(drawn(4, 5),), (drawn(0, 3, 5),), (drawn(4, 3, 5, 1),)]

    def degenerate(self) -> list[Arguments]:
        return [
            (torch.zeros(2, 3, 4, requires_grad=True),),
            (torch.ones(2, 3, 4, requires_grad=True),),
            (drawn(2, 1, 4),),
        ]

    def test_equals_the_loop(self) -> None:
        (generated,) = self.example()
        total = 0.0
        for branches in generated.tolist():
            for m in range(3):
                for n in range(m + 1, 3):
                    dot = sum(a * b for a, b in zip(branches[m], branches[n], strict=True))
                    total += abs(dot) / math.hypot(*branches[m]) / math.hypot(*branches[n])
        assert orthogonal_loss(generated).item() == pytest.approx(total / 4, rel=1e-9)


def test_worked_example_of_the_orthogonal_loss() -> None:
    """Cosines 0.6, 0 and 0.8."""
    assert orthogonal_loss(torch.tensor([[[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]])).item() == pytest.approx(1.4)
    assert orthogonal_loss(torch.tensor([[[1.0, 0.0]]])).item() == 0


def test_message_of_the_orthogonal_loss_names_the_shape() -> None:
    with pytest.raises(TrainingError, match=r"\(N, K, D\), got \(4, 5\)"):
        orthogonal_loss(torch.zeros(4, 5))
