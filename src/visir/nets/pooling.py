"""A map of features -> one vector: the mean, or the generalised mean."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Pooling = Literal["mean", "gem"]

FLOOR = 1e-6  # of what is raised to a power: its slope, and that of the root, stay finite


class MeanPool(nn.Module):
    """The mean over the cells."""

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C), in float32 where the map has 16 bits."""
        return _wide(feature_map).flatten(2).mean(2)


class GeMPool(nn.Module):
    """Generalised mean, ``(mean x^p)^(1/p)``: the mean at p = 1, towards the maximum as p grows.

    Radenovic et al., Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI 2019. Values below 1e-6 count as
    1e-6.

    Args:
        power: p, above 0.
    """

    def __init__(self, power: float = 3.0) -> None:
        super().__init__()
        if not power > 0:
            raise ValueError(f"power must be above 0, got {power}")
        self.power = power

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C), in float32 where the map has 16 bits.

        >>> GeMPool()(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2))
        tensor([[2.9240]])
        """
        raised = _wide(feature_map).flatten(2).clamp_min(FLOOR).pow(self.power)
        return raised.mean(2).pow(1 / self.power)


def pooling(kind: Pooling) -> nn.Module:
    """The pooling of this name: ``mean``, or ``gem`` with p = 3, which stays."""
    return GeMPool() if kind == "gem" else MeanPool()


def _wide(feature_map: Tensor) -> Tensor:
    """Powers and means of many cells are too much for 16 bits."""
    return feature_map.float() if feature_map.dtype in (torch.float16, torch.bfloat16) else feature_map
