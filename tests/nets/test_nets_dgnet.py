"""The networks of DG-Net: their published sizes, what they look at, and networks that stay as they are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from visir.core.errors import ConfigError
from visir.nets.adaptive import AdaptiveBlock, adaptive_norm, code_pieces
from visir.nets.backbones import backbone
from visir.nets.dgnet import (
    DilatedViews,
    Generator,
    ScaledDiscriminators,
    StructureEncoder,
    appearance_code,
    grey,
)
from visir.nets.dgnet_identity import AppearanceEncoder, Classifier, StructureReader, weighted_pair
from visir.nets.erasing import erased, random_boxes
from visir.nets.frozen import frozen, live, unmoved

SIZE = (256, 128)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestPublishedSizes:
    def test_structure_encoder(self) -> None:
        with torch.device("meta"):
            encoder = StructureEncoder(16, SIZE)
            images = torch.zeros(2, 3, *SIZE)
        assert count(encoder) == 380_544
        shapes = []
        for layer in encoder.layers:
            layer.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(output.shape[1:])))
        assert encoder(images).shape == (2, 128, 64, 32)
        assert shapes[:5] == [(16, 128, 64), (32, 128, 64), (32, 128, 64), (64, 64, 32), (64, 64, 32)]
        assert shapes[-2:] == [(64, 64, 32), (128, 64, 32)]

    def test_dilated_views(self) -> None:
        with torch.device("meta"):
            views = DilatedViews(64, 32)
        assert count(views) == 4 * (64 * 32 + 32) + 3 * (32 * 32 * 9 + 32) + (128 * 128 + 128)
        dilations = [c.dilation for c in views.modules() if isinstance(c, nn.Conv2d) and c.kernel_size == (3, 3)]
        assert dilations == [(3, 3), (6, 6), (9, 9)]

    def test_generator(self) -> None:
        with torch.device("meta"):
            generator = Generator(16, 2048)
            made = generator(torch.zeros(2, 8192), torch.zeros(2, 128, 64, 32))
        assert made.shape == (2, 3, *SIZE)
        assert count(generator.blocks) + count(generator.paint) == 1_455_555
        assert count(generator.scales) + count(generator.shifts) == 11_544_576

    def test_discriminators(self) -> None:
        with torch.device("meta"):
            discriminator = ScaledDiscriminators(16, SIZE)
            maps = discriminator(torch.zeros(2, 3, *SIZE))
        assert [tuple(scores.shape) for scores in maps] == [(2, 1, 64, 32), (2, 1, 32, 16), (2, 1, 16, 8)]
        assert [count(scale) for scale in discriminator.scales] == [341_857] * 3
        assert count(discriminator) == 1_025_571

    def test_appearance_code_and_heads(self) -> None:
        with torch.device("meta"):
            trunk = backbone("resnet50", weights="scratch", image_size=SIZE, last_stride=1)
            encoder = AppearanceEncoder(trunk, dim=512, fine=False)
            feature_map = trunk(torch.zeros(2, 3, *SIZE))
        assert feature_map.shape == (2, 2048, 16, 8)
        assert appearance_code(feature_map).shape == (2, 8192)
        assert count(encoder.prime) == 2048 * 512 + 512 + 2 * 512
        assert encoder.dim == 512

    def test_structure_reader(self) -> None:
        with torch.device("meta"):
            reader = StructureReader(StructureEncoder(16, SIZE))
            deep = reader.deepen(torch.zeros(2, 128, 64, 32))
        assert deep.shape == (2, 512, 16, 8)
        assert reader.dim == 512
        assert count(reader.deepen) == (128 * 256 * 9 + 256) + (256 * 512 * 9 + 512)


@pytest.mark.parametrize(("size", "scales"), [((48, 24), 3), ((96, 48), 3), ((64, 32), 3), ((24, 12), 2), ((8, 8), 1)])
def test_small_pictures(size: tuple[int, int], scales: int) -> None:
    structure = StructureEncoder(2, size)(noise(2, 3, *size))
    assert structure.shape == (2, 16, size[0] // 4, size[1] // 4)
    made = Generator(2, 8)(noise(2, 32), structure)
    assert made.shape == (2, 3, *size)
    assert len(ScaledDiscriminators(2, size)(made)) == scales


@pytest.mark.parametrize("size", [(50, 24), (48, 26), (4, 8)], ids=str)
def test_pictures_that_cannot_be_made_are_refused(size: tuple[int, int]) -> None:
    for network in (StructureEncoder, ScaledDiscriminators):
        with pytest.raises(ConfigError, match="multiples of 4 and at least 8"):
            network(2, size)


def test_structure_knows_no_colour() -> None:
    encoder, images = StructureEncoder(2, (16, 8)).double(), noise(2, 3, 16, 8).double()
    torch.testing.assert_close(grey(images)[0, 0, 0, 0], images[0, :, 0, 0].mean())
    torch.testing.assert_close(encoder(images[:, [2, 0, 1]]), encoder(images))
    torch.testing.assert_close(encoder(grey(images).expand(-1, 3, -1, -1)), encoder(images))


def test_code_is_the_maxima_of_four_stripes() -> None:
    feature_map = noise(2, 3, 8, 5)
    code = appearance_code(feature_map)
    for channel in range(3):
        for stripe in range(4):
            expected = feature_map[:, channel, 2 * stripe : 2 * stripe + 2].amax((1, 2))
            torch.testing.assert_close(code[:, 4 * channel + stripe], expected)
    for rows in (1, 2, 3, 6, 7, 16):
        feature_map = noise(2, 3, rows, 2)
        pooled = nn.functional.adaptive_max_pool2d(feature_map, (4, 1))
        torch.testing.assert_close(appearance_code(feature_map), pooled.flatten(1))


def test_worked_example_of_adaptive_normalisation() -> None:
    image = torch.tensor([1.0, 3.0], dtype=torch.float64).view(1, 1, 2, 1)
    changed = adaptive_norm(image, torch.tensor([[2.0]]).double(), torch.tensor([[0.5]]).double())
    torch.testing.assert_close(changed.flatten(), torch.tensor([-1.5, 2.5]).double(), atol=2e-5, rtol=0)


def test_block_takes_the_numbers_of_its_two_layers_in_order() -> None:
    block, images = AdaptiveBlock(3), noise(2, 3, 5, 4)
    scale, shift = noise(2, 6, seed=1), noise(2, 6, seed=2)
    first = adaptive_norm(block.first(images), scale[:, :3], shift[:, :3])
    inner = torch.where(first > 0, first, 0.2 * first)
    expected = images + adaptive_norm(block.second(inner), scale[:, 3:], shift[:, 3:])
    torch.testing.assert_close(block(images, scale, shift), expected)


def test_slices_of_a_code() -> None:
    stripes = noise(2, 8, 4)  # eight channels of four stripes
    code = stripes.flatten(1)
    for number, piece in enumerate(code_pieces(code, 4, slices="flat")):
        torch.testing.assert_close(piece, stripes[:, 2 * number : 2 * number + 2].flatten(1))  # two whole channels
    for number, piece in enumerate(code_pieces(code, 4, slices="stripe")):
        torch.testing.assert_close(piece, stripes[:, :, number])


@pytest.mark.parametrize("slices", ["flat", "stripe"])
def test_each_block_sees_its_own_piece(slices: str) -> None:
    """A change in one channel's last stripe reaches one block: of its channels, or of its stripe."""
    generator = Generator(2, 8, slices=slices)  # type: ignore[arg-type]
    code = noise(1, 32)
    changed = code.clone()
    changed[0, 4 * 2 + 3] += 1.0  # channel 2 of 8, stripe 3
    seen: dict[int, list[Tensor]] = {}
    for number, network in enumerate(generator.scales):
        network.register_forward_pre_hook(lambda _, given, number=number: seen.setdefault(number, []).append(given[0]))
    for one in (code, changed):
        generator(one, noise(1, 16, 4, 2))
    differs = [number for number, (before, after) in seen.items() if not torch.equal(before, after)]
    assert differs == ([1] if slices == "flat" else [3])


