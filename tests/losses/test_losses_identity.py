"""Identity loss against worked numbers and a loop."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from loss_contract import Arguments, LossContract, drawn
from torch import Tensor

from visir.core.errors import TrainingError
from visir.losses.identity import identity_loss


def slow_identity(logits: Tensor, identities: Tensor) -> float:
    total = 0.0
    for image, identity in zip(logits.tolist(), identities.tolist(), strict=True):
        for part in image:
            total -= math.log(math.exp(part[identity]) / sum(math.exp(value) for value in part))
    return total / len(identities)


class TestIdentityLoss(LossContract):
    loss = staticmethod(identity_loss)

    def example(self) -> Arguments:
        return drawn(5, 3, 4), torch.tensor([0, 3, 1, 3, 2])

    def bad(self) -> list[Arguments]:
        labels = torch.zeros(5, dtype=torch.int64)
        return [
            (drawn(5), labels),
            (drawn(4, 3, 4), labels),
            (drawn(5, 2, 3, 4), labels),
            (drawn(5, 4), labels[None]),
            (drawn(0, 3, 4), labels[:0]),
        ]

    def degenerate(self) -> list[Arguments]:
        one = torch.zeros(1, dtype=torch.int64)
        return [
            (torch.zeros(1, 2, 1, requires_grad=True), one),
            (torch.full((1, 2, 3), 1e4, requires_grad=True), one),
            (torch.tensor([[[-1e4, 1e4, 0.0]]], requires_grad=True), one),
        ]

    def test_equals_the_loop(self) -> None:
        logits, identities = self.example()
        assert identity_loss(logits, identities).item() == pytest.approx(slow_identity(logits, identities), abs=1e-12)

    def test_one_classifier_is_one_part(self) -> None:
        logits, identities = self.example()
        single = identity_loss(logits[:, 0], identities)
        torch.testing.assert_close(single, identity_loss(logits[:, :1], identities))

    def test_names_of_identities_do_not_matter(self) -> None:
        logits, identities = self.example()
        renamed = torch.tensor([2, 0, 3, 1])  # identity i becomes renamed[i]
        torch.testing.assert_close(
            identity_loss(logits[..., renamed.argsort()], renamed[identities]), identity_loss(logits, identities)
        )


def test_worked_example() -> None:
    identities = torch.tensor([0])
    visible = identity_loss(torch.tensor([[[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]), identities)
    infrared = identity_loss(torch.tensor([[[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]), identities)
    assert visible.item() == pytest.approx(1.338157, abs=1e-6)
    assert infrared.item() == pytest.approx(1.960607, abs=1e-6)
    assert (visible + infrared).item() == pytest.approx(3.298764, abs=1e-6)


@pytest.mark.parametrize(("num_identities", "expected"), [(206, 63.93), (296, 68.28), (395, 71.75)])
def test_uniform_logits_of_both_spectra(num_identities: int, expected: float) -> None:
    logits, identities = torch.full((7, 6, num_identities), 0.3), torch.arange(7)
    total = identity_loss(logits, identities) + identity_loss(logits, identities)
    assert total.item() == pytest.approx(2 * 6 * math.log(num_identities), rel=1e-5)
    assert total.item() == pytest.approx(expected, abs=0.01)


def slow_smoothed(logits: Tensor, identities: Tensor, smoothing: list[float]) -> float:
    total, count = 0.0, logits.shape[-1]
    for image, identity, epsilon in zip(logits.tolist(), identities.tolist(), smoothing, strict=True):
        for part in image:
            whole = sum(math.exp(value) for value in part)
            for name, value in enumerate(part):
                target = epsilon / count + (1 - epsilon) * (name == identity)
                total -= target * math.log(math.exp(value) / whole)
    return total / len(identities)


class TestSmoothedIdentityLoss(TestIdentityLoss):
    loss = staticmethod(partial(identity_loss, smoothing=0.1))

    def test_equals_the_loop(self) -> None:
        logits, identities = self.example()
        each = [0.0, 0.1, 0.3, 1.0, 0.05]
        found = identity_loss(logits, identities, smoothing=torch.tensor(each, dtype=torch.float64))
        assert found.item() == pytest.approx(slow_smoothed(logits, identities, each), abs=1e-12)
        assert self.loss(logits, identities).item() == pytest.approx(slow_smoothed(logits, identities, [0.1] * 5))

    def test_one_classifier_is_one_part(self) -> None:
        logits, identities = self.example()
        for smoothing in (0.1, torch.linspace(0, 1, 5, dtype=torch.float64)):
            single = identity_loss(logits[:, 0], identities, smoothing=smoothing)
            torch.testing.assert_close(single, identity_loss(logits[:, :1], identities, smoothing=smoothing))

    def test_nothing_smoothed_is_the_plain_loss(self) -> None:
        logits, identities = self.example()
        for nothing in (0.0, torch.zeros(5, dtype=torch.float64)):
            torch.testing.assert_close(
                identity_loss(logits, identities, smoothing=nothing), identity_loss(logits, identities)
            )


def test_worked_example_of_smoothing() -> None:
    logits, identity = torch.tensor([[2.0, 0.0, 0.0, 0.0]]), torch.tensor([0])
    assert identity_loss(logits, identity).item() == pytest.approx(0.340753, abs=1e-6)
    for smoothing in (0.1, torch.tensor([0.1])):
        assert identity_loss(logits, identity, smoothing=smoothing).item() == pytest.approx(0.490753, abs=1e-6)


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, math.nan, torch.zeros(3), torch.zeros(2, 1)], ids=str)
def test_impossible_smoothing_is_refused(smoothing: float | Tensor) -> None:
    with pytest.raises(TrainingError, match="identity_loss: expected a smoothing"):
        identity_loss(torch.zeros(2, 4), torch.tensor([0, 1]), smoothing=smoothing)
