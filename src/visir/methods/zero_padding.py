"""Deep zero-padding, and the three networks that it is compared with: one stream, two streams, asymmetric FC.

Wu, Zheng, Yu, Gong and Lai, RGB-Infrared Cross-Modality Person Re-Identification, ICCV 2017. Images of both spectra are
grey. With zero-padding each spectrum has an input channel of its own, so that one network with shared weights can learn
nodes that answer to one spectrum only, and nodes that answer to both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, Stream, Unpaired
from visir.core.types import Modality
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Recipe, Step
from visir.nets.backbones import Backbone
from visir.nets.resnet6 import RESNET6, Luma, grey_backbone, zero_padded
from visir.nets.routing import by_modality
from visir.nets.two_streams import PooledBackbone, TwoStreams

Network = Literal["one-stream", "two-stream", "asymmetric-fc", "zero-padding"]


@dataclass(frozen=True)
class ZeroPaddingConfig(MethodConfig):
    """The numbers of the paper and of a public reimplementation.

    Attributes:
        backbone: ``resnet6``, the paper's; ``tiny`` and timm's names work too, with one or two input channels.
        network: ``one-stream`` shares all weights; ``two-stream`` has a backbone for each spectrum;
            ``asymmetric-fc`` shares the backbone and has a fully connected layer for each spectrum behind it;
            ``zero-padding`` is one stream that gets each spectrum on an input channel of its own.
        recipe: one rate for all, as nothing is pretrained.
    """

    backbone: str = RESNET6
    stream: Stream = field(
        default_factory=lambda: Stream(Unpaired(32), height=224, width=224, augment=Augment(flip=0.0, pad=22))
    )
    network: Network = "zero-padding"
    recipe: Recipe = field(default_factory=lambda: Recipe(backbone_rate=0.001, head_rate=0.001, nesterov=False))


class GreyEncoder(nn.Module):
    """Images of either spectrum, made grey -> features, compared by their Euclidean distance.

    Args:
        trunk: for two input channels with zero-padding, for one otherwise; two streams copy it.
        network: which of the four.

    Attributes:
        dim: D, the channels of the backbone.
    """

    distance: ClassVar[Literal["cosine", "euclidean"]] = "euclidean"

    def __init__(self, trunk: Backbone, network: Network) -> None:
        super().__init__()
        self.network, self.dim, self.luma = network, trunk.channels, Luma()
        stream = PooledBackbone(trunk)
        self.stream: nn.Module = TwoStreams(stream) if network == "two-stream" else stream
        own = len(Modality) if network == "asymmetric-fc" else 0
        self.own = nn.ModuleList(nn.Linear(self.dim, self.dim) for _ in range(own))

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) ImageNet-normalised images and their (B,) modalities -> (B, D), not normalised."""
        grey = self.luma(images)
        if self.network == "two-stream":
            return self.stream(grey, modality)  # type: ignore[no-any-return]
        features: Tensor = self.stream(zero_padded(grey, modality) if self.network == "zero-padding" else grey)
        if self.network == "asymmetric-fc":
            return by_modality(self.own[0], self.own[1], features, modality, training=self.training)
        return features


class ZeroPadding(EmbeddingMethod[ZeroPaddingConfig]):
    """Identity loss over both spectra with one shared classifier; see :class:`ZeroPaddingConfig` for the networks."""

    Config = ZeroPaddingConfig
    pretrained = False
    encoder: GreyEncoder

    def __init__(self, config: ZeroPaddingConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        trunk = grey_backbone(
            config.backbone,
            weights=config.weights,
            image_size=(config.stream.height, config.stream.width),
            in_channels=2 if config.network == "zero-padding" else 1,
        )
        self.encoder = GreyEncoder(trunk, config.network)
        self.classifier = nn.Linear(self.encoder.dim, num_identities)

    def optimizer(self) -> Optim:
        """SGD; the second rate is that of the fully connected layers."""
        new = [*self.encoder.own.parameters(), *self.classifier.parameters()]
        return self.config.recipe.optim(backbone=self.encoder.stream.parameters(), head=new)

    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """The identity loss of a batch, its visible half first."""
        features: Tensor = self.encoder(batch.images, batch.modality)
        with torch.autocast(features.device.type, enabled=False):
            return {"identity": identity_loss(self.classifier(full(features)), batch.identity)}


METHOD = ZeroPadding
