"""Multistage feature aggregation: what a stage made of a map also gets to see the map it was made of.

DEEN (Zhang and Wang, Diverse Embedding Expansion Network and Low-Light Cross-Modality Benchmark for Visible-Infrared
Person Re-identification, CVPR 2023), section 3.4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Attention(nn.Module):
    """What both halves of the block share: queries of the high map, keys and values of the low one, a residual sum."""

    def __init__(self, low: int, high: int, width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(high, width, 1)
        self.key = nn.Conv2d(low, width, 1)
        self.value = nn.Conv2d(low, width, 1)
        self.out = nn.Conv2d(width, high, 1, bias=False)
        self.normalise = nn.BatchNorm2d(high)
        nn.init.zeros_(self.normalise.weight)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """(B, Cl, h, w) and (B, Ch, h, w) -> (B, Ch, h, w)."""
        query, key, value = (f(x).flatten(2) for f, x in ((self.query, high), (self.key, low), (self.value, low)))
        summed = self.attend(query, key, value)
        shape = (-1, summed.shape[1], *high.shape[2:])
        result: Tensor = high + self.normalise(self.out(summed.reshape(shape)))
        return result

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, c, n) each -> (B, c, n)."""
        raise NotImplementedError


class ChannelAttention(_Attention):
    """Channels by their likeness over all cells (eqs. 7 and 8)."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, c, n) each -> (B, c, n)."""
        return _compared(query, key, value)


class SpatialAttention(_Attention):
    """Cells by their likeness over all channels (eq. 9)."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, c, n) each -> (B, c, n)."""
        return _compared(*(t.transpose(1, 2) for t in (query, key, value))).transpose(1, 2)


class StageAggregation(nn.Module):
    """The map behind a stage, enriched with that before it: channel by channel, then cell by cell.

    The paper leaves open how a larger map before the stage meets the smaller one behind it (its cells are averaged
    here), how wide the comparison is, and its scale (products are divided by the root of their length, which the
    learnt projections can undo). What is added is batch-normalised with weight 0 at first, as in the non-local block
    that this one descends from: it starts as the identity, so that pretrained stages see what they know, and what it
    adds cannot grow without bound.

    Args:
        low: channels before the stage.
        high: channels behind it.
        squeeze: the comparison has high / squeeze channels (at least 1).
    """

    def __init__(self, low: int, high: int, *, squeeze: int = 16) -> None:
        super().__init__()
        width = max(1, high // squeeze)
        self.channels, self.cells = ChannelAttention(low, high, width), SpatialAttention(low, high, width)

    def forward(self, before: Tensor, behind: Tensor) -> Tensor:
        """(B, low, h', w') and (B, high, h, w) -> (B, high, h, w)."""
        before = _sized(before, behind.shape[2:])
        enriched: Tensor = self.cells(before, self.channels(before, behind))
        return enriched


def _compared(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention of rows over rows; plain, as the fused ones give other bits each time on GPUs."""
    likeness = query @ key.transpose(1, 2) / math.sqrt(query.shape[2])
    return likeness.softmax(2).to(value.dtype) @ value


def _sized(feature_map: Tensor, size: torch.Size) -> Tensor:
    """Means of cells; of equal blocks where they fit, whose gradient is the same bits each time on GPUs."""
    (height, width), (rows, columns) = feature_map.shape[2:], size
    if (height, width) == (rows, columns):
        return feature_map
    if height % rows == 0 and width % columns == 0:
        return functional.avg_pool2d(feature_map, (height // rows, width // columns))
    return functional.adaptive_avg_pool2d(feature_map, (rows, columns))
