"""The networks of AlignGAN: shapes and sizes as published, smaller ones for small pictures, and the encoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from visir.nets.aligngan import (
    FeatureHeads,
    ImageDiscriminator,
    ImageTranslator,
    JointDiscriminator,
    TranslatingEncoder,
    halvings,
    small_size,
)
from visir.nets.backbones import backbone
from visir.nets.ranges import normalised, signed

SIZES = [(128, 128), (96, 96), (32, 32), (16, 16), (48, 24), (16, 8), (8, 8)]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def images(*size: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def encoder(reduction: tuple[float, float] = (3.0, 1.5), *, mirror: bool = True) -> TranslatingEncoder:
    torch.manual_seed(0)
    trunk = backbone("tiny", weights="scratch", image_size=(48, 24), last_stride=1)
    made = TranslatingEncoder(ImageTranslator(4, 1), trunk, size=(48, 24), reduction=reduction, mirror=mirror)
    return made.eval()


class TestTranslator:
    def test_layers_and_parameters(self) -> None:
        with torch.device("meta"):
            network = ImageTranslator()
            found = network(torch.empty(2, 3, 128, 128))
        assert found.shape == (2, 3, 128, 128)
        down = 64 * 3 * 49 + 64 + 128 * 64 * 16 + 128 + 256 * 128 * 16 + 256
        middle = 4 * 2 * (256 * 256 * 9 + 256)
        up = 256 * 128 * 16 + 128 * 64 * 16 + 3 * 64 * 49 + 3
        assert parameters(network) == down + middle + up
        shapes, x = [], torch.empty(1, 3, 128, 128, device="meta")
        for block in network:
            x = block(x)
            shapes.append(tuple(x.shape[1:]))
        assert shapes == [
            (64, 128, 128),
            (128, 64, 64),
            *[(256, 32, 32)] * 5,
            (128, 64, 64),
            (64, 128, 128),
            (3, 128, 128),
        ]

    def test_every_image_is_translated_by_itself_into_the_range(self) -> None:
        network, given = ImageTranslator(4, 1), images(16, 8, count=3)
        found = network(given)
        assert found.abs().max() < 1
        torch.testing.assert_close(network(given[1:2]), found[1:2])

    def test_starts_with_small_weights(self) -> None:
        weights = [m.weight for m in ImageTranslator(32).modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        assert len(weights) == 14
        assert all(weight.std().item() == pytest.approx(0.02, rel=0.1) for weight in weights)


class TestDiscriminators:
    def test_parameters(self) -> None:
        with torch.device("meta"):
            alone, joint = ImageDiscriminator((128, 128)), JointDiscriminator(2048, (128, 128))
            assert alone(torch.empty(2, 3, 128, 128)).shape == (2, 1, 4, 4)
            assert joint(torch.empty(2, 3, 128, 128), torch.empty(2, 2048, 24, 12)).shape == (2, 1, 4, 4)
        first = 64 * 3 * 16 + 64
        halved = {n: (2 * n) * n * 16 + 2 * n for n in (64, 128, 256, 512)}
        last = 1024 * 9
        assert parameters(alone) == first + sum(halved.values()) + last
        met = (256 + 64) * 512 * 16 + 512
        assert parameters(joint) == first + halved[64] + halved[128] + 2048 * 64 + 64 + met + halved[512] + last

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_small_pictures_take_fewer_halvings(self, size: tuple[int, int]) -> None:
        given = images(*size)
        alone, joint = ImageDiscriminator(size, 4), JointDiscriminator(6, size, 4)
        found, with_features = alone(given), joint(given, torch.randn(2, 6, 5, 3))
        assert found.shape == with_features.shape == (2, 1, *(pixels >> halvings(size) for pixels in size))
        assert found.shape[2] >= 2

    def test_joint_scores_depend_on_how_image_and_feature_go_together(self) -> None:
        """The sum of what each says alone would not tell a swapped feature from its own."""
        torch.manual_seed(0)
        network, given, features = JointDiscriminator(6, (16, 16), 4), images(16, 16), torch.randn(2, 6, 6, 3)
        own, swapped = network(given, features).sum(), network(given, features.flip(0)).sum()
        assert (own - swapped).abs() > 1e-6

    def test_gradient_reaches_both(self) -> None:
        given, features = images(16, 16).requires_grad_(), torch.randn(2, 6, 6, 3, requires_grad=True)
        JointDiscriminator(6, (16, 16), 4)(given, features).sum().backward()
        assert given.grad is not None
        assert features.grad is not None
        assert given.grad.abs().sum() > 0
        assert features.grad.abs().sum() > 0


class TestHeads:
    def test_parameters_and_shapes(self) -> None:
        with torch.device("meta"):
            heads = FeatureHeads(2048, dim=256, num_identities=395, dropout=0.5)
            logits, embedded = heads(torch.empty(4, 2048))
        assert (logits.shape, embedded.shape) == ((4, 395), (4, 256))
        assert parameters(heads) == 2 * (2048 * 256 + 256) + 2 * 256 + 256 * 395 + 395

    def test_only_the_classifier_drops(self) -> None:
        heads = FeatureHeads(8, dim=4, num_identities=3, dropout=0.9).train()
        given = torch.randn(6, 8)
        first, second = heads(given), heads(given)
        assert not torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])

    def test_start_with_the_weights_of_the_released_code(self) -> None:
        torch.manual_seed(0)
        _, bottleneck, norm, _, last = FeatureHeads(512, dim=128, num_identities=200, dropout=0.5).classifier
        assert bottleneck.weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.02)
        assert last.weight.std().item() == pytest.approx(0.001, rel=0.02)
        assert (norm.weight.mean().item(), norm.weight.std().item()) == pytest.approx((1.0, 0.02), rel=0.2)
        assert not any(layer.bias.any() for layer in (bottleneck, norm, last))


class TestEncoder:
    def test_visible_images_are_translated_and_infrared_ones_are_not(self) -> None:
        network = encoder(mirror=False)
        given, modality = torch.randn(4, 3, 48, 24), torch.tensor([1, 0, 0, 1])
        found = network(given, modality)
        small = nn.functional.interpolate(signed(given), (16, 16), mode="bilinear", antialias=True)
        small = torch.stack(
            [one if m else network.translator(one[None])[0] for one, m in zip(small, modality.tolist(), strict=True)]
        )
        large = normalised(nn.functional.interpolate(small, (48, 24), mode="bilinear"))
        torch.testing.assert_close(found, nn.functional.normalize(network.backbone(large).mean((2, 3)), dim=1))
        assert network.dim == found.shape[1] == 256

    def test_mirror_images_count_in_evaluation(self) -> None:
        given, modality = torch.randn(2, 3, 48, 24), torch.tensor([0, 1])
        network, plain = encoder(), encoder(mirror=False)
        # what is mirrored is the picture that the network reads: translators need not be the same both ways
        infrared = network(given[1:], modality[1:])
        torch.testing.assert_close(network(given[1:].flip(3), modality[1:]), infrared)
        assert not torch.allclose(plain(given[1:], modality[1:]), infrared)
        assert not torch.allclose(network(given[:1].flip(3), modality[:1]), network(given[:1], modality[:1]))

    def test_mirrored_is_the_picture_that_was_made(self) -> None:
        network, plain, given = encoder(), encoder(mirror=False), torch.randn(1, 3, 48, 24)
        large = network.enlarged(network.translator(network.reduced(given)))
        both = sum(network.pool(network.backbone(one)) for one in (large, large.flip(3)))
        torch.testing.assert_close(network(given, torch.tensor([0])), nn.functional.normalize(both, dim=1))
        assert not torch.allclose(plain(given, torch.tensor([0])), nn.functional.normalize(both, dim=1))

    @pytest.mark.parametrize(
        ("size", "reduction", "small"),
        [
            ((384, 192), (3.0, 1.5), (128, 128)),
            ((96, 48), (3.0, 1.5), (32, 32)),
            ((48, 24), (1.0, 1.0), (48, 24)),
            ((50, 25), (1.0, 1.0), (48, 24)),
            ((20, 10), (3.0, 1.5), (8, 8)),
        ],
    )
    def test_size_of_what_is_translated(
        self, size: tuple[int, int], reduction: tuple[float, float], small: tuple[int, int]
    ) -> None:
        assert small_size(size, reduction) == small

    def test_pictures_of_the_right_size_stay_as_they_are(self) -> None:
        network, given = encoder((1.0, 1.0)), torch.randn(2, 3, 48, 24)
        torch.testing.assert_close(network.enlarged(network.reduced(given)), given)
