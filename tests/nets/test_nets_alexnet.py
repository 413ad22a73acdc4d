"""AlexNet in both forms: maps, parameters, the range of its images, and weights from stated places."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from visir.core.errors import CheckpointError, ConfigError
from visir.nets.alexnet import ALEXNETS, AlexNet, ResponseNorm, TorchvisionAlexNet, alexnet

SMALL = (67, 99)  # a map of 1x2


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        network = AlexNet((227, 227))
    assert count(network) - count(network.fc6) == 2_334_080
    assert count(network.fc6) == 37_752_832


def test_maps_of_a_227_by_227_image() -> None:
    with torch.device("meta"):
        network = AlexNet((227, 227))
        seen: dict[str, tuple[int, ...]] = {}
        for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6"):
            layer = network.get_submodule(name)
            layer.register_forward_hook(lambda _, i, out, name=name: seen.update({name: tuple(out.shape[1:])}))
        network(torch.zeros(2, 3, 227, 227))
    assert seen == {
        "conv1": (96, 55, 55),
        "conv2": (256, 27, 27),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 13, 13),
        "fc6": (4096,),
    }
    assert network.grid == (6, 6)


def test_torchvision_form_is_torchvisions() -> None:
    with torch.device("meta"):
        network, whole = TorchvisionAlexNet((227, 227)), torchvision.models.AlexNet()
        assert network(torch.zeros(2, 3, 227, 227)).shape == (2, 4096)
    wanted = whole.state_dict()
    assert network.grid == (6, 6)
    assert all(value.shape == wanted[name].shape for name, value in network.state_dict().items())


@pytest.mark.parametrize("name", ALEXNETS)
@pytest.mark.parametrize("size", [(67, 67), SMALL, (128, 96)])
def test_other_sizes(name: str, size: tuple[int, int]) -> None:
    network = alexnet(name, weights="scratch", image_size=size).eval()
    with torch.no_grad():
        features = network(torch.randn(2, 3, *size))
    assert features.shape == (2, network.dim)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize(("name", "lowest"), [("alexnet", 67), ("alexnet_torchvision", 63)])
def test_images_too_small_are_one_sentence(name: str, lowest: int) -> None:
    alexnet(name, weights="scratch", image_size=(lowest, lowest))
    for size in ((lowest, lowest - 1), (48, 24), (1, 1)):
        with pytest.raises(ConfigError, match=f"at least {lowest} by {lowest} pixels, got {size[0]}x{size[1]}"):
            alexnet(name, weights="scratch", image_size=size)


def test_images_are_pixels_less_their_mean() -> None:
    network = AlexNet((67, 67))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = torch.randint(0, 256, (1, 3, 67, 67), generator=torch.Generator().manual_seed(0))
    given: list[Tensor] = []
    network.conv1.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    network((pixels / 255 - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1))
    torch.testing.assert_close(given[0], pixels - 255 * mean.view(1, 3, 1, 1), atol=1e-3, rtol=0)
    assert "scale" not in network.state_dict()


def test_memory_layout_does_not_matter() -> None:
    torch.manual_seed(0)
    network, images = AlexNet(SMALL).eval(), torch.randn(2, 3, *SMALL)
    with torch.no_grad():
        expected = network(images)
        network.to(memory_format=torch.channels_last)
        found = network(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


class TestResponseNorm:
    def test_equals_the_loop(self) -> None:
        features = 100 * torch.randn(2, 7, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        expected = torch.empty_like(features)
        for channel in range(7):
            near = features[:, max(0, channel - 2) : channel + 3]
            expected[:, channel] = features[:, channel] / (1 + 2e-5 * near.square().sum(1)) ** 0.75
        torch.testing.assert_close(ResponseNorm()(features), expected)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_large_numbers_of_16_bits_stay_finite(self, dtype: torch.dtype) -> None:
        features = torch.full((1, 5, 2, 2), 1000.0)
        found = ResponseNorm()(features.to(dtype))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, ResponseNorm()(features))


def whole_state(name: str) -> dict[str, Tensor]:
    """A file's content: the layers up to fc6, and those behind it."""
    state = dict(alexnet(name, weights="scratch", image_size=SMALL).state_dict())
    behind = ("fc7", "fc8") if name == "alexnet" else ("classifier.4", "classifier.6")
    return state | {f"{layer}.{kind}": torch.zeros(2) for layer in behind for kind in ("weight", "bias")}


@pytest.mark.parametrize("name", ALEXNETS)
class TestWeightsFile:
    def test_is_loaded_without_the_layers_behind(self, name: str, tmp_path: Path) -> None:
        state = whole_state(name)
        save_file(state, tmp_path / "alexnet.safetensors")
        network = alexnet(name, weights=str(tmp_path / "alexnet.safetensors"), image_size=SMALL)
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())

    def test_of_other_maps_is_refused(self, name: str, tmp_path: Path) -> None:
        save_file(whole_state(name), tmp_path / "alexnet.safetensors")
        with pytest.raises(CheckpointError, match=r"has shape \(4096, 512\), not \(4096, 256\)"):
            alexnet(name, weights=str(tmp_path / "alexnet.safetensors"), image_size=(67, 67))


class TestImageNet:
    def test_of_caffes_form_cannot_be_fetched(self) -> None:
        with pytest.raises(CheckpointError, match="safetensors file, or take backbone 'alexnet_torchvision'"):
            alexnet("alexnet", weights="imagenet", image_size=SMALL)

    def test_reads_maps_of_six_by_six(self) -> None:
        with pytest.raises(CheckpointError, match="maps of 6x6, these images give 1x2"):
            alexnet("alexnet_torchvision", weights="imagenet", image_size=SMALL)

    def test_is_loaded_up_to_fc6(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with torch.device("meta"):
            shapes = {name: value.shape for name, value in torchvision.models.AlexNet().state_dict().items()}
        threes = {name: torch.tensor(3.0).expand(shape) for name, shape in shapes.items()}

        def fetched(self: object, **options: object) -> Mapping[str, Tensor]:
            return threes

        monkeypatch.setattr(torchvision.models.AlexNet_Weights, "get_state_dict", fetched)
        network = alexnet("alexnet_torchvision", weights="imagenet", image_size=(227, 227))
        assert all(bool((parameter == 3).all()) for parameter in network.parameters())

    def test_failure_is_one_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreachable(self: object, **options: object) -> None:
            raise OSError("no route to host\nand a long explanation")

        monkeypatch.setattr(torchvision.models.AlexNet_Weights, "get_state_dict", unreachable)
        with (
            torch.device("meta"),
            pytest.raises(CheckpointError, match=r"could not be fetched \(no route to host\)") as raised,
        ):
            alexnet("alexnet_torchvision", weights="imagenet", image_size=(227, 227))
        assert "\n" not in str(raised.value)
