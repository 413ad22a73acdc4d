"""The modality discriminator: its size."""

from __future__ import annotations

import torch
from torch import nn

from visir.nets.modality_discriminator import ModalityDiscriminator


def test_parameters() -> None:
    network = ModalityDiscriminator(2048)
    assert [tuple(m.weight.shape) for m in network if isinstance(m, nn.Linear)] == [(1000, 2048), (500, 1000), (2, 500)]
    assert sum(p.numel() for p in network.parameters()) == 2048 * 1000 + 1000 + 1000 * 500 + 500 + 500 * 2 + 2
    assert network(torch.zeros(3, 2048)).shape == (3, 2)


def test_layers_are_not_linear_together() -> None:
    network = ModalityDiscriminator(4)
    given = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    straight = network(given) + network(-given) - 2 * network(torch.zeros_like(given))
    assert straight.abs().max() > 1e-4
