"""Backbones: maps of the right size for many kinds of network, the last stride, and weights from stated places."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from visir.core.errors import CheckpointError, ConfigError
from visir.nets.backbones import Backbone, backbone

MAPS = {
    "tiny": (256, 16, 8),
    "resnet18": (512, 16, 8),
    "resnet50": (2048, 16, 8),
    "resnet26d": (2048, 16, 8),  # its shortcut pools
    "resnest14d": (2048, 16, 8),  # its stride is a pool
    "resnetaa50": (2048, 16, 8),
    "seresnext26d_32x4d": (2048, 16, 8),
    "res2net50_14w_8s": (2048, 16, 8),
    "efficientnet_b0": (1280, 8, 4),
    "convnext_atto": (320, 8, 4),
    "vit_tiny_patch16_224": (192, 16, 8),
    "vit_small_patch14_dinov2": (384, 18, 9),
    "swin_tiny_patch4_window7_224": (768, 8, 4),
    "twins_svt_small": (512, 8, 4),
}


@pytest.mark.parametrize("name", MAPS)
def test_map_of(name: str) -> None:
    with torch.device("meta"):  # shapes only: nothing is computed
        net = backbone(name, weights="scratch", image_size=(256, 128))
        features = net(torch.zeros(2, 3, 256, 128))
    assert features.shape == (2, *MAPS[name])
    assert (net.channels, *net.grid) == MAPS[name]


def test_resnet50_reads_24_by_8_cells_of_a_384_by_128_image() -> None:
    with torch.device("meta"):
        net = backbone("resnet50", weights="scratch", image_size=(384, 128))
    assert net.grid == (24, 8)
    assert sum(p.numel() for p in net.parameters()) == 23_508_032


def test_last_stride_two_leaves_the_network_alone() -> None:
    with torch.device("meta"):
        net = backbone("resnet50", weights="scratch", image_size=(384, 128), last_stride=2)
    assert net.grid == (12, 4)


def test_last_stride_is_left_out_without_dilation() -> None:
    with torch.device("meta"):
        net = backbone("resnet50", weights="scratch", image_size=(384, 128))
    convolutions = [m for m in net.trunk.layer4.modules() if isinstance(m, torch.nn.Conv2d)]
    assert {m.stride for m in convolutions} == {(1, 1)}
    assert {m.dilation for m in convolutions} == {(1, 1)}


def test_networks_that_keep_their_stride_say_so(caplog: pytest.LogCaptureFixture) -> None:
    with torch.device("meta"), caplog.at_level(logging.WARNING):
        backbone("convnext_atto", weights="scratch", image_size=(64, 32))
    assert "keeps its own" in caplog.text


def test_from_scratch_is_said_plainly(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        backbone("tiny", weights="scratch", image_size=(64, 32))
    assert "from scratch" in caplog.text


def test_tokens_lie_as_the_patches_in_the_image() -> None:
    class Patches(torch.nn.Module):
        num_prefix_tokens = 1

        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            patches = torch.nn.functional.avg_pool2d(images, 16).flatten(2).transpose(1, 2)
            return torch.cat([patches[:, :1] * 0 + 9, patches], dim=1)

    images = torch.randn(2, 3, 64, 32)
    net = Backbone(Patches(), (64, 32), 3)
    torch.testing.assert_close(net(images), torch.nn.functional.avg_pool2d(images, 16))


def test_a_transformer_runs() -> None:
    net = backbone("vit_tiny_patch16_224", weights="scratch", image_size=(64, 32)).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 64, 32)).shape == (1, 192, 4, 2)


def test_other_numbers_of_channels() -> None:
    net = backbone("tiny", weights="scratch", image_size=(64, 32), in_channels=1)
    assert net(torch.zeros(2, 1, 64, 32)).shape == (2, 256, 4, 2)


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'resnet50'"):
        backbone("resnet5O", weights="scratch", image_size=(64, 32))


def test_names_of_hubs_are_not_asked_over_the_network() -> None:
    with pytest.raises(ConfigError, match="unknown backbone"):
        backbone("hf-hub:somebody/something", weights="scratch", image_size=(64, 32))


def test_network_without_a_map_for_this_size() -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match="no feature map for 256x128"):
        backbone("mixer_s16_224", weights="scratch", image_size=(256, 128))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet10t.safetensors"
    save_file(timm.create_model("resnet10t", num_classes=7).state_dict(), path)
    return path


class TestWeightsFile:
    def test_is_loaded_without_its_classifier(self, weights: Path) -> None:
        nets = [backbone("resnet10t", weights=str(weights), image_size=(64, 32)).eval() for _ in range(2)]
        images = torch.randn(1, 3, 64, 32)
        with torch.no_grad():
            assert torch.equal(nets[0](images), nets[1](images))

    def test_of_another_network_is_refused(self, weights: Path) -> None:
        with pytest.raises(CheckpointError, match=r"not of resnet18: .*(missing|shape).* and \d+ more"):
            backbone("resnet18", weights=str(weights), image_size=(64, 32))

    def test_that_is_incomplete_is_refused(self, weights: Path, tmp_path: Path) -> None:
        state = timm.create_model("resnet10t", num_classes=0).state_dict()
        del state["layer3.0.conv1.weight"]
        save_file(state, tmp_path / "part.safetensors")
        with pytest.raises(CheckpointError, match="layer3.0.conv1.weight is missing"):
            backbone("resnet10t", weights=str(tmp_path / "part.safetensors"), image_size=(64, 32))

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
    def test_that_is_damaged_is_refused(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "bad.safetensors"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="readable safetensors file"):
            backbone("tiny", weights=str(path), image_size=(64, 32))

    def test_that_is_missing_is_refused(self) -> None:
        with pytest.raises(CheckpointError, match="'imagenett': expected 'scratch', 'imagenet'"):
            backbone("tiny", weights="imagenett", image_size=(64, 32))


class TestImageNet:
    def test_cannot_be_had_of_tiny(self) -> None:
        with pytest.raises(CheckpointError, match="train it from scratch"):
            backbone("tiny", weights="imagenet", image_size=(64, 32))

    def test_failure_is_one_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreachable(*_: object, **__: object) -> None:
            raise OSError("no route to host\nand a long explanation")

        monkeypatch.setattr(timm, "create_model", unreachable)
        with pytest.raises(CheckpointError, match=r"could not be fetched \(no route to host\)") as raised:
            backbone("resnet18", weights="imagenet", image_size=(64, 32))
        assert "\n" not in str(raised.value)

    def test_is_the_only_one_that_asks_for_pretrained_weights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[bool] = []
        create = timm.create_model

        def recorded(name: str, pretrained: bool = False, **options: object) -> object:
            asked.append(pretrained)
            return create(name, **options)

        monkeypatch.setattr(timm, "create_model", recorded)
        with torch.device("meta"):
            backbone("resnet18", weights="scratch", image_size=(64, 32))
            backbone("resnet18", weights="imagenet", image_size=(64, 32))
        assert asked == [False, True]
