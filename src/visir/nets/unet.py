"""A U-Net with two codes at its bottom, of which one says who is seen and the other everything else.

Ronneberger, Fischer and Brox, U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015, whose
initial weights these are; the two codes are a reading of the "modified U-Net" of Approach 0 (slides of 25 May 2020),
whose figure is lost. The parts stand apart, so that a deployed encoder has only the way down and one code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from visir.nets.image_blocks import ConvolutionBlock, start_weights


def _convolution(inputs: int, outputs: int) -> ConvolutionBlock:
    return ConvolutionBlock(inputs, outputs, 3, norm="batch", padding="zeros")


class WayDown(nn.Module):
    """Images -> maps of five scales, each half as high and wide as the one before.

    Args:
        width: channels of the first map; the others have 2, 4, 8 and 8 times as many.

    Attributes:
        channels: of the five maps.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = (width, 2 * width, 4 * width, 8 * width, 8 * width)
        self.scales = nn.ModuleList(
            nn.Sequential(_convolution(inputs, outputs), _convolution(outputs, outputs))
            for inputs, outputs in zip((3, *self.channels), self.channels, strict=False)
        )
        start_weights(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> five maps, (B, width, H, W) to (B, 8 width, H / 16, W / 16), rounded up."""
        maps: list[Tensor] = []
        for scale in self.scales:
            maps.append(scale(functional.max_pool2d(maps[-1], 2, ceil_mode=True) if maps else images))
        return maps


class CodeHead(nn.Sequential):
    """The last map of :class:`WayDown` -> one code: (B, 8 width, h, w) -> (B, 4 width, h, w), at least 0."""

    def __init__(self, width: int) -> None:
        super().__init__(_convolution(8 * width, 4 * width))
        start_weights(self)


class WayUp(nn.Module):
    """Both codes -> an image.

    Args:
        width: as of :class:`WayDown`.
        skips: whether the maps of the way down are looked at again on the way up.
    """

    def __init__(self, width: int, *, skips: bool) -> None:
        super().__init__()
        self.skips = skips
        channels = (8 * width, 4 * width, 2 * width, width)  # that come from below, and as many by a skip
        self.scales = nn.ModuleList(
            nn.Sequential(_convolution((1 + skips) * inputs, outputs), _convolution(outputs, outputs))
            for inputs, outputs in zip(channels, (*channels[1:], width), strict=True)
        )
        self.picture = nn.Conv2d(width, 3, 1)
        start_weights(self)

    def forward(self, identity: Tensor, rest: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Two codes -> images (B, 3, H, W) in [-1, 1].

        Args:
            identity: (B, 4 width, h, w).
            rest: (B, 4 width, h, w).
            maps: of the way down, of the image that gave ``rest``: those of the image that gave ``identity`` would hand
                its pixels over. Without skips only their sizes count.
        """
        image = torch.cat([identity, rest], 1)
        for scale, skipped in zip(self.scales, reversed(maps[:-1]), strict=True):
            image = functional.interpolate(image, skipped.shape[2:], mode="bilinear", align_corners=False)
            image = scale(torch.cat([image, skipped], 1) if self.skips else image)
        painted: Tensor = self.picture(image)
        return painted.tanh()
