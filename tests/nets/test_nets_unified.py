"""Unified images and who reads them: ranges, the fourth channel, and which translator an image goes through."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from visir.core.colours import DEVIATION, MEAN
from visir.core.errors import ConfigError, TrainingError
from visir.nets.backbones import Backbone, backbone
from visir.nets.ranges import signed
from visir.nets.unified import (
    GREY_DEVIATION,
    GREY_MEAN,
    UnifiedEncoder,
    Unify,
    add_channel,
    crossed_translators,
    infrared_channel,
    unified,
)


def images(count: int = 2, *, grey: bool = False) -> Tensor:
    """ImageNet-normalised as batches are."""
    generator = torch.Generator().manual_seed(int(grey))
    pixels = torch.rand(count, 1 if grey else 3, 48, 24, generator=generator).expand(-1, 3, -1, -1)
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)


class TestUnified:
    def test_a_visible_image_alone_is_what_came(self) -> None:
        torch.testing.assert_close(unified(signed(images()), None), images())

    def test_an_infrared_image_alone_is_what_came(self) -> None:
        grey = images(grey=True)
        assert infrared_channel(grey).shape == (2, 1, 48, 24)
        torch.testing.assert_close(unified(None, infrared_channel(grey)), grey)

    def test_the_fourth_channel_is_the_infrared_picture(self) -> None:
        whole = unified(signed(images()), infrared_channel(images(grey=True)))
        torch.testing.assert_close(whole[:, :3], images())
        pixels = images(grey=True)[:, :1] * DEVIATION[0] + MEAN[0]
        torch.testing.assert_close(whole[:, 3:], (pixels - 0.449) / 0.226)
        assert abs(GREY_MEAN - 0.449) + abs(GREY_DEVIATION - 0.226) < 1e-9

    def test_of_nothing_is_refused(self) -> None:
        with pytest.raises(TrainingError, match="got neither"):
            unified(None, None)


class TestFourthChannel:
    def test_costs_a_resnet50_3136_parameters(self) -> None:
        with torch.device("meta"):
            network = backbone("resnet50", weights="scratch", image_size=(256, 128), last_stride=2)
            add_channel(network, name="resnet50")
            features = network(torch.zeros(2, 4, 256, 128))
        assert sum(p.numel() for p in network.parameters()) == 23_508_032 + 3_136
        assert features.shape == (2, 2048, 8, 4)

    def test_is_the_mean_of_the_others(self) -> None:
        network = backbone("tiny", weights="scratch", image_size=(48, 24)).eval()
        batch = images()
        with torch.no_grad():
            grey = network(batch.mean(1, keepdim=True).expand(-1, 3, -1, -1))
            before = network(batch)
            add_channel(network, name="tiny")
            torch.testing.assert_close(network(torch.cat([batch, torch.zeros(2, 1, 48, 24)], 1)), before)
            mean = batch.mean(1, keepdim=True)
            again = network(torch.cat([torch.zeros(2, 3, 48, 24), 3 * mean], 1))
        torch.testing.assert_close(again, grey, atol=1e-5, rtol=1e-4)
        assert all(p.requires_grad for p in network.parameters())

    @pytest.mark.parametrize(
        "name",
        ["resnet26d", "convnext_atto", "efficientnet_b0", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"],
    )
    def test_fits_many_networks(self, name: str) -> None:
        with torch.device("meta"):
            network = backbone(name, weights="scratch", image_size=(64, 32), last_stride=2)
            add_channel(network, name=name)
            assert network(torch.zeros(1, 4, 64, 32)).shape == (1, network.channels, *network.grid)

    @pytest.mark.parametrize("network", [nn.Linear(3, 4), nn.Conv2d(1, 4, 3), nn.Conv2d(3, 3, 3, groups=3)], ids=str)
    def test_other_networks_are_refused(self, network: nn.Module) -> None:
        with pytest.raises(ConfigError, match="'odd': expected a network whose first layer is a convolution"):
            add_channel(network, name="odd")

    def test_weights_of_a_file_are_kept(self, tmp_path: Path) -> None:
        source = timm.create_model("resnet10t", num_classes=7)
        save_file(source.state_dict(), tmp_path / "weights.safetensors")
        network = backbone("resnet10t", weights=str(tmp_path / "weights.safetensors"), image_size=(48, 24))
        add_channel(network, name="resnet10t")
        theirs = source.conv1[0].weight
        assert torch.equal(network.trunk.conv1[0].weight[:, :3], theirs)
        torch.testing.assert_close(network.trunk.conv1[0].weight[:, 3], theirs.mean(1))


class Plain(nn.Module):
    """A network whose map is the images themselves, so that a test sees what was unified."""

    def forward_features(self, batch: Tensor) -> Tensor:
        return batch


KINDS: dict[Unify, list[str]] = {"both": ["infrared", "visible"], "visible": ["visible"], "infrared": ["infrared"]}


def encoder(kind: Unify) -> UnifiedEncoder:
    torch.manual_seed(0)
    translators = crossed_translators(width=2, shared=False)
    channels = 4 if kind == "both" else 3
    trunk = Backbone(Plain(), (48, 24), channels)
    return UnifiedEncoder(kind, {name: translators[name] for name in KINDS[kind]}, trunk).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [[0, 0, 1, 1], [1, 0, 1, 0], [0], [1]], ids=str)
def test_every_image_is_completed_by_its_own_translator(kind: Unify, order: list[int]) -> None:
    network = encoder(kind)
    assert network.dim == (4 if kind == "both" else 3)
    both = images(4), images(4, grey=True)
    batch = torch.stack([both[modality][place] for place, modality in enumerate(order)])
    with torch.no_grad():
        found = network(batch, torch.tensor(order))
        for place, modality in enumerate(order):
            image = batch[place : place + 1]
            visible = signed(image) if modality == 0 else None
            infrared = None if modality == 0 else infrared_channel(image)
            if visible is None and kind != "infrared":
                visible = network.translators["visible"](infrared)
            if infrared is None and kind != "visible":
                infrared = network.translators["infrared"](visible)
            wanted = unified(visible if kind != "infrared" else None, infrared if kind != "visible" else None)
            torch.testing.assert_close(found[place], wanted.mean((2, 3))[0], atol=1e-5, rtol=1e-4)


def test_translators_cross_the_spectra() -> None:
    translators = crossed_translators(width=2, shared=False)
    assert translators["infrared"](torch.zeros(1, 3, 48, 24)).shape == (1, 1, 48, 24)
    assert translators["visible"](torch.zeros(1, 1, 48, 24)).shape == (1, 3, 48, 24)
    shared = crossed_translators(width=2, shared=True)
    assert shared["infrared"].encoder.blocks[-1] is shared["visible"].encoder.blocks[-1]
    assert shared["infrared"].decoder.blocks[0] is shared["visible"].decoder.blocks[0]
