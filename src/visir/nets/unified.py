"""Images of either spectrum completed to images of both, and what a network for ordinary images needs to read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from visir.core.colours import DEVIATION, MEAN
from visir.core.errors import ConfigError, TrainingError
from visir.nets.backbones import Backbone
from visir.nets.pooling import MeanPool
from visir.nets.ranges import normalised, signed
from visir.nets.routing import by_modality
from visir.nets.unit import UnitDecoder, UnitEncoder, share_latent

Unify = Literal["both", "visible", "infrared"]

GREY_MEAN, GREY_DEVIATION = sum(MEAN) / 3, sum(DEVIATION) / 3
"""What the infrared channel of a unified image is normalised with, on the scale 0..1."""


def infrared_channel(images: Tensor) -> Tensor:
    """(B, 3, H, W) ImageNet-normalised with three equal channels -> (B, 1, H, W) in [-1, 1]."""
    return signed(images)[:, :1]


def unified(visible: Tensor | None, infrared: Tensor | None) -> Tensor:
    """The images that the re-identification network of D2RL reads.

    Args:
        visible: (B, 3, H, W) in [-1, 1], real or made; None to do without.
        infrared: (B, 1, H, W) in [-1, 1], real or made; None to do without.

    Returns:
        (B, 4, H, W) with the infrared channel behind red, green and blue; of one picture alone (B, 3, H, W), infrared
        in three equal channels. Normalised as ImageNet is.

    Raises:
        TrainingError: neither.

    >>> visible, infrared = torch.zeros(2, 3, 4, 2), torch.zeros(2, 1, 4, 2)
    >>> unified(visible, infrared).shape, unified(None, infrared).shape
    (torch.Size([2, 4, 4, 2]), torch.Size([2, 3, 4, 2]))
    """
    if infrared is None:
        if visible is None:
            raise TrainingError("unified: expected a visible or an infrared picture, got neither.")
        return normalised(visible)
    if visible is None:
        return normalised(infrared.expand(-1, 3, -1, -1))
    grey = ((infrared + 1) / 2 - GREY_MEAN) / GREY_DEVIATION
    return torch.cat([normalised(visible), grey], dim=1)


def add_channel(network: nn.Module, *, name: str) -> None:
    """Let a network for red, green and blue take a fourth channel, whose filters are the mean of the three.

    The first convolution is changed in place, so weights of any origin can be loaded before.

    Args:
        network: a :class:`visir.nets.backbones.Backbone`, or any network that starts with a convolution.
        name: for the message.

    Raises:
        ConfigError: a network that does not start with a convolution of three channels.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3))
    >>> add_channel(network, name="mine")
    >>> network(torch.zeros(1, 4, 8, 8)).shape
    torch.Size([1, 8, 6, 6])
    """
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.in_channels != 3 or first.groups != 1:
        raise ConfigError(
            f"backbone {name!r}: expected a network whose first layer is a convolution of three channels, which can "
            "take a fourth; choose another, such as resnet50, or unify to 'visible' or 'infrared'."
        )
    weight = first.weight.detach()
    first.weight = nn.Parameter(torch.cat([weight, weight.mean(dim=1, keepdim=True)], dim=1))
    first.in_channels = 4


class Translator(nn.Module):
    """Pictures of one spectrum -> pictures of the other, by the means of their codes.

    Args:
        encoder: of the spectrum that comes.
        decoder: of the spectrum that goes.
    """

    def __init__(self, encoder: UnitEncoder, decoder: UnitDecoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, channels, H, W) in [-1, 1] -> (B, other channels, H, W) in [-1, 1]."""
        return self.decoder(self.encoder(pictures))  # type: ignore[no-any-return]


def crossed_translators(*, width: int, shared: bool) -> dict[str, Translator]:
    """Encoders and decoders of both spectra, crossed: either decoder understands the codes of either encoder.

    Args:
        width: channels of their first layers.
        shared: see :func:`visir.nets.unit.share_latent`.

    Returns:
        ``infrared``, which makes infrared pictures of visible ones (it has the visible encoder), and ``visible``, the
        reverse.
    """
    encoders = [UnitEncoder(channels, width=width) for channels in (3, 1)]
    decoders = [UnitDecoder(channels, width=width) for channels in (3, 1)]
    if shared:
        share_latent(encoders, decoders)
    return {"infrared": Translator(encoders[0], decoders[1]), "visible": Translator(encoders[1], decoders[0])}


class UnifiedEncoder(nn.Module):
    """Images of either spectrum -> unified images -> the mean of a network's map; nothing is drawn at random.

    Args:
        kind: which pictures a unified image has: of ``both`` spectra, or of one.
        translators: ``infrared`` makes infrared pictures of visible ones, ``visible`` the reverse; those that the kind
            needs.
        trunk: reads unified images.

    Attributes:
        dim: D, the channels of the network's map.
    """

    def __init__(self, kind: Unify, translators: Mapping[str, Translator], trunk: Backbone) -> None:
        super().__init__()
        self.kind = kind
        self.translators = nn.ModuleDict(translators)
        self.backbone, self.pool, self.dim = trunk, MeanPool(), trunk.channels

    def unify(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """(B, 3, H, W) and (B, 1, H, W) pictures of the same scenes in [-1, 1] -> those of the kind, unified."""
        return unified(None if self.kind == "infrared" else visible, None if self.kind == "visible" else infrared)

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) unified images -> (B, D), in float32 where the network computes in 16 bits."""
        pooled: Tensor = self.pool(self.backbone(images))
        return pooled

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) ImageNet-normalised images, (B,) modalities -> (B, D), not normalised."""
        whole = by_modality(self._of_visible, self._of_infrared, images, modality, training=self.training)
        return self.embed(whole)

    def _of_visible(self, images: Tensor) -> Tensor:
        visible = signed(images)
        if self.kind == "visible":
            return unified(visible, None)
        return self.unify(visible, self.translators["infrared"](visible))

    def _of_infrared(self, images: Tensor) -> Tensor:
        infrared = infrared_channel(images)
        if self.kind == "infrared":
            return unified(None, infrared)
        return self.unify(self.translators["visible"](infrared), infrared)
