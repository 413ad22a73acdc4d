"""Multistage feature aggregation: the identity at first, attention over channels and cells as a loop computes it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from visir.nets.aggregation import ChannelAttention, SpatialAttention, StageAggregation


def awake(module: torch.nn.Module) -> torch.nn.Module:
    """With weights of the normalisation that are not zero, in evaluation."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.weight)
    return module.double().eval()


def slow_attention(rows: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Softmax attention of every row over all keys, one number at a time."""
    result = torch.zeros_like(rows)
    for i, row in enumerate(rows.tolist()):
        likeness = [sum(a * b for a, b in zip(row, key, strict=True)) / math.sqrt(len(row)) for key in keys.tolist()]
        weights = [math.exp(value - max(likeness)) for value in likeness]
        for weight, value in zip(weights, values, strict=True):
            result[i] += weight / sum(weights) * value
    return result


@pytest.mark.parametrize("kind", [ChannelAttention, SpatialAttention])
def test_attention_equals_the_loop(kind: type[ChannelAttention | SpatialAttention]) -> None:
    torch.manual_seed(0)
    block = awake(kind(3, 6, 4))
    low, high = (torch.randn(2, c, 3, 2, dtype=torch.float64) for c in (3, 6))
    found = block(low, high)
    for image in range(2):
        rows, keys, values = (
            f(x[image : image + 1]).flatten(2)[0]
            for f, x in ((block.query, high), (block.key, low), (block.value, low))
        )
        if kind is SpatialAttention:
            summed = slow_attention(rows.T, keys.T, values.T).T
        else:
            summed = slow_attention(rows, keys, values)
        expected = high[image] + block.normalise(block.out(summed.view(1, 4, 3, 2)))[0]
        torch.testing.assert_close(found[image], expected)


@pytest.mark.parametrize("before", [(8, 6), (4, 3), (7, 5)], ids=str)
def test_starts_as_the_identity_whatever_the_size_of_the_map_before(before: tuple[int, int]) -> None:
    block, low, high = StageAggregation(8, 32), torch.randn(2, 8, *before), torch.randn(2, 32, 4, 3)
    torch.testing.assert_close(block(low, high), high)
    changed = awake(block)(low.double(), high.double())
    assert changed.shape == high.shape
    assert not torch.allclose(changed, high.double())


def test_both_maps_get_a_gradient() -> None:
    block = awake(StageAggregation(4, 16, squeeze=4))
    low, high = (torch.randn(2, c, 4, 2, dtype=torch.float64, requires_grad=True) for c in (4, 16))
    block(low, high).square().sum().backward()
    assert low.grad is not None
    assert high.grad is not None
    assert (low.grad.abs() > 0).all()
    assert (high.grad.abs() > 0).all()


def test_size_around_the_fourth_stage_of_a_resnet_50() -> None:
    with torch.device("meta"):
        block = StageAggregation(1024, 2048)
    width = 128
    projections = 2048 * width + 2 * 1024 * width + width * 2048
    assert sum(p.numel() for p in block.parameters()) == 2 * (projections + 3 * width + 2 * 2048)
