"""The two-stream baseline: a ResNet-50 for each spectrum, one shared embedding, identity loss.

The plain network that visible-infrared papers of 2019 and 2020 start from, as Mang Ye and others published it before
their survey (Ye, Shen, Lin, Xiang, Shao and Hoi, Deep Learning for Person Re-identification, TPAMI 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Recipe, Step
from visir.nets.two_streams import TwoStreams, feature_network

SLOPE = 0.1  # of the leaky ReLU below zero


@dataclass(frozen=True)
class TwoStreamConfig(MethodConfig):
    """The published numbers.

    Attributes:
        dim: length of the shared embedding.
        dropout: probability that a number of the embedding is dropped in front of the classifier: 0 on SYSU-MM01, 0.5
            on RegDB.
        recipe: the backbones ten times slower than what is shared; published runs take 80 epochs.
    """

    stream: Stream = field(
        default_factory=lambda: Stream(
            IdentityBalanced(32, 1), height=288, width=144, augment=Augment(flip=0.5, pad=10)
        )
    )
    dim: int = 512
    dropout: float = 0.0
    recipe: Recipe = field(
        default_factory=lambda: Recipe(backbone_rate=0.001, head_rate=0.01, nesterov=True, drops=(30.0, 60.0))
    )

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError("dim must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")


class EmbeddingEncoder(nn.Module):
    """A stream for each spectrum, then one shared linear layer with batch normalisation.

    Args:
        stream: (b, 3, H, W) -> (b, channels), the visible stream; the infrared one is a copy.
        channels: length of its features.
        dim: D.

    Attributes:
        dim: D.
    """

    def __init__(self, stream: nn.Module, channels: int, *, dim: int) -> None:
        super().__init__()
        self.streams, self.dim = TwoStreams(stream), dim
        linear, normalise = nn.Linear(channels, dim), nn.BatchNorm1d(dim)
        nn.init.kaiming_normal_(linear.weight, mode="fan_out")
        nn.init.zeros_(linear.bias)
        nn.init.normal_(normalise.weight, 1.0, 0.01)
        self.embedding = nn.Sequential(linear, normalise)

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) images and their (B,) modalities -> (B, D), not normalised."""
        embedded: Tensor = self.embedding(self.streams(images, modality))
        return embedded


class TwoStream(EmbeddingMethod[TwoStreamConfig]):
    """Two backbones, one embedding, one classifier behind a leaky ReLU."""

    Config = TwoStreamConfig
    encoder: EmbeddingEncoder

    def __init__(self, config: TwoStreamConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        size = (config.stream.height, config.stream.width)
        stream, channels = feature_network(config.backbone, weights=config.weights, image_size=size)
        self.encoder = EmbeddingEncoder(stream, channels, dim=config.dim)
        linear = nn.Linear(config.dim, num_identities)
        nn.init.normal_(linear.weight, std=0.001)
        nn.init.zeros_(linear.bias)
        self.classifier = nn.Sequential(nn.LeakyReLU(SLOPE), nn.Dropout(config.dropout), linear)

    def optimizer(self) -> Optim:
        """SGD, the two backbones slower than what they share."""
        shared = [*self.encoder.embedding.parameters(), *self.classifier.parameters()]
        return self.config.recipe.optim(backbone=self.encoder.streams.parameters(), head=shared)

    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """The identity loss of a batch, its visible half first."""
        features: Tensor = self.encoder(batch.images, batch.modality)
        with torch.autocast(features.device.type, enabled=False):
            return {"identity": identity_loss(self.classifier(full(features)), batch.identity)}


METHOD = TwoStream
