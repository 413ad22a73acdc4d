"""Two stems on many kinds of network: same numbers as the whole at first, two sets of weights, one shared rest."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visir.core.errors import ConfigError
from visir.core.types import Modality
from visir.nets.backbones import Backbone, backbone
from visir.nets.stems import TwoStems, two_stems

SIZE = (64, 32)
KINDS = {
    "tiny": ["conv1", "bn1", "act1", "maxpool"],
    "resnet10t": ["conv1", "bn1", "act1", "maxpool"],
    "test_vit": ["patch_embed"],
    "test_convnext": ["stem"],
    "test_efficientnet": ["conv_stem", "bn1"],
    "regnetx_002": ["stem"],
    "resnetv2_18": ["stem"],
    "mobilenetv3_small_050": ["conv_stem", "bn1"],
}


def made(name: str) -> TwoStems:
    torch.manual_seed(0)
    return two_stems(name, weights="scratch", image_size=SIZE)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_equals_the_whole_network_for_both_modalities_at_first(name: str) -> None:
    torch.manual_seed(0)
    whole = backbone(name, weights="scratch", image_size=SIZE).eval()
    taken = [getattr(whole.trunk, part) for part in KINDS[name]]
    network, images = made(name).eval(), torch.randn(4, 3, *SIZE)
    with torch.no_grad():
        expected = whole(images)
        for modality in (torch.zeros(4, dtype=torch.int64), torch.tensor([1, 0, 0, 1])):
            torch.testing.assert_close(network(images, modality), expected, atol=1e-4, rtol=1e-4)
    assert expected.shape[1:] == (network.channels, *network.grid)
    assert count(network) == count(whole) + sum(map(count, taken))


@pytest.mark.parametrize("name", ["tiny", "test_vit"])
def test_each_modality_has_its_own_stem(name: str) -> None:
    network, images = made(name).eval(), torch.randn(2, 3, *SIZE)
    modality = torch.tensor([1, 0])
    with torch.no_grad():
        before = network(images, modality)
        for parameter in network.of(Modality.INFRARED).parameters():
            parameter.mul_(2.0).add_(0.1)
        after = network(images, modality)
    assert not torch.allclose(after[0], before[0], atol=1e-3)
    torch.testing.assert_close(after[1], before[1])


def test_stems_and_rest_are_the_whole_in_any_grouping() -> None:
    network, images = made("tiny"), torch.randn(4, 3, *SIZE)
    modality = torch.tensor([0, 0, 1, 1])
    with torch.no_grad():
        stem = network.stem(images, modality, training=True)
        network.eval()
        joined = torch.cat([network.visible(images[:2]), network.infrared(images[2:])])
        maps = network.stem(images, modality, training=False)
        torch.testing.assert_close(maps, joined)
        by_stage = maps
        for stage in network.stages:
            by_stage = stage(by_stage)
        torch.testing.assert_close(network.rest(maps), by_stage)
        torch.testing.assert_close(network(images, modality), by_stage)
    assert stem.shape == maps.shape == (4, 64, 16, 8)


def test_statistics_of_the_stems_are_those_of_their_modality() -> None:
    network = made("tiny")
    images = torch.cat([torch.randn(4, 3, *SIZE), torch.randn(4, 3, *SIZE) * 5])
    network(images, torch.arange(2).repeat_interleave(4))
    visible, infrared = ((stem[1].running_var - 0.9).mean() for stem in (network.visible, network.infrared))
    assert 20 < infrared / visible < 30


def test_resnet50_has_one_more_stem() -> None:
    with torch.device("meta"):
        network = two_stems("resnet50", weights="scratch", image_size=(288, 144))
        maps = network.stem(torch.zeros(2, 3, 288, 144), torch.tensor([0, 1]), training=True)
    assert count(network) == 23_508_032 + 64 * 3 * 49 + 2 * 64
    assert maps.shape == (2, 64, 72, 36)
    assert (network.channels, network.grid) == (2048, (18, 9))
    assert network.stage_channels == (256, 512, 1024, 2048)


def test_a_module_is_inserted_behind_a_block() -> None:
    network, images = made("tiny").eval(), torch.randn(2, 3, *SIZE)
    modality = torch.tensor([0, 1])
    with torch.no_grad():
        before = network(images, modality)
        network.insert(3, 0, nn.Tanh())
        torch.testing.assert_close(network(images, modality), before.tanh())


def test_networks_without_stages_say_so() -> None:
    with pytest.raises(ConfigError, match="'test_vit': expected a network with the four stages of a ResNet"):
        _ = made("test_vit").stages


def test_networks_without_a_known_stem_say_what_works() -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match="'densenet121': its stem is not known; ResNets"):
        two_stems("densenet121", weights="scratch", image_size=SIZE)


def test_networks_that_use_their_stem_otherwise_are_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 3, 1)

        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            return self.stem(self.stem(images))  # type: ignore[no-any-return]

    class Asking(Twice):
        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            return self.stem(images) * self.stem.weight.mean()  # type: ignore[no-any-return]

    for trunk in (Twice(), Asking()):
        with pytest.raises(ConfigError, match="cannot be cut behind its stem; ResNets"):
            TwoStems(Backbone(trunk, SIZE, 3), name="odd", image_size=SIZE)
