"""Two streams: each modality has its own first layers, everything behind them is shared."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from visir.core.errors import ConfigError
from visir.core.types import Modality
from visir.nets.backbones import Backbone, backbone
from visir.nets.routing import by_modality

STEMS = (
    ("conv1", "bn1", "act1", "maxpool"),  # ResNets
    ("patch_embed",),  # transformers
    ("stem",),  # ConvNeXt, RegNet, ResNetV2
    ("conv_stem", "bn1"),  # EfficientNet, MobileNetV3
)
KNOWN = "ResNets (such as resnet50, or tiny), ViTs, Swin, ConvNeXt, RegNet and EfficientNet"


class TwoStems(nn.Module):
    """A backbone whose stem exists twice, with equal weights at first (the AGW baseline of Ye et al., TPAMI 2021).

    The stem of a ResNet is its first convolution, normalisation, activation and pooling, that of a transformer its
    patch embedding.

    Args:
        whole: the backbone; it is taken apart and must not be used afterwards.
        name: of the backbone, for messages.
        image_size: (H, W) of the images.

    Attributes:
        visible: the stem of visible images, (B, 3, H, W) -> what the rest takes.
        infrared: that of infrared images.
        channels: C of the map.
        grid: (h, w) of the map.

    Raises:
        ConfigError: a backbone that cannot be cut behind its stem.
    """

    def __init__(self, whole: Backbone, *, name: str, image_size: tuple[int, int]) -> None:
        super().__init__()
        self._name = name
        self.channels, self.grid = whole.channels, whole.grid
        self.visible = _cut(whole, name, image_size)
        self.infrared = copy.deepcopy(self.visible)
        self.shared = whole

    def of(self, modality: Modality) -> nn.Sequential:
        """The stem of one modality."""
        return self.visible if modality == Modality.VISIBLE else self.infrared

    def stem(self, images: Tensor, modality: Tensor, *, training: bool) -> Tensor:
        """Each image through the stem of its modality; see :func:`visir.nets.routing.by_modality`.

        Args:
            images: (B, 3, H, W).
            modality: (B,) int64.
            training: whether this is a batch of training: its visible half, then its infrared half.
        """
        return by_modality(self.visible, self.infrared, images, modality, training=training)

    def rest(self, features: Tensor) -> Tensor:
        """What the stems gave -> the map of features (B, C, h, w)."""
        result: Tensor = self.shared(features)
        return result

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) images, (B,) modalities -> (B, C, h, w)."""
        return self.rest(self.stem(images, modality, training=self.training))

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """The four stages of a ResNet, each a sequence of blocks; one after the other they are :meth:`rest`.

        Raises:
            ConfigError: another network.
        """
        trunk = self._resnet()
        return (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of the map behind each stage of a ResNet.

        Raises:
            ConfigError: another network.
        """
        return tuple(int(info["num_chs"]) for info in self._resnet().feature_info[-4:])

    def insert(self, stage: int, block: int, module: nn.Module) -> None:
        """Run ``module``, which keeps the shape, right behind a block of a stage of a ResNet (both count from 0).

        Raises:
            ConfigError: another network.
        """
        blocks = self.stages[stage]
        blocks[block] = nn.Sequential(blocks[block], module)

    def _resnet(self) -> Any:
        trunk: Any = self.shared.trunk
        if isinstance(trunk, ResNet):
            return trunk
        raise ConfigError(
            f"backbone {self._name!r}: expected a network with the four stages of a ResNet, which modules between "
            "stages or blocks need; choose one, such as resnet50 or tiny."
        )


def two_stems(name: str, *, weights: str, image_size: tuple[int, int], last_stride: Literal[1, 2] = 1) -> TwoStems:
    """A backbone by name with two stems; the arguments are those of :func:`visir.nets.backbones.backbone`.

    Raises:
        ConfigError: an unknown name, no map for this size, or a network that cannot be cut behind its stem.
        CheckpointError: weights that cannot be had or do not fit.

    >>> network = two_stems("tiny", weights="scratch", image_size=(64, 32)).eval()
    >>> network(torch.zeros(3, 3, 64, 32), torch.tensor([1, 0, 1])).shape, network.stage_channels
    (torch.Size([3, 256, 4, 2]), (32, 64, 128, 256))
    """
    whole = backbone(name, weights=weights, image_size=image_size, last_stride=last_stride)
    return TwoStems(whole, name=name, image_size=image_size)


class _Gone(nn.Identity):
    """Where a part of a stem was; transformers still ask it for the grid of their patches."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        if hasattr(part, "grid_size"):
            self.grid_size = part.grid_size


def _cut(whole: Backbone, name: str, image_size: tuple[int, int]) -> nn.Sequential:
    """Take the stem out of ``whole``, which from then on starts behind it."""
    trunk = whole.trunk
    names = next((n for n in STEMS if all(isinstance(getattr(trunk, part, None), nn.Module) for part in n)), None)
    if names is None:
        raise ConfigError(f"backbone {name!r}: its stem is not known; {KNOWN} can have two.")
    before = None if isinstance(trunk, ResNet) else _probe(whole, nn.Identity(), image_size)
    stem = nn.Sequential()
    for part in names:
        stem.append(getattr(trunk, part))
        setattr(trunk, part, _Gone(getattr(trunk, part)))
    if before is not None:  # another network may use the parts of its stem in other ways
        try:
            after = _probe(whole, stem, image_size)
            same = before.is_meta or torch.allclose(before, after, rtol=1e-3, atol=1e-4)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            same = False
        if not same:
            raise ConfigError(f"backbone {name!r}: cannot be cut behind its {names[0]}; {KNOWN} can.")
    return stem


def _probe(whole: Backbone, stem: nn.Module, image_size: tuple[int, int]) -> Tensor:
    """The map of one image, without a change of any statistics."""
    image = torch.linspace(-2, 2, 3 * image_size[0] * image_size[1]).view(1, 3, *image_size)
    whole.eval()
    stem.eval()
    with torch.no_grad():
        features: Tensor = whole(stem(image))
    whole.train()
    stem.train()
    return features
