"""Images go to the branch of their modality, whatever their order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visir.nets.routing import by_modality


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visible, self.infrared = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, images: torch.Tensor, modality: torch.Tensor) -> torch.Tensor:
        return by_modality(self.visible, self.infrared, images, modality, training=self.training)


@pytest.mark.parametrize("modality", [[0, 1, 1, 0, 1], [0, 0], [1, 1, 1], [1, 0]])
def test_rows_keep_their_places(modality: list[int]) -> None:
    torch.manual_seed(0)
    two, images = Two().eval(), torch.randn(len(modality), 3)
    expected = torch.stack([(two.infrared if m else two.visible)(x) for x, m in zip(images, modality, strict=True)])
    torch.testing.assert_close(two(images, torch.tensor(modality)), expected)


def test_training_takes_the_halves_and_export_takes_any_order() -> None:
    torch.manual_seed(0)
    two, images = Two(), torch.randn(4, 3)
    halves, mixed = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, 1, 0])
    torch.testing.assert_close(two.train()(images, halves), two.eval()(images, halves))
    rows = torch.export.Dim("rows", min=2, max=64)
    exported = torch.export.export(two, (images, halves), dynamic_shapes=({0: rows}, {0: rows})).module()
    torch.testing.assert_close(exported(images, mixed), two(images, mixed))
    three = images[:3]
    torch.testing.assert_close(exported(three, mixed[:3]), two(three, mixed[:3]))
