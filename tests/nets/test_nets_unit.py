"""UNIT's networks: their published sizes and maps, what small pictures change, and what is shared when asked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

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


class Slowly:
    """The networks of UNIT written out, with the weights of a network."""

    def __init__(self, network: nn.Module) -> None:
        self.weights = network.state_dict()

    def convolved(self, images: Tensor, name: str, stride: int = 1) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        around = (weight.shape[2] - 1) // 2
        return functional.conv2d(functional.pad(images, (around,) * 4, "reflect"), weight, bias, stride)

    def residual(self, images: Tensor, name: str) -> Tensor:
        inner = standard(self.convolved(images, f"{name}.body.0.0"), (2, 3)).relu()
        return images + standard(self.convolved(inner, f"{name}.body.1.0"), (2, 3))

    def encoded(self, images: Tensor) -> Tensor:
        for place, stride in enumerate((1, 2, 2)):
            images = standard(self.convolved(images, f"smaller.{place}.0", stride), (2, 3)).relu()
        for place in range(4):
            images = self.residual(images, f"blocks.{place}")
        return images

    def decoded(self, codes: Tensor) -> Tensor:
        for place in range(4):
            codes = self.residual(codes, f"blocks.{place}")
        for place in (1, 3):
            larger = codes.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            whole = standard(self.convolved(larger, f"larger.{place}.0"), (1, 2, 3))
            scale, shift = (self.weights[f"larger.{place}.1.{key}"].view(-1, 1, 1) for key in ("weight", "bias"))
            codes = (whole * scale + shift).relu()
        return self.convolved(codes, "larger.4.0").tanh()

    def judged(self, images: Tensor) -> Tensor:
        for place in range(4):
            images = functional.leaky_relu(self.convolved(images, f"networks.0.{place}.0", 2), 0.2)
        return functional.conv2d(images, self.weights["networks.0.4.weight"], self.weights["networks.0.4.bias"])


def standard(images: Tensor, over: tuple[int, ...]) -> Tensor:
    centred = images - images.mean(over, keepdim=True)
    return centred / (centred.square().mean(over, keepdim=True) + 1e-5).sqrt()


def test_every_layer_is_the_published_one() -> None:
    """With biases and scales that are not those of the start, which hide much."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 32, 16, generator=generator, dtype=torch.float64)
    networks = UnitEncoder(3, width=2), UnitDecoder(3, width=2), UnitDiscriminator(3, image_size=(32, 16), width=2)
    for network in networks:
        for parameter in network.double().parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
    encoder, decoder, judge = networks
    with torch.no_grad():
        codes = encoder(images)
        torch.testing.assert_close(codes, Slowly(encoder).encoded(images))
        torch.testing.assert_close(decoder(codes), Slowly(decoder).decoded(codes))
        (scores,) = judge(images)
        torch.testing.assert_close(scores, Slowly(judge).judged(images))


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
