"""Channel exchange on normalised batches, against pictures that are exchanged before they are normalised."""

from __future__ import annotations

import torch

from visir.core.colours import DEVIATION, LUMA, MEAN
from visir.nets.channels import GREY, ChannelExchange


def normalised(pictures: torch.Tensor) -> torch.Tensor:
    mean, deviation = (torch.tensor(v, dtype=pictures.dtype).view(3, 1, 1) for v in (MEAN, DEVIATION))
    return (pictures - mean) / deviation


def test_equals_exchanging_before_normalising() -> None:
    pictures = torch.rand(4, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = ChannelExchange().double()(normalised(pictures), torch.tensor([0, 1, 2, GREY]))
    luma = (pictures[3] * torch.tensor(LUMA, dtype=torch.float64).view(3, 1, 1)).sum(0)
    for image, single in zip(found, (pictures[0, 0], pictures[1, 1], pictures[2, 2], luma), strict=True):
        torch.testing.assert_close(image, normalised(single.expand(3, 5, 4)), atol=1e-6, rtol=1e-6)


def test_images_with_equal_channels_stay_as_they_are() -> None:
    infrared = normalised(torch.rand(4, 1, 5, 4).expand(4, 3, 5, 4))
    torch.testing.assert_close(ChannelExchange()(infrared, torch.arange(4)), infrared, atol=1e-5, rtol=1e-5)


def test_has_nothing_to_learn_or_to_save() -> None:
    exchange = ChannelExchange()
    assert not list(exchange.parameters())
    assert not exchange.state_dict()
