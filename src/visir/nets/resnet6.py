"""ResNet-6 and its grey input: the network of the first visible-infrared benchmark.

Wu, Zheng, Yu, Gong and Lai, RGB-Infrared Cross-Modality Person Re-Identification, ICCV 2017.
"""

from __future__ import annotations

from pathlib import Path

import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from visir.core.colours import DEVIATION, LUMA, MEAN
from visir.core.errors import CheckpointError
from visir.nets.backbones import Backbone, backbone, load_weights

RESNET6 = "resnet6"


class Luma(nn.Module):
    """ImageNet-normalised images as grey ones with black at 0 and white at 1.

    Taking the normalisation back and weighing the colours are both linear, so they are one step here. An infrared image
    has three equal channels, and any of them is its luma.
    """

    weight: Tensor
    black: Tensor

    def __init__(self) -> None:
        super().__init__()
        luma = torch.tensor(LUMA)
        self.register_buffer("weight", (luma * torch.tensor(DEVIATION)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("black", (luma * torch.tensor(MEAN)).sum(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1, H, W)."""
        return (images * self.weight).sum(1, keepdim=True) + self.black


def zero_padded(grey: Tensor, modality: Tensor) -> Tensor:
    """A channel for each spectrum, of which an image fills its own; the other is black (Wu et al., section 4).

    Args:
        grey: (B, 1, H, W).
        modality: (B,) int64, 0 for visible, 1 for infrared.

    Returns:
        (B, 2, H, W): ``[grey, 0]`` where visible, ``[0, grey]`` where infrared.

    >>> zero_padded(torch.full((2, 1, 1, 1), 0.5), torch.tensor([0, 1])).flatten(1).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    infrared = (modality == 1).view(-1, 1, 1, 1)
    black = torch.zeros_like(grey)
    return torch.cat([torch.where(infrared, black, grey), torch.where(infrared, grey, black)], dim=1)


def grey_backbone(name: str, *, weights: str, image_size: tuple[int, int], in_channels: int) -> Backbone:
    """``resnet6``, or any network of :func:`visir.nets.backbones.backbone`, for images of one or two channels.

    ResNet-6 is a stem (7x7 convolution of stride 2, pooling of stride 2) and one basic block a stage with 64, 128, 256
    and 512 channels; the last three halve the map. It gives 7x7 cells of a 224x224 image.

    Args:
        name: ``resnet6``, ``tiny`` or any name of timm.
        weights: ``scratch``, ``imagenet`` (not for ResNet-6), or the path of a safetensors file.
        image_size: (H, W) in pixels.
        in_channels: of the images.

    Raises:
        ConfigError: an unknown name, or a network that gives no map for this size.
        CheckpointError: weights that cannot be had or do not fit.

    >>> grey_backbone("resnet6", weights="scratch", image_size=(224, 224), in_channels=2).grid
    (7, 7)
    """
    if name != RESNET6:
        return backbone(name, weights=weights, image_size=image_size, in_channels=in_channels)
    if weights == "imagenet":
        raise CheckpointError(f"backbone {RESNET6!r}: there are no ImageNet weights of it; train it from scratch.")
    trunk = ResNet(BasicBlock, [1, 1, 1, 1], 0, in_channels, zero_init_last=False)
    if weights != "scratch":
        load_weights(trunk, name, Path(weights))
    return Backbone(trunk, image_size, in_channels)
