"""The image networks of DG-Net against slow ones, written layer by layer from their published tables."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from visir.nets.backbones import backbone
from visir.nets.dgnet import Generator, ScaledDiscriminators, StructureEncoder
from visir.nets.dgnet_identity import Classifier, StructureReader, Teacher
from visir.nets.image_blocks import ConvolutionBlock

SIZE = (32, 24)


def leaky(images: Tensor) -> Tensor:
    return torch.where(images > 0, images, 0.2 * images)


def convolved(block: nn.Module, images: Tensor) -> Tensor:
    """The convolution of a block on a picture that is mirrored at its border."""
    assert isinstance(block, ConvolutionBlock)
    layer = block[0]
    assert isinstance(layer, nn.Conv2d)
    border = layer.kernel_size[0] // 2 * layer.dilation[0]
    padded = functional.pad(images, [border] * 4, mode="reflect") if border else images
    return functional.conv2d(padded, layer.weight, layer.bias, layer.stride, 0, layer.dilation)


def standard(images: Tensor, dims: tuple[int, ...]) -> Tensor:
    variance = images.var(dims, unbiased=False, keepdim=True)
    return (images - images.mean(dims, keepdim=True)) / (variance + 1e-5).sqrt()


def instance(images: Tensor) -> Tensor:
    return standard(images, (2, 3))


def double(network: nn.Module) -> nn.Module:
    """Every number of it random, so that none can stand for another."""
    draw = torch.Generator().manual_seed(0)
    for parameter in network.double().parameters():
        nn.init.normal_(parameter, 0.1, 0.3, generator=draw)
    return network


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def slow_structure(encoder: StructureEncoder, images: Tensor) -> Tensor:
    structure = images.mean(1, keepdim=True)
    for layer in encoder.layers[:4]:
        structure = leaky(instance(convolved(layer, structure)))
    for layer in encoder.layers[4:8]:
        inner = leaky(instance(convolved(layer.body[0], structure)))
        structure = structure + instance(convolved(layer.body[1], inner))
    near, *far = encoder.layers[8].views
    views = [instance(convolved(near, structure))]
    for first, second in far:
        views.append(instance(convolved(second, leaky(instance(convolved(first, structure))))))
    return instance(convolved(encoder.layers[8].mix, torch.cat(views, dim=1)))


def slow_picture(generator: Generator, code: Tensor, structure: Tensor) -> Tensor:
    def numbers(network: nn.Module, piece: Tensor) -> Tensor:
        first, second, third = (layer for layer in network.children() if isinstance(layer, nn.Linear))
        inner = leaky(piece @ first.weight.T + first.bias)
        return leaky(inner @ second.weight.T + second.bias) @ third.weight.T + third.bias

    channels, length = structure.shape[1], code.shape[1] // 4
    for number, block in enumerate(generator.blocks):
        piece = code[:, number * length : (number + 1) * length]
        scale, shift = (numbers(nets[number], piece)[..., None, None] for nets in (generator.scales, generator.shifts))
        inner = leaky(instance(convolved(block.first, structure)) * scale[:, :channels] + shift[:, :channels])
        structure = structure + (instance(convolved(block.second, inner)) * scale[:, channels:] + shift[:, channels:])
    _, first, _, second, *rest = generator.paint
    for layer in (first, second):
        structure = structure.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        norm = layer[1]
        weight, bias = norm.weight.view(-1, 1, 1), norm.bias.view(-1, 1, 1)
        structure = leaky(standard(convolved(layer, structure), (1, 2, 3)) * weight + bias)
    for layer in rest[:2]:
        structure = leaky(convolved(layer, structure))
    return convolved(rest[2], structure)


def halved(images: Tensor) -> Tensor:
    """Means of 3x3 places, every second one; beyond the border there is nothing that counts."""
    rows, columns = ((side + 1) // 2 for side in images.shape[2:])
    return torch.stack(
        [
            torch.stack(
                [
                    images[:, :, max(0, 2 * row - 1) : 2 * row + 2, max(0, 2 * column - 1) : 2 * column + 2].mean(
                        (2, 3)
                    )
                    for column in range(columns)
                ],
                dim=2,
            )
            for row in range(rows)
        ],
        dim=2,
    )


def slow_scores(discriminator: ScaledDiscriminators, images: Tensor) -> list[Tensor]:
    found = []
    for number, network in enumerate(discriminator.scales):
        images = halved(images) if number else images
        inner = images
        for layer in network[:5]:
            inner = leaky(convolved(layer, inner))
        for layer in network[5:9]:
            inner = inner + convolved(layer.body[1], leaky(convolved(layer.body[0], inner)))
        found.append(functional.conv2d(inner, network[9].weight, network[9].bias))
    return found


def test_structure_encoder() -> None:
    encoder, images = StructureEncoder(2, SIZE), noise(2, 3, *SIZE)
    torch.testing.assert_close(double(encoder)(images), slow_structure(encoder, images))


def test_generator() -> None:
    generator, code, structure = Generator(2, 8), noise(2, 32), noise(2, 16, 8, 6)
    torch.testing.assert_close(double(generator)(code, structure), slow_picture(generator, code, structure))


def test_discriminators() -> None:
    discriminator, images = ScaledDiscriminators(2, SIZE), noise(2, 3, *SIZE)
    assert all(layer.weight.std() < 0.1 for layer in discriminator.modules() if isinstance(layer, nn.Conv2d))
    torch.testing.assert_close(double(discriminator)(images), slow_scores(discriminator, images))


def test_reader_of_structure() -> None:
    reader, structure = StructureReader(StructureEncoder(2, SIZE)), noise(2, 16, 8, 6)
    double(reader)
    deeper = structure
    for layer in reader.deepen:
        deeper = leaky(instance(convolved(layer, deeper)))
    torch.testing.assert_close(reader.read(structure).prime, deeper.amax((2, 3)))


def test_teacher_reads_means() -> None:
    """While the appearance encoder reads maxima."""
    trunk = backbone("tiny", weights="scratch", image_size=SIZE)
    teacher = Teacher(trunk, dim=8, num_identities=3, dropout=0.0).eval()
    images = noise(2, 3, *SIZE).float()
    torch.testing.assert_close(teacher.read(images), teacher.prime(trunk(images).mean((2, 3))))


@pytest.mark.parametrize("normalise", [False, True])
def test_classifier_normalises_what_has_not_been(normalise: bool) -> None:
    classifier, features = Classifier(4, 3, dropout=0.0, normalise=normalise).double(), 5 * noise(6, 4) + 1
    read = standard(features, (0,)) if normalise else features
    torch.testing.assert_close(classifier(features), read @ classifier.linear.weight.T + classifier.linear.bias)
