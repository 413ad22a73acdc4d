"""Diverse embedding expansion: a map of features -> several different ones of the same image.

DEEN (Zhang and Wang, Diverse Embedding Expansion Network and Low-Light Cross-Modality Benchmark for Visible-Infrared
Person Re-identification, CVPR 2023), section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class GeneratingBranch(nn.Module):
    """``W relu(sum_d V_d x)``: 3x3 convolutions of several dilations side by side, summed, and a 1x1 one (eq. 1).

    Args:
        channels: C of the map.
        squeeze: the 3x3 convolutions give C / squeeze channels (at least 1).
        dilations: one 3x3 convolution for each.
    """

    def __init__(self, channels: int, *, squeeze: int = 4, dilations: Sequence[int] = (1, 2, 3)) -> None:
        super().__init__()
        width = max(1, channels // squeeze)
        looks = [nn.Conv2d(channels, width, 3, padding=d, dilation=d, bias=False) for d in dilations]
        self.looks, self.out = nn.ModuleList(looks), nn.Conv2d(width, channels, 1, bias=False)
        for look in looks:  # what is made starts at the scale of the map
            nn.init.normal_(look.weight, std=math.sqrt(2 / (9 * channels * len(looks))))
        nn.init.normal_(self.out.weight, std=math.sqrt(1 / width))

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        summed = torch.stack([look(feature_map) for look in self.looks]).sum(0)
        made: Tensor = self.out(functional.relu(summed))
        return made


class DiverseExpansion(nn.Module):
    """The map itself and what generating branches make of it, one after the other along the batch.

    Args:
        channels: C of the map.
        branches: number of maps of each image, the original among them; at least 1.
        squeeze: see :class:`GeneratingBranch`.
    """

    def __init__(self, channels: int, *, branches: int = 3, squeeze: int = 4) -> None:
        super().__init__()
        self.generators = nn.ModuleList(GeneratingBranch(channels, squeeze=squeeze) for _ in range(branches - 1))

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) -> (branches * B, C, h, w): all originals first, then the first branch of all, and so on."""
        return torch.cat([feature_map, *(generator(feature_map) for generator in self.generators)])
