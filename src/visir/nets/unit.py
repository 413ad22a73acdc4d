"""The networks of UNIT: an encoder and a decoder for each kind of picture around one space of codes, discriminators.

Liu, Breuel and Kautz, Unsupervised Image-to-Image Translation Networks, NIPS 2017, as its authors' code has them.
Pictures are in [-1, 1]; a picture of one kind is translated by the encoder of its kind and the decoder of the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from visir.core.errors import ConfigError
from visir.nets.image_blocks import ConvolutionBlock, Enlarge, ResidualBlock, start_weights

CELL = 4
"""Pixels on a side that one place of a code stands for: heights and widths of pictures are multiples of it."""

_STRIDES = 4  # of a discriminator, each of 2
_SMALLEST = (2, 1)  # map of scores


class UnitEncoder(nn.Module):
    """Pictures -> the means of their codes, a quarter as high and wide.

    Args:
        channels: of the pictures.
        width: channels of the first layer; a code has four times as many.
        blocks: residual blocks.

    >>> UnitEncoder(3, width=8)(torch.zeros(2, 3, 48, 24)).shape
    torch.Size([2, 32, 12, 6])
    """

    def __init__(self, channels: int, *, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.smaller = nn.Sequential(
            ConvolutionBlock(channels, width, 7),
            ConvolutionBlock(width, 2 * width, 4, 2),
            ConvolutionBlock(2 * width, 4 * width, 4, 2),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(4 * width) for _ in range(blocks)))
        start_weights(self)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, 4 * width, H / 4, W / 4)."""
        return self.blocks(self.smaller(pictures))  # type: ignore[no-any-return]


class UnitDecoder(nn.Module):
    """Codes -> pictures, in float32 where the codes have 16 bits.

    Args:
        channels: of the pictures.
        width: channels of the last hidden layer; a code has four times as many.
        blocks: residual blocks.

    >>> UnitDecoder(1, width=8)(torch.zeros(2, 32, 12, 6)).shape
    torch.Size([2, 1, 48, 24])
    """

    def __init__(self, channels: int, *, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(4 * width) for _ in range(blocks)))
        self.larger = nn.Sequential(
            Enlarge(),
            ConvolutionBlock(4 * width, 2 * width, 5, norm="layer"),
            Enlarge(),
            ConvolutionBlock(2 * width, width, 5, norm="layer"),
            ConvolutionBlock(width, channels, 7, norm="none", activation="none"),
        )
        start_weights(self)

    def forward(self, codes: Tensor) -> Tensor:
        """(B, 4 * width, h, w) -> (B, channels, 4h, 4w) in [-1, 1]."""
        drawn: Tensor = self.larger(self.blocks(codes))
        return (drawn.float() if drawn.dtype in (torch.float16, torch.bfloat16) else drawn).tanh()


def share_latent(encoders: Sequence[UnitEncoder], decoders: Sequence[UnitDecoder]) -> None:
    """Let the encoders have one common last residual block, and the decoders one common first, as UNIT describes it.

    The authors' code shares no weights. The networks are changed in place.
    """
    for encoder in encoders[1:]:
        encoder.blocks[-1] = encoders[0].blocks[-1]
    for decoder in decoders[1:]:
        decoder.blocks[0] = decoders[0].blocks[0]


class UnitDiscriminator(nn.Module):
    """Pictures -> maps of scores, one for each scale: how real a patch looks, in full, half and quarter resolution.

    Scales whose map would be smaller than 2x1 are left out; pictures of 256x128 have all three.

    Args:
        channels: of the pictures.
        image_size: (H, W) in pixels.
        width: channels of the first layer.
        scales: at most.

    Attributes:
        networks: one for each scale.

    Raises:
        ConfigError: pictures too small for a single scale.

    >>> [tuple(m.shape) for m in UnitDiscriminator(3, image_size=(96, 48), width=8)(torch.zeros(2, 3, 96, 48))]
    [(2, 1, 6, 3), (2, 1, 3, 1)]
    """

    def __init__(self, channels: int, *, image_size: tuple[int, int], width: int = 64, scales: int = 3) -> None:
        super().__init__()
        count = _usable(image_size, scales)
        if not count:
            least = "x".join(str(2**_STRIDES * n) for n in _SMALLEST)
            raise ConfigError(
                f"discriminator: expected pictures of at least {least} pixels, got {image_size[0]}x{image_size[1]}; "
                "set with.stream.height and with.stream.width."
            )
        self.networks = nn.ModuleList(_scorer(channels, width) for _ in range(count))
        self.shrink = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        start_weights(self, deviation=0.02)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """(B, channels, H, W) -> (B, 1, h, w) for each scale, the finest first."""
        scores = []
        for place, network in enumerate(self.networks):
            pictures = self.shrink(pictures) if place else pictures
            scores.append(network(pictures))
        return scores


def _scorer(channels: int, width: int) -> nn.Sequential:
    numbers = [channels, *(width * 2**i for i in range(_STRIDES))]
    layers: list[nn.Module] = [
        ConvolutionBlock(numbers[i], numbers[i + 1], 4, 2, norm="none", activation="leaky") for i in range(_STRIDES)
    ]
    return nn.Sequential(*layers, nn.Conv2d(numbers[-1], 1, 1))


def _usable(image_size: tuple[int, int], scales: int) -> int:
    """How many of the scales leave a map that is not too small."""
    height, width = image_size
    for scale in range(scales):
        if height >> _STRIDES < _SMALLEST[0] or width >> _STRIDES < _SMALLEST[1]:
            return scale
        height, width = (height + 1) // 2, (width + 1) // 2
    return scales
