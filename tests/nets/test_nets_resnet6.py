"""ResNet-6: its layers, its parameters, and the grey images that go into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from visir.core.errors import CheckpointError, ConfigError
from visir.data.images import Preprocess, normalise
from visir.nets.resnet6 import Luma, grey_backbone, zero_padded


def pixels(*, infrared: bool) -> np.ndarray:
    made = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), np.uint8)
    return np.repeat(made[..., :1], 3, axis=3) if infrared else made


def test_luma_is_that_of_the_pixels() -> None:
    seen = pixels(infrared=False)
    grey = Luma()(normalise(seen, Preprocess(6, 5)))
    expected = (seen / 255) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey[:, 0].numpy(), expected, atol=1e-6)


def test_infrared_stays_as_it_is() -> None:
    hidden = pixels(infrared=True)
    grey = Luma()(normalise(hidden, Preprocess(6, 5)))
    np.testing.assert_allclose(grey[:, 0].numpy(), hidden[..., 0] / 255, atol=1e-6)


def test_luma_is_not_rounded_to_16_bits_and_not_saved() -> None:
    luma = Luma()
    with torch.autocast("cpu", torch.bfloat16):
        assert luma(torch.ones(1, 3, 2, 2)).dtype == torch.float32
    assert not luma.state_dict()
    assert luma.double()(torch.ones(1, 3, 2, 2, dtype=torch.float64)).dtype == torch.float64


def test_each_spectrum_has_its_channel() -> None:
    grey = torch.rand(4, 1, 3, 2)
    padded = zero_padded(grey, torch.tensor([1, 0, 0, 1]))
    assert padded.shape == (4, 2, 3, 2)
    for image, own in enumerate((1, 0, 0, 1)):
        assert torch.equal(padded[image, own], grey[image, 0])
        assert not padded[image, 1 - own].any()


@pytest.mark.parametrize(("in_channels", "conv1", "total"), [(1, 3_136, 4_899_520), (2, 6_272, 4_902_656)])
def test_parameters(in_channels: int, conv1: int, total: int) -> None:
    with torch.device("meta"):
        made = grey_backbone("resnet6", weights="scratch", image_size=(224, 224), in_channels=in_channels)
    assert made.trunk.conv1.weight.numel() == conv1
    assert sum(p.numel() for p in made.parameters()) == total
    assert (made.channels, made.grid) == (512, (7, 7))


def test_layers() -> None:
    made = grey_backbone("resnet6", weights="scratch", image_size=(64, 64), in_channels=2).trunk
    assert [len(made.get_submodule(f"layer{k}")) for k in (1, 2, 3, 4)] == [1, 1, 1, 1]
    assert [made.get_submodule(f"layer{k}.0.conv1").stride[0] for k in (1, 2, 3, 4)] == [1, 2, 2, 2]
    assert (made.conv1.kernel_size, made.conv1.stride, made.conv1.bias) == ((7, 7), (2, 2), None)
    assert bool((made.layer3[0].bn2.weight == 1).all())  # each block begins with both its branches


def test_weights_of_a_file(tmp_path: Path) -> None:
    source = grey_backbone("resnet6", weights="scratch", image_size=(48, 24), in_channels=2)
    save_file(source.trunk.state_dict(), tmp_path / "six.safetensors")
    again = grey_backbone("resnet6", weights=str(tmp_path / "six.safetensors"), image_size=(48, 24), in_channels=2)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), again.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="are not of resnet6: conv1.weight has shape"):
        grey_backbone("resnet6", weights=str(tmp_path / "six.safetensors"), image_size=(48, 24), in_channels=1)


def test_imagenet_weights_are_refused() -> None:
    with pytest.raises(CheckpointError, match="'resnet6': there are no ImageNet weights"):
        grey_backbone("resnet6", weights="imagenet", image_size=(48, 24), in_channels=1)


def test_other_networks_take_grey_images() -> None:
    made = grey_backbone("tiny", weights="scratch", image_size=(48, 24), in_channels=2).eval()
    assert made(torch.rand(1, 2, 48, 24)).shape == (1, 256, *made.grid)
    with pytest.raises(ConfigError, match="unknown backbone 'resnet7'"):
        grey_backbone("resnet7", weights="scratch", image_size=(48, 24), in_channels=1)
