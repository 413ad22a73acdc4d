"""Two streams with weights of their own, what they share behind them, and the whole encoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visir.core.errors import ConfigError
from visir.nets.two_streams import (
    SharedEmbedding,
    TwoStreamEncoder,
    TwoStreams,
    feature_network,
    shared_classifier,
)

MIXED = torch.tensor([1, 0, 0, 1, 1, 0])
HALVES = torch.tensor([0, 0, 0, 1, 1, 1])


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def different() -> TwoStreams:
    streams = TwoStreams(nn.Linear(3, 2))
    nn.init.normal_(streams.infrared.weight)
    return streams


class TestTwoStreams:
    def test_start_equal_and_go_apart(self) -> None:
        streams, images = TwoStreams(nn.Linear(3, 2)), torch.randn(4, 3)
        torch.testing.assert_close(streams(images, HALVES[1:5]), streams.visible(images))
        streams(images, HALVES[1:5])[:2].sum().backward()
        assert float(streams.visible.weight.grad.abs().sum()) > 0
        assert float(streams.infrared.weight.grad.abs().sum()) == 0
        assert count(streams) == 2 * count(nn.Linear(3, 2))

    def test_every_image_goes_through_its_own(self) -> None:
        streams, images = different().eval(), torch.randn(6, 3)
        expected = torch.stack(
            [(streams.infrared if m else streams.visible)(x) for x, m in zip(images, MIXED, strict=True)]
        )
        torch.testing.assert_close(streams(images, MIXED), expected)

    @pytest.mark.parametrize("training", [True, False])
    def test_unequal_parts_of_a_batch(self, training: bool) -> None:
        streams, images = different().train(training), torch.randn(6, 3)
        expected = torch.cat([streams.visible(images[:4]), streams.infrared(images[4:])])
        torch.testing.assert_close(streams(images, torch.tensor([0, 0, 0, 0, 1, 1]), 4), expected)

    def test_statistics_are_those_of_one_spectrum(self) -> None:
        streams = TwoStreams(nn.BatchNorm1d(3, momentum=1.0))
        images = torch.cat([torch.randn(3, 3) + 5, torch.randn(3, 3)])
        streams(images, HALVES)
        torch.testing.assert_close(streams.visible.running_mean, images[:3].mean(0))
        torch.testing.assert_close(streams.infrared.running_mean, images[3:].mean(0))


class TestFeatureNetwork:
    @pytest.mark.parametrize(
        ("name", "dim"),
        [("alexnet", 4096), ("alexnet_torchvision", 4096), ("tiny", 256), ("vit_tiny_patch16_224", 192)],
    )
    def test_gives_one_vector_an_image(self, name: str, dim: int) -> None:
        network, found = feature_network(name, weights="scratch", image_size=(80, 80))
        with torch.no_grad():
            assert network.eval()(torch.randn(2, 3, 80, 80)).shape == (2, dim)
        assert found == dim

    def test_maps_are_averaged(self) -> None:
        network, _ = feature_network("tiny", weights="scratch", image_size=(64, 32))
        images = torch.randn(2, 3, 64, 32)
        with torch.no_grad():
            expected = network.eval().backbone(images).flatten(2).mean(2)
            torch.testing.assert_close(network(images), expected)

    def test_last_stride_is_kept(self) -> None:
        with torch.device("meta"):
            network, dim = feature_network("resnet50", weights="scratch", image_size=(288, 144))
        assert (network.backbone.grid, dim) == ((9, 5), 2048)

    def test_maps_of_16_bits_are_averaged_in_32(self) -> None:
        network, _ = feature_network("tiny", weights="scratch", image_size=(64, 32))
        images = torch.randn(2, 3, 64, 32)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            features, feature_map = network.eval()(images), network.backbone(images)
        assert (feature_map.dtype, features.dtype) == (torch.bfloat16, torch.float32)
        torch.testing.assert_close(features, feature_map.float().mean((2, 3)))

    def test_unknown_name(self) -> None:
        with pytest.raises(ConfigError, match="unknown backbone 'alexnett'"):
            feature_network("alexnett", weights="scratch", image_size=(80, 80))


class TestShared:
    def test_embedding_is_one_layer_between_two_relus(self) -> None:
        embedding, features = SharedEmbedding(5, 4, dropout=0.5).eval(), torch.randn(3, 5)
        expected = (features.clamp_min(0) @ embedding.fc7.weight.T + embedding.fc7.bias).clamp_min(0)
        torch.testing.assert_close(embedding(features), expected)

    def test_features_are_dropped_while_training_only(self) -> None:
        torch.manual_seed(0)
        embedding, features = SharedEmbedding(5, 4, dropout=0.5), torch.rand(3, 5)
        torch.testing.assert_close(embedding.eval()(features), embedding(features))
        embedding.train()
        assert not torch.equal(embedding(features), embedding(features))

    def test_parameters_of_the_paper(self) -> None:
        with torch.device("meta"):
            assert count(SharedEmbedding(4096, 1024, dropout=0.5)) == 4_195_328
            classifiers = [shared_classifier(1024, people, dropout=0.5) for people in (206, 296, 395)]
        assert [count(classifier) for classifier in classifiers] == [211_150, 303_400, 404_875]

    def test_classifier_drops_and_has_a_bias(self) -> None:
        dropped, layer = shared_classifier(8, 3, dropout=0.5)
        assert (dropped.p, layer.in_features, layer.out_features) == (0.5, 8, 3)
        assert float(layer.bias.detach().abs().sum()) == 0


def encoder(name: str = "tiny", size: tuple[int, int] = (48, 24), *, normalise: bool = True) -> TwoStreamEncoder:
    torch.manual_seed(0)
    made = TwoStreamEncoder(name, weights="scratch", image_size=size, dim=16, dropout=0.5, normalise=normalise)
    nn.init.normal_(made.streams.infrared[-1].bias if normalise else next(made.streams.infrared.parameters()))
    return made.eval()


class TestEncoder:
    @pytest.mark.parametrize(("name", "size"), [("tiny", (48, 24)), ("alexnet", (67, 67))])
    @pytest.mark.parametrize("normalise", [True, False])
    def test_exports_for_any_order_and_size_of_batch(self, name: str, size: tuple[int, int], normalise: bool) -> None:
        made, images = encoder(name, size, normalise=normalise), torch.randn(6, 3, *size)
        rows = torch.export.Dim("rows", min=2, max=64)
        exported = torch.export.export(made, (images[:4], MIXED[:4]), dynamic_shapes=({0: rows}, {0: rows})).module()
        with torch.no_grad():
            expected = made(images, MIXED)
            torch.testing.assert_close(exported(images, MIXED), expected, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(made(images[3:4], MIXED[3:4]), expected[3:4], atol=1e-5, rtol=1e-4)
        assert expected.shape == (6, made.dim)
        assert (expected >= 0).all()
        assert not torch.allclose(made(images, 1 - MIXED), expected)

    def test_normalisation_of_the_paper(self) -> None:
        with torch.device("meta"):
            made = TwoStreamEncoder(
                "alexnet", weights="scratch", image_size=(227, 227), dim=1024, dropout=0.5, normalise=True
            )
        assert count(made.streams.visible) == 2_334_080 + 37_752_832 + 8_192
        assert count(made.streams) == 2 * count(made.streams.visible)
        assert count(made) == count(made.streams) + 4_195_328

    def test_without_normalisation(self) -> None:
        made = encoder("alexnet", (67, 67), normalise=False)
        assert not [module for module in made.modules() if isinstance(module, nn.BatchNorm1d)]
