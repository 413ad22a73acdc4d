"""The image networks of DG-Net: structure encoder, generator, discriminator at several scales.

Zheng, Yang, Yu, Zheng, Yang and Kautz, Joint Discriminative and Generative Learning for Person Re-identification, CVPR
2019. Pictures are ImageNet-normalised throughout, those that are made too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visir.core.errors import ConfigError
from visir.nets.adaptive import AdaptiveBlock, Slices, code_network, code_pieces
from visir.nets.image_blocks import ConvolutionBlock, Enlarge, ResidualBlock, start_weights

DOWN = 4  # the structure has a quarter of the rows and columns of the picture
PIECES = 4  # stripes of an appearance code, and blocks of the generator that take one piece each
BLOCKS = 4  # residual blocks of the structure encoder and of each discriminator
RATES = (3, 6, 9)  # dilations that the structure encoder looks with
SCALES = 3


def grey(images: Tensor) -> Tensor:
    """(B, 3, H, W) normalised -> (B, 1, H, W): the mean of the three channels, without colour."""
    return images.mean(dim=1, keepdim=True)


def appearance_code(feature_map: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, 4C): the maxima of four stripes, flattened; the stripes of a channel are neighbours.

    Where h is not a multiple of 4, stripes share a row, as in adaptive pooling (whose own gradient differs from run to
    run on GPUs).
    """
    rows = feature_map.shape[2]
    borders = [(stripe * rows // PIECES, -(-(stripe + 1) * rows // PIECES)) for stripe in range(PIECES)]
    maxima = [feature_map[:, :, top:bottom].amax(dim=(2, 3)) for top, bottom in borders]
    return torch.stack(maxima, dim=2).flatten(1)


def check_size(size: tuple[int, int]) -> None:
    """Raise ConfigError unless the structure of such pictures can be enlarged to their size, and padded."""
    if any(pixels % DOWN or pixels < 2 * DOWN for pixels in size):
        raise ConfigError(
            f"with.stream: DG-Net draws pictures whose height and width are multiples of {DOWN} and at least "
            f"{2 * DOWN} pixels, got {size[0]}x{size[1]}; the published size is 256x128."
        )


class DilatedViews(nn.Module):
    """The map seen from four distances side by side, without and with dilation, and mixed: C -> 2C channels.

    Args:
        channels: C.
        shortest: shorter side of the map; dilations stay below it, because they pad by reflection.
    """

    def __init__(self, channels: int, shortest: int) -> None:
        super().__init__()
        half = channels // 2
        near = ConvolutionBlock(channels, half, 1, activation="none")
        far = [
            nn.Sequential(
                ConvolutionBlock(channels, half, 1, activation="leaky"),
                ConvolutionBlock(half, half, 3, activation="none", dilation=min(rate, shortest - 1)),
            )
            for rate in RATES
        ]
        self.views = nn.ModuleList([near, *far])
        self.mix = ConvolutionBlock(4 * half, 2 * channels, 1, activation="none")

    def forward(self, structure: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 2C, h, w)."""
        mixed: Tensor = self.mix(torch.cat([view(structure) for view in self.views], dim=1))
        return mixed


class StructureEncoder(nn.Module):
    """Pose, outline, background, without colour: E_s.

    Args:
        width: channels of the first layer; published: 16.
        size: (H, W) of the pictures.

    Attributes:
        channels: of the structure: 8 * width.
    """

    def __init__(self, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        check_size(size)
        inner = 4 * width
        self.channels = 2 * inner
        self.layers = nn.Sequential(
            ConvolutionBlock(1, width, 3, 2, activation="leaky"),
            ConvolutionBlock(width, 2 * width, 3, activation="leaky"),
            ConvolutionBlock(2 * width, 2 * width, 3, activation="leaky"),
            ConvolutionBlock(2 * width, inner, 3, 2, activation="leaky"),
            *(ResidualBlock(inner, activation="leaky") for _ in range(BLOCKS)),
            DilatedViews(inner, min(size) // DOWN),
        )
        start_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, channels, H/4, W/4); it looks at the grey picture alone."""
        structure: Tensor = self.layers(grey(images))
        return structure


class Generator(nn.Module):
    """A picture of a structure with an appearance: G.

    Args:
        width: of the structure encoder.
        codes: C, channels of an appearance code, which has 4C numbers.
        slices: see :func:`visir.nets.adaptive.code_pieces`.
    """

    def __init__(self, width: int, codes: int, *, slices: Slices = "flat") -> None:
        super().__init__()
        self.slices = slices
        channels, hidden = 8 * width, 32 * width
        self.scales, self.shifts = (
            nn.ModuleList(code_network(codes, hidden, 2 * channels) for _ in range(PIECES)) for _ in range(2)
        )
        self.blocks = nn.ModuleList(AdaptiveBlock(channels) for _ in range(PIECES))
        self.paint = nn.Sequential(
            Enlarge(),
            ConvolutionBlock(channels, channels // 2, 5, norm="layer", activation="leaky"),
            Enlarge(),
            ConvolutionBlock(channels // 2, channels // 4, 5, norm="layer", activation="leaky"),
            ConvolutionBlock(channels // 4, channels // 4, 3, norm="none", activation="leaky"),
            ConvolutionBlock(channels // 4, channels // 4, 3, norm="none", activation="leaky"),
            ConvolutionBlock(channels // 4, 3, 1, norm="none", activation="none"),
        )
        start_weights(self)

    def forward(self, appearance: Tensor, structure: Tensor) -> Tensor:
        """(B, 4C) codes and (B, 8 * width, h, w) structures -> (B, 3, 4h, 4w) pictures, normalised, not bounded."""
        pieces = code_pieces(appearance, PIECES, slices=self.slices)
        for block, scale, shift, piece in zip(self.blocks, self.scales, self.shifts, pieces, strict=True):
            structure = block(structure, scale(piece), shift(piece))
        made: Tensor = self.paint(structure)
        return made


def _one_scale(width: int) -> nn.Sequential:
    """(B, 3, H, W) -> (B, 1, H/4, W/4), rounded up."""

    def layer(inputs: int, outputs: int, kernel: int, stride: int = 1) -> ConvolutionBlock:
        return ConvolutionBlock(inputs, outputs, kernel, stride, norm="none", activation="leaky")

    return nn.Sequential(
        layer(3, width, 1),
        layer(width, width, 3),
        layer(width, width, 3, 2),
        layer(width, width, 3),
        layer(width, 2 * width, 3, 2),
        *(ResidualBlock(2 * width, norm="none", activation="leaky") for _ in range(BLOCKS)),
        nn.Conv2d(2 * width, 1, 1),
    )


class ScaledDiscriminators(nn.Module):
    """Is it a real picture? Asked for every place of the picture, of half of it, and of a quarter: D.

    Args:
        width: of the structure encoder; the first layer has twice as many channels.
        size: (H, W) of the pictures. Scales whose map would have fewer than two rows or columns are left out.
    """

    def __init__(self, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        check_size(size)
        count = sum(-(-min(size) // (DOWN * 2**scale)) >= 2 for scale in range(SCALES))
        self.scales = nn.ModuleList(_one_scale(2 * width) for _ in range(count))
        self.halve = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        start_weights(self, deviation=0.02)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> scores (B, 1, H/4, W/4), (B, 1, H/8, W/8), ...; 1 is real, 0 is made."""
        scores = []
        for scale, network in enumerate(self.scales):
            images = self.halve(images) if scale else images
            scores.append(network(images))
        return scores
