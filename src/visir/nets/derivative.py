"""Derivative modalities: images made from those of a base modality by light networks, for training with more of them.

Base-Derivative (ICPR 2020) trains visible and infrared images together with one derivative of each.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, nn

from visir.core.colours import DEVIATION, LUMA, MEAN
from visir.core.types import Modality

Kind = Literal["pointwise", "mmn", "gray"]


class PointwiseGenerator(nn.Module):
    """1x1 convolutions 3 -> 1 -> 3 with a ReLU between: ten parameters.

    It starts as the mean of the channels, cut below zero, which in normalised pixels is about medium grey.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = _pointwise(3, 1, 1 / 3), _pointwise(1, 3, 1.0)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W)."""
        result: Tensor = self.decode(self.encode(images).relu())
        return result


class GrayImage(nn.Module):
    """The luma of ImageNet-normalised images, normalised again; nothing to learn."""

    weight: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, deviation, luma = torch.tensor(MEAN), torch.tensor(DEVIATION), torch.tensor(LUMA)
        weight = (luma * deviation) / deviation[:, None]
        self.register_buffer("weight", weight[:, :, None, None], persistent=False)
        self.register_buffer("bias", (luma @ mean - mean) / deviation, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W)."""
        return nn.functional.conv2d(images, self.weight, self.bias)


class Derivatives(nn.Module):
    """The generators of one system, one for each base modality that has a derivative.

    Args:
        kind: ``pointwise``: :class:`PointwiseGenerator`, each base its own; ``mmn``: the generator of Zhang et al.,
            Towards a Unified Middle Modality Learning, ACM MM 2021 (an encoder of each base with two 1x1 convolutions
            and batch normalisation, one decoder for both); ``gray``: luma of visible images, infrared ones as they
            are, nothing to learn.
        origins: the base modalities.
    """

    def __init__(self, kind: Kind, origins: Collection[Modality]) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({_key(origin): _encoder(kind, origin) for origin in sorted(origins)})
        shared = kind == "mmn" and origins
        self.decoder = nn.Sequential(_pointwise(1, 3, 1 / 3), nn.ReLU()) if shared else nn.Identity()

    def forward(self, images: Tensor, origin: Modality) -> Tensor:
        """(B, 3, H, W) images of a base modality -> (B, 3, H, W), their derivatives."""
        result: Tensor = self.decoder(self.encoders[_key(origin)](images))
        return result


def _key(origin: Modality) -> str:
    return origin.name.lower()


def _encoder(kind: Kind, origin: Modality) -> nn.Module:
    if kind == "pointwise":
        return PointwiseGenerator()
    if kind == "mmn":
        first, second = _pointwise(3, 1, 1 / 3), _pointwise(1, 1, 1 / 3)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.BatchNorm2d(1))
    return GrayImage() if origin == Modality.VISIBLE else nn.Identity()


def _pointwise(inputs: int, outputs: int, weight: float) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, 1)
    nn.init.constant_(convolution.weight, weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
