"""The one door to backbones: any timm network as a map of features, with weights from a stated place."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from visir.core.errors import CheckpointError, ConfigError

_log = logging.getLogger(__name__)

TINY = "tiny"


class Backbone(nn.Module):
    """A network that turns images of one size into a map of features.

    Attributes:
        trunk: the timm network without its classifier.
        channels: C of the map.
        grid: (h, w) of the map.
    """

    def __init__(self, trunk: Any, image_size: tuple[int, int], in_channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self._skipped = int(getattr(trunk, "num_prefix_tokens", 0))
        self._channels_last = getattr(trunk, "output_fmt", "NCHW") == "NHWC"
        with torch.no_grad():
            probe = trunk.eval().forward_features(torch.zeros(1, in_channels, *image_size))
        trunk.train()
        self._tokens = probe.dim() == 3
        if self._tokens:
            self.channels = int(probe.shape[2])
            self.grid = _grid(probe.shape[1] - self._skipped, image_size)
        else:
            channels, *rest = probe.shape[3:] + probe.shape[1:3] if self._channels_last else probe.shape[1:]
            self.channels, self.grid = int(channels), (int(rest[0]), int(rest[1]))

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, C, h, w); the tokens of a transformer are laid out as they lie in the image."""
        features: Tensor = self.trunk.forward_features(images)
        if self._tokens:
            return features[:, self._skipped :].transpose(1, 2).reshape(-1, self.channels, *self.grid)
        return features.permute(0, 3, 1, 2) if self._channels_last else features


def _grid(tokens: int, image_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of ``tokens`` patches: the factors whose ratio is nearest to the image's."""
    ratio = image_size[0] / image_size[1]
    rows = min((r for r in range(1, tokens + 1) if tokens % r == 0), key=lambda r: abs(r * r / tokens - ratio))
    return rows, tokens // rows


def backbone(
    name: str,
    *,
    weights: str,
    image_size: tuple[int, int],
    last_stride: Literal[1, 2] = 1,
    in_channels: int = 3,
) -> Backbone:
    """A timm network by name, or the small ``tiny`` one for CPUs, without its classifier.

    Args:
        name: any name that timm knows, or ``tiny``: one basic residual block a stage, 32 to 256 channels.
        weights: ``scratch`` (random), ``imagenet`` (timm's weights, downloaded once), or the path of a safetensors
            file with timm's parameter names; a classifier in it is left out.
        image_size: (H, W) in pixels; transformers adapt their positions to it.
        last_stride: 1 leaves out the last downsampling of ResNets, which doubles the rows and columns of the map, by
            setting strides (timm's own ``output_stride`` dilates instead). Other networks keep theirs, with a warning.
        in_channels: channels of the images.

    Raises:
        ConfigError: an unknown name, or a network that gives no map for this size.
        CheckpointError: weights that cannot be had or do not fit.
    """
    trunk = _create(name, weights == "imagenet", in_channels)
    if weights == "scratch":
        _log.info("%s: no pretrained weights; it starts from scratch, from random ones.", name)
    elif weights != "imagenet":
        load_weights(trunk, name, Path(weights))
    if last_stride == 1:
        _keep_last_resolution(trunk, name)
    try:
        if hasattr(trunk, "set_input_size"):
            trunk.set_input_size(img_size=image_size)
        return Backbone(trunk, image_size, in_channels)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"backbone {name!r}: gives no feature map for {image_size[0]}x{image_size[1]} images ({reason}). "
            "Choose another, such as resnet50."
        ) from error


def _create(name: str, pretrained: bool, in_channels: int) -> Any:
    if name == TINY:
        if pretrained:
            raise CheckpointError(f"backbone {TINY!r}: there are no ImageNet weights of it; train it from scratch.")
        return ResNet(BasicBlock, [1, 1, 1, 1], 0, in_channels, stem_width=32, channels=(32, 64, 128, 256))
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, [TINY, *timm.list_models()], n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"unknown backbone {name!r}. {hint}Known: {TINY} and every name of timm.list_models().")
    if not pretrained:
        return timm.create_model(name, num_classes=0, in_chans=in_channels)
    try:
        return timm.create_model(name, pretrained=True, num_classes=0, in_chans=in_channels)
    except Exception as error:  # the network's own errors and those of three download libraries
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"backbone {name!r}: its ImageNet weights could not be fetched ({reason}). Give a safetensors file as "
            "weights, or train from scratch."
        ) from error


def load_weights(trunk: nn.Module, name: str, path: Path) -> None:
    """Put the weights of a safetensors file into a network; a classifier in the file is left out.

    Args:
        trunk: the network.
        name: of it, for messages.
        path: the file, with the network's own parameter names.

    Raises:
        CheckpointError: no such file, or weights that are missing, unknown or of another shape.
    """
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"weights {str(path)!r}: expected 'scratch', 'imagenet' or a readable safetensors file ({error})."
        ) from error
    wanted = trunk.state_dict()
    heads = getattr(trunk, "pretrained_cfg", {}).get("classifier") or "fc"
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    found = {key: value for key, value in found.items() if not key.startswith(tuple(f"{head}." for head in heads))}
    wrong = [
        *(f"{key} is missing" for key in wanted if key not in found and not key.endswith("num_batches_tracked")),
        *(f"{key} is unknown" for key in found if key not in wanted),
        *(
            f"{key} has shape {tuple(found[key].shape)}, not {tuple(value.shape)}"
            for key, value in wanted.items()
            if key in found and found[key].shape != value.shape
        ),
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"weights {str(path)!r} are not of {name}: {', '.join(wrong[:3])}{more}.")
    trunk.load_state_dict(found, strict=False)


def _keep_last_resolution(trunk: nn.Module, name: str) -> None:
    last = getattr(trunk, "layer4", None)
    if not isinstance(last, nn.Sequential):
        _log.warning("%s: only ResNets can leave out the last stride; this network keeps its own.", name)
        return
    for module in last[0].modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
        elif isinstance(module, nn.AvgPool2d) and module.stride in (2, (2, 2)):
            module.stride = 1
            if module.kernel_size in (2, (2, 2)):  # of the shortcut: nothing is left to average
                module.kernel_size = 1
