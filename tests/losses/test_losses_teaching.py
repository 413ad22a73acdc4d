"""What the teacher says, against worked numbers and a loop."""

from __future__ import annotations

import math

import pytest
import torch
from loss_contract import Arguments, LossContract, drawn
from torch import Tensor

from visir.core.errors import TrainingError
from visir.losses.teaching import mean_softmax, teaching_loss


def slow_divergence(logits: Tensor, taught: Tensor) -> float:
    total = 0.0
    for row, wanted in zip(logits.tolist(), taught.tolist(), strict=True):
        norm = sum(map(math.exp, row))
        for logit, q in zip(row, wanted, strict=True):
            total += q * (math.log(q) - (logit - math.log(norm))) if q else 0.0
    return total / len(logits)


class TestTeachingLoss(LossContract):
    loss = staticmethod(teaching_loss)

    def example(self) -> Arguments:
        return drawn(4, 5), drawn(4, 5, seed=1).detach().softmax(dim=1)

    def bad(self) -> list[Arguments]:
        return [
            (drawn(4, 5), drawn(4, 6)),
            (drawn(4, 5), drawn(3, 5)),
            (drawn(4), drawn(4)),
            (drawn(0, 5), drawn(0, 5)),
        ]

    def degenerate(self) -> list[Arguments]:
        certain = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        return [(torch.tensor([[90.0, -90.0], [90.0, -90.0]], requires_grad=True), certain), (drawn(1, 1), drawn(1, 1))]

    def test_equals_the_loop(self) -> None:
        logits, taught = self.example()
        assert teaching_loss(logits, taught).item() == pytest.approx(slow_divergence(logits, taught), rel=1e-12)

    def test_a_teacher_may_exclude_an_identity(self) -> None:
        logits, taught = drawn(2, 3), torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]], dtype=torch.float64)
        assert teaching_loss(logits, taught).item() == pytest.approx(slow_divergence(logits, taught), rel=1e-12)

    def test_student_that_agrees_pays_nothing(self) -> None:
        logits = drawn(3, 4)
        assert teaching_loss(logits, logits.detach().softmax(dim=1)).item() == pytest.approx(0, abs=1e-12)


def test_worked_example_and_its_reverse() -> None:
    q, p = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.5, 0.3, 0.2]])
    assert teaching_loss(p.log(), q).item() == pytest.approx(0.085123, abs=1e-6)
    assert teaching_loss(q.log(), p).item() == pytest.approx(0.092033, abs=1e-6)  # what the slides print


def test_views_are_averaged_as_probabilities() -> None:
    one, other = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5]]).log()
    torch.testing.assert_close(mean_softmax([one, other + 3]), torch.tensor([[0.7, 0.3]]))


@pytest.mark.parametrize("views", [[], [torch.zeros(2, 3), torch.zeros(2, 4)]], ids=["none", "unlike"])
def test_views_of_different_shapes_are_refused(views: list[Tensor]) -> None:
    with pytest.raises(TrainingError, match="expected logits of one shape"):
        mean_softmax(views)
