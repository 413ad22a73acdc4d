"""Adaptive instance normalisation: a code decides the scale and shift of every channel of a picture.

Huang and Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV 2017; the
appearance code of DG-Net (Zheng et al., Joint Discriminative and Generative Learning for Person Re-identification,
CVPR 2019) is put into pictures in this way.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from visir.nets.image_blocks import ConvolutionBlock

Slices = Literal["flat", "stripe"]


def adaptive_norm(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Each channel of each image normalised over its places, then scaled and shifted.

    Args:
        images: (B, C, H, W) with at least two places.
        scale: (B, C); the deviation that a channel gets.
        shift: (B, C); its mean.

    >>> image = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    >>> adaptive_norm(image, torch.tensor([[2.0]]), torch.tensor([[0.5]])).round(decimals=3).flatten().tolist()
    [-1.5, 2.5]
    """
    return torch.addcmul(shift[:, :, None, None], nn.functional.instance_norm(images), scale[:, :, None, None])


class AdaptiveBlock(nn.Module):
    """A residual block of two 3x3 convolutions, each followed by adaptive instance normalisation.

    Args:
        channels: C, in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (
            ConvolutionBlock(channels, channels, 3, norm="none", activation="none") for _ in range(2)
        )
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """(B, C, H, W), (B, 2C) scales and shifts of the first and of the second convolution -> (B, C, H, W)."""
        scales, shifts = scale.chunk(2, dim=1), shift.chunk(2, dim=1)
        inner = self.activation(adaptive_norm(self.first(images), scales[0], shifts[0]))
        return images + adaptive_norm(self.second(inner), scales[1], shifts[1])


def code_network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Three layers from a piece of a code to the numbers of one block: (B, inputs) -> (B, outputs)."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, outputs),
    )


def code_pieces(code: Tensor, pieces: int, *, slices: Slices) -> tuple[Tensor, ...]:
    """A code cut into equal pieces, one for each block.

    Args:
        code: (B, C * pieces), the stripes (B, C, pieces) of a map, flattened: the stripes of a channel are neighbours.
        pieces: number of stripes and of blocks.
        slices: ``stripe``: a piece is one stripe of all channels. ``flat``, as in the released code of DG-Net: a piece
            is all stripes of a run of C / pieces channels.

    Returns:
        ``pieces`` tensors (B, C).

    >>> code = torch.tensor([[10, 11, 20, 21, 30, 31, 40, 41]])  # four channels, two stripes
    >>> [piece.tolist() for piece in code_pieces(code, 2, slices="flat")]
    [[[10, 11, 20, 21]], [[30, 31, 40, 41]]]
    >>> [piece.tolist() for piece in code_pieces(code, 2, slices="stripe")]
    [[[10, 20, 30, 40]], [[11, 21, 31, 41]]]
    """
    if slices == "flat":
        return code.chunk(pieces, dim=1)
    return code.view(len(code), -1, pieces).unbind(2)
