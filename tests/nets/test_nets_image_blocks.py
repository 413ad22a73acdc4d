"""Blocks of image networks: which biases are trained, and that the others would change nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visir.nets.aligngan import ImageDiscriminator, ImageTranslator
from visir.nets.image_blocks import ConvolutionBlock, Norm, ResidualBlock, start_weights, still_bias
from visir.nets.unet import WayDown
from visir.nets.unit import UnitDecoder, UnitDiscriminator, UnitEncoder


@pytest.mark.parametrize(("norm", "trained"), [("none", True), ("layer", True), ("instance", False), ("batch", False)])
def test_a_bias_is_trained_where_it_changes_anything(norm: Norm, trained: bool) -> None:
    torch.manual_seed(0)
    block, images = ConvolutionBlock(3, 4, 3, norm=norm).double(), torch.randn(2, 3, 8, 6, dtype=torch.float64)
    bias = block[0].bias
    assert bias.requires_grad is trained
    assert bool(bias.any()) is trained
    before = block(images)
    nn.init.normal_(bias)
    assert torch.allclose(block(images), before) is not trained


def test_starting_anew_leaves_still_biases_still() -> None:
    block = ResidualBlock(4)
    start_weights(block)
    assert [name for name, p in block.named_parameters() if p.requires_grad] == ["body.0.0.weight", "body.1.0.weight"]
    assert sum(p.numel() for p in block.parameters()) == 2 * (4 * 4 * 9 + 4), "the published number is not changed"


def test_a_convolution_without_bias_has_none_to_still() -> None:
    still_bias(nn.ConvTranspose2d(2, 2, 3, bias=False), nn.InstanceNorm2d(2))


@pytest.mark.parametrize(
    ("network", "trained"),
    [
        (UnitEncoder(3, width=2), 0),
        (UnitDecoder(3, width=2), 3 + 2),  # of the last three convolutions, and of the two layer norms
        (UnitDiscriminator(1, image_size=(64, 32), width=2), 2 * 5),
        (ImageTranslator(2, 1), 1),
        (ImageDiscriminator((32, 32), 2), 1),
        (WayDown(2), 10),  # of the batch norms
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_trained_biases_of_each_network(network: nn.Module, trained: int) -> None:
    assert sum(p.requires_grad for name, p in network.named_parameters() if name.endswith("bias")) == trained
