"""AlexNet up to its layer fc6, the network of the first visible-infrared methods.

Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS 2012.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional

from visir.core.colours import DEVIATION
from visir.core.errors import CheckpointError, ConfigError
from visir.nets.backbones import load_weights

CAFFE, TORCHVISION = "alexnet", "alexnet_torchvision"
ALEXNETS = (CAFFE, TORCHVISION)
FC6 = 4096
CHANNELS = 256


class ResponseNorm(nn.Module):
    """Local response normalisation over five neighbouring channels, in at least 32 bits: squares leave the range of 16.

    ``x / (1 + 2e-5 * sum of squares)^0.75``, as in Caffe's AlexNet.
    """

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        wide = features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
        return functional.local_response_norm(wide, size=5, alpha=5 * 2e-5, beta=0.75, k=1.0)


class AlexNet(nn.Module):
    """The form of Caffe: two groups of channels in conv2, conv4 and conv5, response normalisation behind two pools.

    Its numbers are for pixels of 0 to 255 less their mean, so the images are scaled back to that range. Channels of the
    weights are in the order red, green, blue. A 227x227 image gives a 256x6x6 map; the input of fc6 follows the map.

    Attributes:
        dim: 4096, length of the features.
        grid: (h, w) of the map in front of fc6.
    """

    pretrained_cfg = {"classifier": ("fc7", "fc8")}  # noqa: RUF012 - layers of weight files that are left out
    scale: Tensor

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.grid, self.dim = _grid(CAFFE, image_size, padding=0), FC6
        self.conv1 = _conv(3, 96, 11, bias=0.0, stride=4)
        self.conv2 = _conv(96, 256, 5, bias=0.1, padding=2, groups=2)
        self.conv3 = _conv(256, 384, 3, bias=0.0, padding=1)
        self.conv4 = _conv(384, 384, 3, bias=0.1, padding=1, groups=2)
        self.conv5 = _conv(384, CHANNELS, 3, bias=0.1, padding=1, groups=2)
        self.fc6 = _fc6(self.grid)
        self.pool, self.normalise = nn.MaxPool2d(3, 2), ResponseNorm()
        self.register_buffer("scale", 255.0 * torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) ImageNet-normalised -> (B, 4096), before any ReLU."""
        x = self.normalise(self.pool(self.conv1(images * self.scale).relu()))
        x = self.normalise(self.pool(self.conv2(x).relu()))
        x = self.conv4(self.conv3(x).relu()).relu()
        features: Tensor = self.fc6(self.pool(self.conv5(x).relu()).flatten(1))
        return features


class TorchvisionAlexNet(nn.Module):
    """torchvision's form: one group, fewer channels, no response normalisation. Its ImageNet weights can be had.

    Parameters have torchvision's names. A 227x227 image gives a 256x6x6 map here too.

    Attributes:
        dim: 4096, length of the features.
        grid: (h, w) of the map in front of fc6.
    """

    pretrained_cfg = {"classifier": ("classifier.4", "classifier.6")}  # noqa: RUF012

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.grid, self.dim = _grid(TORCHVISION, image_size, padding=2), FC6
        self.features = torchvision.models.AlexNet().features
        self.classifier = nn.ModuleDict({"1": _fc6(self.grid)})

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) ImageNet-normalised -> (B, 4096), before any ReLU."""
        features: Tensor = self.classifier["1"](self.features(images).flatten(1))
        return features


def alexnet(name: str, *, weights: str, image_size: tuple[int, int]) -> AlexNet | TorchvisionAlexNet:
    """AlexNet's conv1 to fc6: (B, 3, H, W) -> (B, 4096).

    Args:
        name: ``alexnet`` for the form of Caffe, ``alexnet_torchvision`` for that of torchvision.
        weights: ``scratch``, ``imagenet`` (torchvision's form only, downloaded once), or the path of a safetensors file
            with the names of the parameters of :class:`AlexNet` or of torchvision; layers behind fc6 are left out.
        image_size: (H, W) in pixels.

    Raises:
        ConfigError: images too small for the five convolutions.
        CheckpointError: weights that cannot be had or do not fit.

    >>> alexnet("alexnet", weights="scratch", image_size=(227, 227)).grid
    (6, 6)
    """
    network = AlexNet(image_size) if name == CAFFE else TorchvisionAlexNet(image_size)
    if weights == "imagenet":
        _load_imagenet(network)
    elif weights != "scratch":
        load_weights(network, name, Path(weights))
    return network


def _load_imagenet(network: AlexNet | TorchvisionAlexNet) -> None:
    if isinstance(network, AlexNet):
        raise CheckpointError(
            f"backbone {CAFFE!r}: there is no place to fetch ImageNet weights of Caffe's form from. Give them as a "
            f"safetensors file, or take backbone {TORCHVISION!r}, a like network whose weights can be fetched."
        )
    if network.grid != (6, 6):
        raise CheckpointError(
            f"backbone {TORCHVISION!r}: its ImageNet weights read maps of 6x6, these images give "
            f"{network.grid[0]}x{network.grid[1]}. Set stream.height and stream.width to 227."
        )
    try:
        found = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # torch's own errors and those of urllib
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"backbone {TORCHVISION!r}: its ImageNet weights could not be fetched ({reason}). Give a safetensors file "
            "as weights, or train from scratch."
        ) from error
    network.load_state_dict({name: found[name] for name in network.state_dict()})


def _conv(
    channels: int, out: int, kernel: int, *, bias: float, stride: int = 1, padding: int = 0, groups: int = 1
) -> nn.Conv2d:
    """A convolution that starts as those of AlexNet do, which have to bring 0 to 255 into a range fit for learning."""
    layer = nn.Conv2d(channels, out, kernel, stride, padding, groups=groups)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]  # there is one
    return layer


def _fc6(grid: tuple[int, int]) -> nn.Linear:
    layer = nn.Linear(CHANNELS * grid[0] * grid[1], FC6)
    nn.init.normal_(layer.weight, std=0.005)
    nn.init.constant_(layer.bias, 0.1)
    return layer


def _grid(name: str, image_size: tuple[int, int], *, padding: int) -> tuple[int, int]:
    """Rows and columns in front of fc6: a convolution 11/4, then three pools 3/2."""
    height, width = (_side(size, padding) for size in image_size)
    if min(height, width) < 1:
        raise ConfigError(
            f"backbone {name!r}: expected images of at least {67 - 2 * padding} by {67 - 2 * padding} pixels, got "
            f"{image_size[0]}x{image_size[1]}. Set stream.height and stream.width to 227."
        )
    return height, width


def _side(size: int, padding: int) -> int:
    side = (size + 2 * padding - 11) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side