def test_two_heads_are_one_vector() -> None:
    """Cosines of the vectors order images as cos(prime) + 0.5 cos(fine)."""
    prime, fine = noise(5, 6), noise(5, 3, seed=1)
    vectors = weighted_pair(prime, fine, 0.5)
    for i in range(5):
        for j in range(5):
            apart = [torch.cosine_similarity(part[i], part[j], dim=0) for part in (prime, fine)]
            joint = torch.cosine_similarity(vectors[i], vectors[j], dim=0)
            torch.testing.assert_close(1.5 * joint, apart[0] + 0.5 * apart[1])


class TestFrozen:
    def network(self) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).train()

    def test_does_what_a_copy_does(self) -> None:
        network, images = self.network(), noise(4, 3, 6, 5).requires_grad_()
        before = {key: value.clone() for key, value in network.state_dict().items()}
        copied = copy.deepcopy(network)
        found = frozen(network, images)
        torch.testing.assert_close(found, copied(images))
        (gradient,) = torch.autograd.grad(found.square().sum(), images, retain_graph=True)
        assert gradient.abs().sum() > 0
        for parameter in network.parameters():
            assert torch.autograd.grad(found.sum(), parameter, retain_graph=True, allow_unused=True) == (None,)
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())

    def test_statistics_may_move_without_the_weights(self) -> None:
        network, images = self.network(), noise(4, 3, 6, 5)
        copied = copy.deepcopy(network)
        found, expected = unmoved(network, images), live(copied, images)
        assert not found.requires_grad
        torch.testing.assert_close(found, expected)
        assert expected.requires_grad
        assert all(torch.equal(value, copied.state_dict()[key]) for key, value in network.state_dict().items())

    def test_under_autocast_the_next_use_keeps_its_gradient(self) -> None:
        network, images = self.network(), noise(4, 3, 6, 5)
        for run in (frozen, unmoved):
            with torch.autocast("cpu", torch.bfloat16):
                run(network, images)
                network(images).square().sum().backward()
            assert network[0].weight.grad.abs().sum() > 0
            network.zero_grad()

    def test_a_frozen_classifier_drops_nothing(self) -> None:
        classifier, features = Classifier(6, 3, dropout=0.5, normalise=True).train(), noise(4, 6)
        torch.testing.assert_close(classifier(features, frozen), classifier(features, frozen))
        assert not torch.equal(classifier(features), classifier(features))


