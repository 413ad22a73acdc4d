"""UNIT's networks: their published sizes and maps, what small pictures change, and what is shared when asked."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visir.core.errors import ConfigError
from visir.nets.image_blocks import ImageLayerNorm
from visir.nets.unit import UnitDecoder, UnitDiscriminator, UnitEncoder, share_latent

SIZE = (256, 128)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("channels", "encoder", "decoder", "scale"),
    [(3, 5_385_856, 5_754_627, 2_757_057), (1, 5_379_584, 5_748_353, 2_755_009)],
)
def test_published_sizes(channels: int, encoder: int, decoder: int, scale: int) -> None:
    with torch.device("meta"):
        assert count(UnitEncoder(channels)) == encoder
        assert count(UnitDecoder(channels)) == decoder
        judges = UnitDiscriminator(channels, image_size=SIZE).networks
    assert [count(judge) for judge in judges] == [scale] * 3


@pytest.mark.parametrize("channels", [3, 1])
def test_maps_of_published_pictures(channels: int) -> None:
    with torch.device("meta"):
        pictures = torch.zeros(2, channels, *SIZE)
        codes = UnitEncoder(channels)(pictures)
        assert codes.shape == (2, 256, 64, 32)
        assert UnitDecoder(channels)(codes).shape == pictures.shape
        scores = UnitDiscriminator(channels, image_size=SIZE)(pictures)
    assert [tuple(s.shape) for s in scores] == [(2, 1, 16, 8), (2, 1, 8, 4), (2, 1, 4, 2)]


@pytest.mark.parametrize(
    ("size", "maps"),
    [
        ((48, 24), [(3, 1)]),
        ((96, 48), [(6, 3), (3, 1)]),
        ((32, 16), [(2, 1)]),
        ((288, 144), [(18, 9), (9, 4), (4, 2)]),
        ((100, 52), [(6, 3), (3, 1)]),
    ],
)
def test_scales_of_smaller_pictures(size: tuple[int, int], maps: list[tuple[int, int]]) -> None:
    scores = UnitDiscriminator(1, image_size=size, width=2)(torch.zeros(1, 1, *size))
    assert [tuple(s.shape[2:]) for s in scores] == maps


@pytest.mark.parametrize("size", [(31, 64), (64, 15)])
def test_pictures_too_small_to_judge_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"at least 32x16 pixels, got {size[0]}x{size[1]}"):
        UnitDiscriminator(3, image_size=size)


def test_each_scale_judges_the_picture_in_half_the_resolution_of_the_one_before() -> None:
    judge = UnitDiscriminator(3, image_size=SIZE, width=2)
    pictures = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    for network in judge.networks:
        network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    judge(pictures)
    assert [tuple(s.shape[2:]) for s in seen] == [(256, 128), (128, 64), (64, 32)]
    inner = pictures[0, :, 1:4, 3:6].mean((1, 2))  # pixels 1..3 and 3..5 lie around the pixel (1, 2) of the half
    torch.testing.assert_close(seen[1][0, :, 1, 2], inner)
    torch.testing.assert_close(seen[1][0, :, 0, 0], pictures[0, :, :2, :2].mean((1, 2)))  # nothing outside counts


def test_which_normalisation_is_where() -> None:
    encoder, decoder = UnitEncoder(3, width=2), UnitDecoder(3, width=2)
    judge = UnitDiscriminator(3, image_size=SIZE, width=2)

    def kinds(network: nn.Module) -> list[int]:
        wanted = (nn.InstanceNorm2d, ImageLayerNorm, nn.BatchNorm2d)
        return [sum(isinstance(m, kind) for m in network.modules()) for kind in wanted]

    assert kinds(encoder) == [3 + 8, 0, 0]
    assert kinds(decoder) == [8, 2, 0]
    assert kinds(judge) == [0, 0, 0]
    assert all(
        m.padding_mode == "reflect" for m in judge.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1
    )


def test_first_weights() -> None:
    """He et al. for translators, N(0, 0.02) for discriminators, as in the published code."""
    torch.manual_seed(0)
    judge, encoder = UnitDiscriminator(3, image_size=(64, 32), width=64), UnitEncoder(3, width=32)
    weight = judge.networks[0][2][0].weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    weight = encoder.blocks[0].body[0][0].weight
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


def test_made_pictures_are_in_range_and_of_full_precision() -> None:
    decoder = UnitDecoder(3, width=2)
    codes = 100 * torch.randn(2, 8, 6, 3, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        made = decoder(codes)
    assert made.dtype == torch.float32
    assert made.abs().max() <= 1
    assert decoder.double()(codes.double()).dtype == torch.float64


def test_nothing_is_shared_unless_asked_for() -> None:
    encoders = [UnitEncoder(channels, width=2) for channels in (3, 1)]
    decoders = [UnitDecoder(channels, width=2) for channels in (3, 1)]

    def shared(networks: list[nn.Module]) -> set[int]:
        first, second = ({id(p) for p in network.parameters()} for network in networks)
        return first & second

    assert not shared(encoders)  # type: ignore[arg-type]
    assert not shared(decoders)  # type: ignore[arg-type]
    share_latent(encoders, decoders)
    assert shared(encoders) == {id(p) for p in encoders[0].blocks[-1].parameters()}  # type: ignore[arg-type]
    assert shared(decoders) == {id(p) for p in decoders[1].blocks[0].parameters()}  # type: ignore[arg-type]
    assert encoders[1](torch.zeros(1, 1, 32, 16)).shape == (1, 8, 8, 4)
