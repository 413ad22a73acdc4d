"""Body parts as horizontal stripes: PCB (Sun et al., Beyond Part Models, ECCV 2018) with one shared reduction."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class PartReduction(nn.Module):
    """Stripe means of a feature map, each reduced by one shared 1x1 convolution and batch normalisation.

    No ReLU and no dropout: the features keep their sign.

    Args:
        channels: C of the feature map.
        parts: K, the number of equal horizontal stripes. Where the map's height is not a multiple of K,
            neighbouring stripes share a row.
        dim: d, the length of one part feature.
    """

    def __init__(self, channels: int, *, parts: int, dim: int) -> None:
        super().__init__()
        self.parts = parts
        self.reduce = nn.Conv2d(channels, dim, 1, bias=False)
        self.normalise = nn.BatchNorm1d(dim)  # over (B, d, K): on CPUs the 2-D one misreads gradients of (B, d, K, 1)
        nn.init.kaiming_normal_(self.reduce.weight, mode="fan_out")

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, K, d)."""
        stripes = functional.adaptive_avg_pool2d(feature_map, (self.parts, 1))
        reduced: Tensor = self.normalise(self.reduce(stripes).squeeze(3))
        return reduced.transpose(1, 2)


class PartClassifiers(nn.Module):
    """K linear classifiers without bias, one for each part; nothing is shared between them.

    Args:
        parts: K.
        dim: d, the length of one part feature.
        num_identities: C.

    Attributes:
        weight: (K, C, d), drawn from N(0, 0.001).
    """

    def __init__(self, *, parts: int, dim: int, num_identities: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(parts, num_identities, dim))
        nn.init.normal_(self.weight, std=0.001)

    def forward(self, parts: Tensor) -> Tensor:
        """(B, K, d) -> logits (B, K, C)."""
        return torch.einsum("bkd,kcd->bkc", parts, self.weight)
