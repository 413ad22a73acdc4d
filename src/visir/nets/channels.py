"""Colour-irrelevant copies of colour images: one channel in the place of all three, or the grey image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visir.core.colours import DEVIATION, LUMA, MEAN

GREY = 3  # the choice behind the three channels


class ChannelExchange(nn.Module):
    """Every image with one of its channels, or its luma, in all three channels; nothing to learn.

    The channel-exchangeable augmentation of CAJ (Ye et al., Channel Augmented Joint Learning for Visible-Infrared
    Recognition, ICCV 2021), for batches that are normalised already.
    """

    mean: Tensor
    deviation: Tensor
    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)
        self.register_buffer("weights", torch.tensor(((1, 0, 0), (0, 1, 0), (0, 0, 1), LUMA)), persistent=False)

    def forward(self, images: Tensor, choice: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W), normalised as before; infrared images stay as they are.

        Args:
            images: ImageNet-normalised.
            choice: (B,) int64: 0, 1 or 2 for red, green or blue, 3 for the luma of ITU-R BT.601.

        >>> white = (1 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
        >>> copy = ChannelExchange()(white.view(1, 3, 1, 1), torch.tensor([1]))
        >>> torch.allclose(copy.flatten(), white)
        True
        """
        weights = self.weights[choice][:, :, None, None]
        single = ((images * self.deviation + self.mean) * weights).sum(1, keepdim=True)
        exchanged: Tensor = (single - self.mean) / self.deviation
        return exchanged
