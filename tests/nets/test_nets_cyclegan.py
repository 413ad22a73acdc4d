"""CycleGAN's networks: parameters, map sizes, what a score sees, and small pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from visir.core.errors import ConfigError
from visir.nets.cyclegan import PatchDiscriminator, ResidualGenerator


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameters_and_sizes_as_published() -> None:
    with torch.device("meta"):
        generator, discriminator = ResidualGenerator(), PatchDiscriminator((256, 256))
        images = torch.empty(1, 3, 256, 256)
        assert generator(images).shape == images.shape
        assert discriminator(images).shape == (1, 1, 30, 30)
    assert (count(generator), count(discriminator)) == (11_378_179, 2_764_737)


def test_width_and_blocks_are_what_they_say() -> None:
    with torch.device("meta"):
        networks = [ResidualGenerator(width=8, blocks=n) for n in (1, 2)]
    assert count(networks[1]) - count(networks[0]) == 2 * (32 * 32 * 9 + 32)
    assert networks[0][0][0].out_channels == 8


@pytest.mark.parametrize("size", [(256, 128), (96, 48), (48, 24), (8, 8)], ids=str)
def test_generator_keeps_the_size_and_the_range(size: tuple[int, int]) -> None:
    made = ResidualGenerator(width=4, blocks=2)(5 * torch.randn(2, 3, *size))
    assert made.shape == (2, 3, *size)
    assert made.abs().max() <= 1


@pytest.mark.parametrize(
    ("size", "grid", "steps"),
    [
        ((256, 256), (30, 30), 3),
        ((256, 128), (30, 14), 3),
        ((96, 48), (10, 4), 3),
        ((48, 24), (4, 1), 3),
        ((32, 16), (6, 2), 2),
        ((16, 12), (2, 1), 2),
        ((8, 8), (2, 2), 1),
        ((8, 6), (2, 1), 1),
    ],
    ids=str,
)
def test_discriminator_has_as_many_steps_as_leave_a_map(
    size: tuple[int, int], grid: tuple[int, int], steps: int
) -> None:
    discriminator = PatchDiscriminator(size, width=2)
    assert discriminator(torch.randn(2, 3, *size)).shape == (2, 1, *grid)
    convolutions = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d)]
    assert sum(c.stride == (2, 2) for c in convolutions) == steps
    assert [c.out_channels for c in convolutions] == [2 * 2**k for k in range(steps + 1)] + [1]


def test_too_small_pictures_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 8x6 pixels, got 7x6"):
        PatchDiscriminator((7, 6))


def test_a_score_sees_seventy_pixels() -> None:
    convolutions = [m for m in PatchDiscriminator((256, 256), width=1).modules() if isinstance(m, nn.Conv2d)]
    seen = 1
    for convolution in reversed(convolutions):
        seen = (seen - 1) * convolution.stride[0] + convolution.kernel_size[0]
    assert seen == 70


def normal(images: Tensor) -> Tensor:
    centred = images - images.mean((2, 3), keepdim=True)
    return centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()


def test_every_layer_of_a_generator_is_the_published_one() -> None:
    torch.manual_seed(0)
    network = ResidualGenerator(width=2, blocks=2).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    weights = network.state_dict()

    def layer(name: str) -> tuple[Tensor, Tensor]:
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    def mirrored(images: Tensor, name: str, pixels: int) -> Tensor:
        return functional.conv2d(functional.pad(images, (pixels,) * 4, "reflect"), *layer(name))

    images = torch.randn(2, 3, 16, 12, dtype=torch.float64)
    found = normal(mirrored(images, "0.0", 3)).relu()
    for place in (1, 2):
        found = normal(functional.conv2d(found, *layer(f"{place}.0"), stride=2, padding=1)).relu()
    for place in (3, 4):
        inner = normal(mirrored(found, f"{place}.body.0.0", 1)).relu()
        found = found + normal(mirrored(inner, f"{place}.body.1.0", 1))
    for place in (5, 6):
        up = functional.conv_transpose2d(found, *layer(f"{place}.0"), stride=2, padding=1, output_padding=1)
        found = normal(up).relu()
    torch.testing.assert_close(network(images), mirrored(found, "7.0", 3).tanh())


def test_every_layer_of_a_discriminator_is_the_published_one() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator((48, 24), width=2).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    found = images = torch.randn(2, 3, 48, 24, dtype=torch.float64)
    for place, stride in enumerate((2, 2, 2, 1, 1)):
        weight, bias = (network.state_dict()[f"{place}.0.{key}"] for key in ("weight", "bias"))
        found = functional.conv2d(found, weight, bias, stride, 1)
        found = normal(found) if 0 < place < 4 else found
        found = functional.leaky_relu(found, 0.2) if place < 4 else found
    torch.testing.assert_close(network(images), found)


@pytest.mark.parametrize("make", [lambda: ResidualGenerator(width=16), lambda: PatchDiscriminator((64, 64), width=32)])
def test_weights_begin_as_published(make: object) -> None:
    torch.manual_seed(0)
    network = make()  # type: ignore[operator]
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    weights = torch.cat([layer.weight.flatten() for layer in layers])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert weights.mean().item() == pytest.approx(0, abs=1e-3)
    assert not any(layer.bias.any() for layer in layers)


@pytest.mark.parametrize(
    "network", [ResidualGenerator(width=4, blocks=1), PatchDiscriminator((48, 24), width=4)], ids=["G", "D"]
)
def test_an_image_does_not_depend_on_the_others_in_training(network: nn.Module) -> None:
    network = network.double().train()
    images = torch.randn(3, 3, 48, 24, dtype=torch.float64)
    torch.testing.assert_close(network(images)[1:2], network(images[1:2]))


@pytest.mark.parametrize(
    "network", [ResidualGenerator(width=1, blocks=1), PatchDiscriminator((16, 12), width=2)], ids=["G", "D"]
)
def test_gradients_of_small_maps(network: nn.Module) -> None:
    """PyTorch's normalisation on CPUs goes wrong on maps of one column; none of them is normalised."""
    torch.manual_seed(0)
    images = torch.randn(1, 3, 16, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network.double(), (images,), fast_mode=True)
    channels_last = images.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    network(channels_last).square().sum().backward()
    network(images).square().sum().backward()
    assert channels_last.grad is not None
    torch.testing.assert_close(channels_last.grad, images.grad)


@pytest.mark.parametrize(
    ("network", "trained"),
    [
        (ResidualGenerator(width=2, blocks=2), {"7.0.bias"}),
        (PatchDiscriminator((48, 24), width=2), {"0.0.bias", "4.0.bias"}),
    ],
    ids=["G", "D"],
)
def test_a_bias_is_trained_where_it_changes_anything(network: nn.Module, trained: set[str]) -> None:
    images = torch.randn(1, 3, 48, 24)
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            assert parameter.requires_grad
            continue
        assert parameter.requires_grad == (name in trained)
        before = network(images)
        with torch.no_grad():
            parameter += 0.5
        same = torch.allclose(network(images), before, atol=1e-4)
        assert same == (name not in trained), name
