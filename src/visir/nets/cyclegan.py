"""The two networks of CycleGAN: a residual generator and a discriminator of overlapping patches.

Zhu, Park, Isola and Efros, Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, ICCV 2017:
the generator of Johnson et al. (ECCV 2016) with instance normalisation, the 70x70 PatchGAN of pix2pix.
"""

from __future__ import annotations

from torch import nn

from visir.core.errors import ConfigError
from visir.nets.image_blocks import ConvolutionBlock, ResidualBlock, norm_layer, start_weights, still_bias

DEVIATION = 0.02  # of initial weights


class ResidualGenerator(nn.Sequential):
    """Images in [-1, 1] -> images of the same size in [-1, 1]: (B, 3, H, W) -> (B, 3, H, W).

    Two steps down to a quarter of the size, residual blocks, and two transposed convolutions back up. Height and width
    are multiples of 4 (a transposed convolution cannot give back an odd row) of at least 8 pixels.

    Args:
        width: channels of the first layer; the residual blocks have four times as many.
        blocks: number of residual blocks; 9 for pictures of 256 pixels, 6 for 128.

    >>> import torch
    >>> ResidualGenerator(width=4, blocks=1)(torch.zeros(1, 3, 16, 8)).shape
    torch.Size([1, 3, 16, 8])
    """

    def __init__(self, *, width: int = 64, blocks: int = 9) -> None:
        super().__init__(
            ConvolutionBlock(3, width, 7),
            ConvolutionBlock(width, 2 * width, 3, 2, padding="zeros"),
            ConvolutionBlock(2 * width, 4 * width, 3, 2, padding="zeros"),
            *(ResidualBlock(4 * width) for _ in range(blocks)),
            _Doubling(4 * width, 2 * width),
            _Doubling(2 * width, width),
            ConvolutionBlock(width, 3, 7, norm="none", activation="tanh"),
        )
        start_weights(self, deviation=DEVIATION)


class _Doubling(nn.Sequential):
    """(B, inputs, H, W) -> (B, outputs, 2H, 2W) by a transposed convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        convolution = nn.ConvTranspose2d(inputs, outputs, 3, 2, padding=1, output_padding=1)
        super().__init__(convolution, norm_layer("instance", outputs), nn.ReLU())
        still_bias(convolution, self[1])


class PatchDiscriminator(nn.Sequential):
    """Images in [-1, 1] -> a score for each patch: (B, 3, H, W) -> (B, 1, h, w), one for what looks real.

    As published there are three steps down, so that a score sees 70x70 pixels and a picture of 256x256 has 30x30. Small
    pictures get as many steps as leave a map of at least 2x1; 48x24 still has all of them.

    Args:
        image_size: (H, W) of the pictures, which the number of steps depends on.
        width: channels of the first layer; each step doubles them, up to eight times.
        steps: of stride 2, as published.

    Raises:
        ConfigError: pictures below 8x6 pixels.

    >>> import torch
    >>> PatchDiscriminator((48, 24), width=4)(torch.zeros(1, 3, 48, 24)).shape
    torch.Size([1, 1, 4, 1])
    """

    def __init__(self, image_size: tuple[int, int], *, width: int = 64, steps: int = 3) -> None:
        height, wide = image_size
        while steps and (
            (height >> steps) < 4 or (wide >> steps) < 3
        ):  # the two last layers take a row and a column each
            steps -= 1
        if not steps:
            raise ConfigError(f"a discriminator of patches needs pictures of at least 8x6 pixels, got {height}x{wide}.")
        channels = [min(2**step, 8) * width for step in range(steps + 1)]
        super().__init__(
            ConvolutionBlock(3, width, 4, 2, norm="none", activation="leaky", padding="zeros"),
            *(
                ConvolutionBlock(inputs, outputs, 4, stride, activation="leaky", padding="zeros")
                for inputs, outputs, stride in zip(channels[:-1], channels[1:], [2] * (steps - 1) + [1], strict=True)
            ),
            ConvolutionBlock(channels[-1], 1, 4, norm="none", activation="none", padding="zeros"),
        )
        start_weights(self, deviation=DEVIATION)
