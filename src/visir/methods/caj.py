"""CAJ: every visible image learns together with a copy of it whose colour says nothing.

Ye, Ruan, Du and Shou, Channel Augmented Joint Learning for Visible-Infrared Recognition, ICCV 2021. The network is that
of AGW. Three sets of images learn together: visible ones, copies of them with one colour channel in the place of all
three, and infrared ones; a weighted triplet loss on squared differences mixes them. Random erasing is an augmentation
of the stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, overload

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.core.errors import ConfigError
from visir.core.types import Modality
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.losses.squared_difference import squared_difference_loss
from visir.losses.triplet import weighted_triplet_loss
from visir.methods._halves import check_halves, require_pairs
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Recipe, Step
from visir.nets.bnneck import BNNeck, neck_classifier
from visir.nets.channels import GREY, ChannelExchange
from visir.nets.nonlocal_block import add_non_local
from visir.nets.pooling import Pooling, pooling
from visir.nets.stems import TwoStems, two_stems


@dataclass(frozen=True)
class CAJConfig(MethodConfig):
    """The published numbers; where none are known, those of AGW, on which it builds. 100 epochs.

    Attributes:
        joint: every visible image enters a second time, with one channel in the place of all three; mirrored, cropped
            and erased as it is.
        grey: share of these copies that are grey instead; the rest is red, green or blue with equal chance.
        triplet: ``squared``: weighted triplets on the squared difference; ``weighted``: as AGW, not squared.
        sharpness: how much the hardest distances of an anchor weigh in ``squared``.
        gain: of the squared difference.
        non_local: non-local blocks in a ResNet's second and third stage, as AGW has them. Other networks need
            ``false``.
        pooling: generalised mean with p = 3, or mean.
        last_stride: 1 keeps the resolution of a ResNet's third stage.
        mirror: embed an image as the mean of it and its mirror image, as the published evaluation does; it takes twice
            the time.
        recipe: the neck and the classifier ten times as fast as the rest.
    """

    stream: Stream = field(
        default_factory=lambda: Stream(IdentityBalanced(8, 4), augment=Augment(flip=0.5, pad=10, erase=0.5))
    )
    joint: bool = True
    grey: float = 0.25
    triplet: Literal["squared", "weighted"] = "squared"
    sharpness: float = 1.0
    gain: float = 1.0
    non_local: bool = True
    pooling: Pooling = "gem"
    last_stride: Literal[1, 2] = 1
    mirror: bool = True
    recipe: Recipe = field(
        default_factory=lambda: Recipe(backbone_rate=0.01, head_rate=0.1, warmup=10, drops=(20.0, 50.0))
    )

    def __post_init__(self) -> None:
        if not 0 <= self.grey <= 1:
            raise ValueError("grey must be from 0 to 1")
        for name in ("sharpness", "gain"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number above 0")


class MirrorEncoder(nn.Module):
    """Two stems, shared layers, pooling, neck; in evaluation, the mean over an image and its mirror image.

    Args:
        network: the two stems and what they share.
        pool: (B, C, h, w) -> (B, C).
        mirror: whether mirror images count.

    Attributes:
        dim: D = C, the length of an embedding.
    """

    def __init__(self, network: TwoStems, pool: nn.Module, *, mirror: bool) -> None:
        super().__init__()
        self.network, self.pool, self.mirror, self.dim = network, pool, mirror, network.channels
        self.neck = BNNeck(network.channels)

    @overload
    def forward(self, images: Tensor, modality: Tensor) -> Tensor: ...

    @overload
    def forward(self, images: Tensor, modality: Tensor, *, visible: int) -> tuple[Tensor, Tensor]: ...

    def forward(
        self, images: Tensor, modality: Tensor, *, visible: int | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """(B, 3, H, W) images and their (B,) modalities -> (B, D), not normalised.

        Args:
            images: ImageNet-normalised.
            modality: (B,) int64; not looked at where ``visible`` is given.
            visible: for training, how many of the images, the first ones, are visible; then the result is the pooled
                features and the embedding.
        """
        if visible is not None:
            seen = self.network.of(Modality.VISIBLE)(images[:visible])
            behind = torch.cat([seen, self.network.of(Modality.INFRARED)(images[visible:])])
            pooled = self.pool(self.network.rest(behind))
            return pooled, self.neck(pooled)
        embedded = self._embed(images, modality)
        if self.training or not self.mirror:
            return embedded
        return (embedded + self._embed(images.flip(3), modality)) / 2

    def _embed(self, images: Tensor, modality: Tensor) -> Tensor:
        embedded: Tensor = self.neck(self.pool(self.network(images, modality)))
        return embedded


class CAJ(EmbeddingMethod[CAJConfig]):
    """Channel-augmented joint learning; see :class:`CAJConfig` for its switches.

    Raises:
        ConfigError: a stream that does not draw images of one identity in both spectra, or a backbone that cannot have
            two stems or non-local blocks.
    """

    Config = CAJConfig
    encoder: MirrorEncoder

    def __init__(self, config: CAJConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        stream = config.stream
        require_pairs("CAJ", stream)
        network = two_stems(
            config.backbone,
            weights=config.weights,
            image_size=(stream.height, stream.width),
            last_stride=config.last_stride,
        )
        if config.non_local:
            _add_attention(network)
        self.encoder = MirrorEncoder(network, pooling(config.pooling), mirror=config.mirror)
        self.exchange = ChannelExchange()
        self.classifier = neck_classifier(self.encoder.dim, num_identities)

    def optimizer(self) -> Optim:
        """SGD, the network slower than neck and classifier."""
        new = [*self.encoder.neck.trainable(), *self.classifier.parameters()]
        return self.config.recipe.optim(backbone=self.encoder.network.parameters(), head=new)

    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Identity loss of all sets and the triplet loss over all of them, of a batch whose visible half comes first.

        Raises:
            TrainingError: at the first step, a batch that is not of this order.
        """
        if step.index == 0:
            check_halves("CAJ", batch)
        half = len(batch) // 2
        known = step.gather(batch.identity[:half])  # of the visible images of all ranks, and of the infrared ones
        sets = list(batch.images.chunk(2))
        if self.config.joint:
            choice = step.share(self._choices(len(known), step.generator))
            sets.insert(1, self.exchange(sets[0], choice.to(sets[0].device, non_blocking=True)))
        count = len(sets)
        pooled, embedded = self.encoder(torch.cat(sets), batch.modality, visible=(count - 1) * half)
        with torch.autocast(pooled.device.type, enabled=False):
            features = torch.cat([step.gather(part) for part in full(pooled).chunk(count)])
            named = identity_loss(self.classifier(full(embedded)), batch.identity[:half].repeat(count))
            return {"identity": named, "triplet": self._triplet(features, known.repeat(count))}

    def _triplet(self, features: Tensor, identities: Tensor) -> Tensor:
        config = self.config
        if config.triplet == "weighted":
            return weighted_triplet_loss(features, identities)
        return squared_difference_loss(features, identities, sharpness=config.sharpness, gain=config.gain)

    def _choices(self, count: int, generator: torch.Generator) -> Tensor:
        """Which channel each of ``count`` copies shows, as :class:`visir.nets.channels.ChannelExchange` takes it."""
        grey = torch.rand(count, generator=generator) < self.config.grey
        channel = torch.randint(0, 3, (count,), generator=generator)
        return torch.where(grey, GREY, channel)


def _add_attention(network: TwoStems) -> None:
    try:
        add_non_local(network)
    except ConfigError as error:
        raise ConfigError(f"{error} Or set with.non_local to false.") from error


METHOD = CAJ