class TestErasing:
    def test_boxes_are_those_of_the_paper(self) -> None:
        boxes = random_boxes(4000, (40, 20), chance=0.5, generator=torch.Generator().manual_seed(0))
        tall, wide = (boxes[:, 2] - boxes[:, 0]).double(), (boxes[:, 3] - boxes[:, 1]).double()
        some = tall > 0
        assert 0.45 < some.double().mean() < 0.55
        assert boxes[~some].abs().sum() == 0
        share = (tall * wide)[some] / 800
        assert 0.01 < share.min() < 0.03
        assert 0.3 < share.max() < 0.43
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= 40
        assert boxes[:, 3].max() <= 20

    def test_only_the_box_is_erased(self) -> None:
        images = noise(3, 2, 5, 4)
        boxes = torch.tensor([[0, 0, 0, 0], [1, 2, 4, 3], [0, 0, 5, 4]])
        expected = images.clone()
        expected[1, :, 1:4, 2:3] = 0
        expected[2] = 0
        torch.testing.assert_close(erased(images, boxes), expected)

    @pytest.mark.parametrize(("chance", "share"), [(0.0, 0.0), (1.0, 1.0)])
    def test_never_and_always(self, chance: float, share: float) -> None:
        boxes = random_boxes(50, (48, 24), chance=chance, generator=torch.Generator().manual_seed(0))
        assert (boxes.sum(1) > 0).float().mean() == share
