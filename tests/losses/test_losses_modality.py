"""The modality loss against worked numbers."""

from __future__ import annotations

import math

import pytest
import torch
from loss_contract import Arguments, LossContract, drawn

from visir.losses.modality import modality_loss

SPECTRA = torch.tensor([0, 0, 1, 1, 1])


class TestModalityLoss(LossContract):
    loss = staticmethod(modality_loss)

    def example(self) -> Arguments:
        return drawn(5, 2), SPECTRA

    def bad(self) -> list[Arguments]:
        return [(drawn(5, 3), SPECTRA), (drawn(5, 2), SPECTRA[:4]), (drawn(5), SPECTRA), (drawn(0, 2), SPECTRA[:0])]

    def degenerate(self) -> list[Arguments]:
        return [(torch.zeros(5, 2, requires_grad=True), SPECTRA), (drawn(1, 2), SPECTRA[:1])]

    def test_equals_the_loop(self) -> None:
        logits, modality = self.example()
        terms = [
            math.log(sum(math.exp(value) for value in row)) - row[own]
            for row, own in zip(logits.tolist(), modality.tolist(), strict=True)
        ]
        assert modality_loss(logits, modality).item() == pytest.approx(sum(terms) / 5)


def test_worked_example() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), 0.0]])  # visible at three to one
    assert modality_loss(logits, torch.tensor([0, 0])).item() == pytest.approx(math.log(4 / 3))
    assert modality_loss(logits, torch.tensor([1, 1])).item() == pytest.approx(math.log(4))
