"""cmGAN: one network whose features should not give away the spectrum to a discriminator; experimental.

Dai, Ji, Wang, Wu and Huang, Cross-Modality Person Re-Identification with Generative Adversarial Training, IJCAI 2018.
Experimental: no code of the authors is public. Sizes of the heads, margin, weights and rates are those of a third
party's code, whose updates of both sides by one loss are not followed; images and epochs are choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.losses.all_triplets import two_way_all_triplets_loss
from visir.losses.identity import identity_loss
from visir.losses.modality import modality_loss
from visir.losses.precision import full
from visir.methods._halves import check_halves, require_pairs
from visir.methods.base import Method, MethodConfig, Optim, Recipe, Step
from visir.nets.backbones import Backbone, backbone
from visir.nets.modality_discriminator import ModalityDiscriminator
from visir.nets.pooling import MeanPool


@dataclass(frozen=True)
class CmGANConfig(MethodConfig):
    """The numbers of the third party's code; images are those of the two-stream baseline.

    Attributes:
        identity: weight of the identity loss, the sum of both spectra.
        triplet: weight of the triplets across the spectra, all that a batch has, the sum of both ways.
        margin: of the triplets, in Euclidean distance of features as they are.
        adversarial: weight of the modality loss that the features should make large; 0 leaves the discriminator out.
        every: every so many steps, from the first one, the discriminator learns, and the features stay as they are.
        hidden: length of the identity head's middle layer.
        decay: factor on all rates after every epoch.
        last_stride: 1 keeps the resolution of a ResNet's third stage.
        recipe: of features and identity head.
        discriminator: of the discriminator.
    """

    stream: Stream = field(
        default_factory=lambda: Stream(
            IdentityBalanced(16, 4), height=288, width=144, augment=Augment(flip=0.5, pad=10)
        )
    )
    identity: float = 1.0
    triplet: float = 1.0
    margin: float = 1.4
    adversarial: float = 0.05
    every: int = 5
    hidden: int = 512
    decay: float = 0.99
    last_stride: Literal[1, 2] = 2
    recipe: Recipe = field(
        default_factory=lambda: Recipe(backbone_rate=1e-4, head_rate=1e-4, weight_decay=0.0, nesterov=False)
    )
    discriminator: Recipe = field(
        default_factory=lambda: Recipe(backbone_rate=1e-3, head_rate=1e-3, weight_decay=0.0, nesterov=False)
    )

    def __post_init__(self) -> None:
        for name in ("identity", "triplet", "margin", "adversarial"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0")
        if not self.identity + self.triplet:
            raise ValueError("identity and triplet are both 0: nothing tells people apart")
        if self.every < 2:
            raise ValueError("every must be at least 2: features learn in the other steps")
        if self.hidden < 1:
            raise ValueError("hidden must be at least 1")
        if not 0 < self.decay <= 1:
            raise ValueError("decay must be above 0 and at most 1")


class SharedEncoder(nn.Module):
    """One network for both spectra, averaged over the image.

    Attributes:
        dim: D, the length of an embedding.
        distance: vectors are compared as the triplets compare them.
    """

    distance = "euclidean"

    def __init__(self, trunk: Backbone) -> None:
        super().__init__()
        self.backbone, self.pool, self.dim = trunk, MeanPool(), trunk.channels

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) images and their (B,) modalities, which share all weights -> (B, D), not normalised."""
        pooled: Tensor = self.pool(self.backbone(images))
        return pooled


class CmGAN(Method[CmGANConfig]):
    """Features against a modality discriminator, taking turns; experimental.

    Raises:
        ConfigError: a stream that does not draw images of one identity in both spectra.
    """

    Config = CmGANConfig
    encoder: SharedEncoder

    def __init__(self, config: CmGANConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        stream = config.stream
        require_pairs("cmGAN", stream)
        size = (stream.height, stream.width)
        self.encoder = SharedEncoder(
            backbone(config.backbone, weights=config.weights, image_size=size, last_stride=config.last_stride)
        )
        dim = self.encoder.dim
        self.classifier = nn.Sequential(
            nn.Linear(dim, config.hidden), nn.ReLU(), nn.Linear(config.hidden, num_identities)
        )
        self.discriminator = ModalityDiscriminator(dim) if config.adversarial else None

    def optimizers(self) -> Mapping[str, Optim]:
        """``main`` of features and identity head, and ``discriminator``."""
        config = self.config
        main = config.recipe.optim(backbone=self.encoder.parameters(), head=self.classifier.parameters())
        named = {"main": main}
        if self.discriminator is not None:
            named["discriminator"] = config.discriminator.optim(head=self.discriminator.parameters())
        return {name: replace(optim, schedule=_decaying(optim.schedule, config.decay)) for name, optim in named.items()}

    def train_step(self, batches: Mapping[str, Batch], step: Step) -> Mapping[str, Tensor]:
        """Minimize the discriminator's loss in its turn, otherwise that of the features.

        Raises:
            TrainingError: at the first step, a batch that is not its visible half and then its infrared one.
        """
        batch = batches["main"]
        if step.index == 0:
            check_halves("cmGAN", batch)
        if self.discriminator is not None and step.index % self.config.every == 0:
            return self._tell(self.discriminator, batch, step)
        terms = self._terms(batch, step)
        step.minimize(torch.stack(list(terms.values())).sum(), "main")
        return terms

    def _tell(self, discriminator: ModalityDiscriminator, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        with torch.no_grad():
            features = self.encoder(batch.images, batch.modality)
        told = _over_spectra(discriminator(features), batch.modality)
        step.minimize(told, "discriminator")
        return {"discriminator": told}

    def _terms(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        config, terms = self.config, {}
        features: Tensor = self.encoder(batch.images, batch.modality)
        named = self.classifier(features) if config.identity else None
        told = self.discriminator(features) if self.discriminator is not None else None
        with torch.autocast(features.device.type, enabled=False):
            if named is not None:
                halves = zip(full(named).chunk(2), batch.identity.chunk(2), strict=True)
                spectra = torch.stack([identity_loss(logits, identity) for logits, identity in halves])
                terms["identity"] = config.identity * spectra.sum()
            if config.triplet:
                sets = [step.gather(half) for half in full(features).chunk(2)]
                known = [step.gather(half) for half in batch.identity.chunk(2)]
                terms["triplet"] = config.triplet * two_way_all_triplets_loss(*sets, *known, margin=config.margin)
            if told is not None:
                terms["adversarial"] = -config.adversarial * _over_spectra(told, batch.modality)
        return terms


def _over_spectra(logits: Tensor, modality: Tensor) -> Tensor:
    """The modality loss of the visible images plus that of the infrared ones."""
    with torch.autocast(logits.device.type, enabled=False):
        halves = zip(full(logits).chunk(2), modality.chunk(2), strict=True)
        return torch.stack([modality_loss(half, own) for half, own in halves]).sum()


def _decaying(schedule: Callable[[float], float], decay: float) -> Callable[[float], float]:
    """The schedule times ``decay`` after every whole epoch."""
    return lambda epoch: schedule(epoch) * decay ** math.floor(epoch)


METHOD = CmGAN
