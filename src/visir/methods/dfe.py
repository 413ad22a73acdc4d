"""DFE: parts aligned in space, spectra aligned in distribution and in correlation.

Hao, Wang, Gao, Li and Wang, Dual-alignment Feature Embedding for Cross-modality Person Re-identification, ACM
Multimedia 2019. One weight-shared PCB with six stripes reads both spectra; over pairs of one identity, the distribution
loss matches the moments of the six part features and the correlation loss matches who resembles whom in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, Pairs, Stream
from visir.losses.correlation import correlation_loss
from visir.losses.distribution import distribution_loss
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.methods._halves import check_halves, require_pairs
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Recipe, Step
from visir.nets.backbones import Backbone, backbone
from visir.nets.parts import PartClassifiers, PartReduction


@dataclass(frozen=True)
class DFEConfig(MethodConfig):
    """The numbers of the paper; where it gives none, those of PCB, on which it builds.

    Attributes:
        alpha: weight of the identity loss.
        beta: weight of the distribution loss: 1 on SYSU-MM01, 11 on RegDB, 0 leaves it out.
        gamma: weight of the correlation loss: 1 on SYSU-MM01, 2 on RegDB, 0 leaves it out.
        parts: number of horizontal stripes.
        dim: length of one part feature; the embedding has ``parts * dim``.
        last_stride: 1 keeps the resolution of the ResNet's third stage (24x8 cells of a 384x128 image).
        bn_split: normalise the two spectra of a training batch apart instead of jointly.
        recipe: the backbone slower than reduction and classifiers; the paper trains 20 epochs.
    """

    stream: Stream = field(default_factory=lambda: Stream(Pairs(32), height=384, width=128, augment=Augment(flip=0.5)))
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    parts: int = 6
    dim: int = 256
    last_stride: Literal[1, 2] = 1
    bn_split: bool = False
    recipe: Recipe = field(default_factory=lambda: Recipe(backbone_rate=0.01, head_rate=0.1, drops=(5.0, 10.0, 15.0)))

    def __post_init__(self) -> None:
        for name in ("parts", "dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("alpha", "beta", "gamma"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0")
        if not self.alpha + self.beta + self.gamma:
            raise ValueError("alpha, beta and gamma are all 0: there is nothing to learn")


class PartEncoder(nn.Module):
    """Images of either spectrum -> the part features of each, one after the other.

    Attributes:
        dim: D = parts * d, the length of an embedding.
    """

    def __init__(self, trunk: Backbone, reduction: PartReduction, *, dim: int) -> None:
        super().__init__()
        self.backbone, self.reduction, self.dim = trunk, reduction, dim

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) images and their (B,) modalities, which share all weights -> (B, D), not normalised."""
        parts: Tensor = self.reduction(self.backbone(images))
        return parts.flatten(1)


class DFE(EmbeddingMethod[DFEConfig]):
    """Dual-alignment feature embedding; see :class:`DFEConfig` for its switches.

    Raises:
        ConfigError: a stream that does not draw pairs of one identity.
    """

    Config = DFEConfig
    encoder: PartEncoder

    def __init__(self, config: DFEConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        stream = config.stream
        require_pairs("DFE", stream)
        trunk = backbone(
            config.backbone,
            weights=config.weights,
            image_size=(stream.height, stream.width),
            last_stride=config.last_stride,
        )
        reduction = PartReduction(trunk.channels, parts=config.parts, dim=config.dim)
        self.encoder = PartEncoder(trunk, reduction, dim=config.parts * config.dim)
        self.classifiers = PartClassifiers(parts=config.parts, dim=config.dim, num_identities=num_identities)

    def optimizer(self) -> Optim:
        """SGD, the backbone slower than what is new; both rates drop together."""
        new = [*self.encoder.reduction.parameters(), *self.classifiers.parameters()]
        return self.config.recipe.optim(backbone=self.encoder.backbone.parameters(), head=new)

    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Identity, distribution and correlation (eq. 15) of a batch of pairs, its visible half first.

        Raises:
            TrainingError: at the first step, a batch that is not of this order.
        """
        if step.index == 0:
            check_halves("DFE", batch)
        features = self._embed(batch)
        config = self.config
        with torch.autocast(features.device.type, enabled=False):  # eight bits are too few for a matrix near one
            parts = full(features).view(-1, config.parts, config.dim)
            visible, infrared = parts.chunk(2)
            terms: dict[str, Tensor] = {}
            if config.alpha:
                identities = batch.identity[: len(visible)]
                named = identity_loss(self.classifiers(visible), identities)
                terms["identity"] = config.alpha * (named + identity_loss(self.classifiers(infrared), identities))
            if config.beta:
                terms["distribution"] = config.beta * distribution_loss(visible, infrared)
            if config.gamma:
                resembling = correlation_loss(step.gather(visible.flatten(1)), step.gather(infrared.flatten(1)))
                terms["correlation"] = config.gamma * resembling
            return terms

    def _embed(self, batch: Batch) -> Tensor:
        if not self.config.bn_split:
            return self.encoder(batch.images, batch.modality)  # type: ignore[no-any-return]
        halves = zip(batch.images.chunk(2), batch.modality.chunk(2), strict=True)
        return torch.cat([self.encoder(images, modality) for images, modality in halves])


METHOD = DFE
