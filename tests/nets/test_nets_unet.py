"""The U-Net with two codes: shapes and parameters at full size, where skips come from, any size of picture."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from visir.nets.unet import CodeHead, WayDown, WayUp


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def block(inputs: int, outputs: int) -> int:
    """Parameters of a 3x3 convolution with bias, batch-normalised."""
    return 9 * inputs * outputs + outputs + 2 * outputs


def shapes(maps: list[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(one.shape[1:]) for one in maps]


def test_maps_at_full_size() -> None:
    with torch.device("meta"):
        down, head, up = WayDown(64), CodeHead(64), WayUp(64, skips=True)
        maps = down(torch.empty(2, 3, 256, 128))
        code = head(maps[-1])
        painted = up(code, code, maps)
    assert shapes(maps) == [(64, 256, 128), (128, 128, 64), (256, 64, 32), (512, 32, 16), (512, 16, 8)]
    assert down.channels == (64, 128, 256, 512, 512)
    assert tuple(code.shape) == (2, 256, 16, 8)
    assert tuple(painted.shape) == (2, 3, 256, 128)


def test_parameters_at_full_size() -> None:
    with torch.device("meta"):
        down, head = WayDown(64), CodeHead(64)
        up, alone = WayUp(64, skips=True), WayUp(64, skips=False)
    channels = (3, 64, 128, 256, 512, 512)
    expected = sum(block(a, b) + block(b, b) for a, b in itertools.pairwise(channels))
    assert count(down) == expected
    assert count(head) == block(512, 256)
    outputs = (256, 128, 64, 64)
    steps = [(512, 256), (256, 128), (128, 64), (64, 64)]
    picture = 64 * 3 + 3
    assert count(up) == sum(block(2 * a, b) + block(b, b) for a, b in steps) + picture
    assert count(alone) == sum(block(a, b) + block(b, b) for a, b in steps) + picture
    assert [scale[1][0].out_channels for scale in up.scales] == list(outputs)


@pytest.mark.parametrize(("height", "width"), [(48, 24), (96, 48), (33, 17)])
@pytest.mark.parametrize("skips", [True, False])
def test_pictures_of_any_size(height: int, width: int, skips: bool) -> None:
    down, head, up = WayDown(4), CodeHead(4), WayUp(4, skips=skips)
    maps = down(torch.randn(2, 3, height, width))
    assert maps[-1].shape[3] > 1  # BatchNorm on maps of one column is not right on CPUs
    code = head(maps[-1])
    painted = up(code, code, maps)
    assert painted.shape == (2, 3, height, width)
    assert float(painted.detach().abs().max()) <= 1
    assert (code >= 0).all()


def test_scales_are_the_largest_of_four() -> None:
    down = WayDown(2).eval()
    images = torch.randn(1, 3, 16, 16)
    maps = down(images)
    halved = maps[0].unflatten(2, (8, 2)).unflatten(4, (8, 2)).amax((3, 5))
    torch.testing.assert_close(maps[1], down.scales[1](halved))


@pytest.mark.parametrize("skips", [True, False])
def test_maps_are_looked_at_only_as_skips(skips: bool) -> None:
    torch.manual_seed(0)
    down, up = WayDown(4).eval(), WayUp(4, skips=skips).eval()
    maps = [m.detach().requires_grad_() for m in down(torch.randn(2, 3, 48, 24))]
    identity, rest = (torch.rand(2, 16, 3, 2, requires_grad=True) for _ in range(2))
    up(identity, rest, maps).square().sum().backward()
    assert [m.grad is not None for m in maps] == [skips] * 4 + [False]
    for code in (identity, rest):
        assert float(code.grad.abs().sum()) > 0


def test_a_picture_is_painted_from_the_bottom_up() -> None:
    """Bilinearly twice as large, beside the map of that size, and in the end between -1 and 1."""
    torch.manual_seed(0)
    down, up = WayDown(2).eval(), WayUp(2, skips=True).eval()
    maps = down(torch.randn(1, 3, 32, 16))
    identity, rest = torch.rand(1, 8, 2, 1), torch.rand(1, 8, 2, 1)
    painted = torch.cat([identity, rest], 1)
    enlarge = nn.Upsample(scale_factor=2, mode="bilinear")
    for level in range(4):
        painted = up.scales[level](torch.cat([enlarge(painted), maps[3 - level]], 1))
    torch.testing.assert_close(up(identity, rest, maps), torch.tanh(up.picture(painted)))


def test_codes_are_told_apart() -> None:
    up = WayUp(4, skips=False).eval()
    maps = WayDown(4).eval()(torch.randn(1, 3, 48, 24))
    first, second = torch.rand(1, 16, 3, 2), torch.rand(1, 16, 3, 2)
    assert not torch.allclose(up(first, second, maps), up(second, first, maps))


def test_initial_weights_are_those_of_the_paper() -> None:
    """Of deviation sqrt(2 / N) for N inputs, so that a map is about as large as the one before."""
    torch.manual_seed(0)
    weight = WayDown(16).scales[4][1][0].weight
    assert weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
