"""Center pull: draw the two spectral centres of every identity together. A whole method in one file, outside visir."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import IdentityBalanced, Stream
from visir.core.types import Modality
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Step, step_decay
from visir.nets.backbones import backbone


@dataclass(frozen=True)
class CenterPullConfig(MethodConfig):
    """``pull`` weighs the distance of the centres against the identity loss."""

    stream: Stream = field(default_factory=lambda: Stream(IdentityBalanced(8, 4), height=256, width=128))
    pull: float = 0.5
    rate: float = 0.05


class MeanEncoder(nn.Module):
    """A backbone, averaged over the image and normalised over the batch."""

    def __init__(self, config: CenterPullConfig) -> None:
        super().__init__()
        size = (config.stream.height, config.stream.width)
        self.backbone = backbone(config.backbone, weights=config.weights, image_size=size)
        self.dim = self.backbone.channels
        self.normalise = nn.BatchNorm1d(self.dim)

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D)."""
        pooled: Tensor = self.normalise(self.backbone(images).mean((2, 3)))
        return pooled


class CenterPull(EmbeddingMethod[CenterPullConfig]):
    """Identity loss and pull."""

    Config = CenterPullConfig

    def __init__(self, config: CenterPullConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        self.encoder = MeanEncoder(config)
        self.classifier = nn.Linear(self.encoder.dim, num_identities, bias=False)

    def optimizer(self) -> Optim:
        """One rate for everything."""
        return Optim(torch.optim.SGD(self.parameters(), self.config.rate, momentum=0.9), step_decay(40))

    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Both terms see the images of all ranks."""
        features = step.gather(full(self.encoder(batch.images, batch.modality)))
        identity, modality = step.gather(batch.identity), step.gather(batch.modality)
        distances = []
        for person in identity.unique():
            visible = features[(identity == person) & (modality == Modality.VISIBLE)].mean(0)
            infrared = features[(identity == person) & (modality == Modality.INFRARED)].mean(0)
            distances.append((visible - infrared).square().mean())
        return {
            "identity": identity_loss(self.classifier(features), identity),
            "pull": self.config.pull * torch.stack(distances).mean(),
        }


METHOD = CenterPull
