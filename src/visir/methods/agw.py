"""AGW: two stems, non-local attention, generalised mean pooling and a weighted triplet loss.

Ye, Shen, Lin, Xiang, Shao and Hoi, Deep Learning for Person Re-identification: A Survey and Outlook, TPAMI 2021, its
cross-modality version. ``AGW-base`` is the same network without the three: mean pooling and batch-hard triplets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from visir.core.batch import Batch
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.core.errors import ConfigError
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.losses.triplet import triplet_loss, weighted_triplet_loss
from visir.methods._halves import check_halves, require_pairs
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Recipe, Step
from visir.nets.bnneck import NeckEncoder, neck_classifier
from visir.nets.nonlocal_block import add_non_local
from visir.nets.pooling import Pooling, pooling
from visir.nets.stems import TwoStems, two_stems


@dataclass(frozen=True)
class AGWConfig(MethodConfig):
    """The numbers of the authors' cross-modality code; 81 epochs.

    Attributes:
        non_local: non-local blocks behind the last two blocks of a ResNet's second stage and the last three of its
            third.
        pooling: generalised mean with p = 3, or mean.
        triplet: ``weighted`` (which has no margin) or ``batch_hard``.
        margin: of batch-hard triplets.
        last_stride: 1 keeps the resolution of the ResNet's third stage.
        recipe: the neck and the classifier ten times as fast as the rest, non-local blocks among it.
    """

    stream: Stream = field(default_factory=lambda: Stream(IdentityBalanced(8, 4), augment=Augment(flip=0.5, pad=10)))
    non_local: bool = True
    pooling: Pooling = "gem"
    triplet: Literal["weighted", "batch_hard"] = "weighted"
    margin: float = 0.3
    last_stride: Literal[1, 2] = 1
    recipe: Recipe = field(
        default_factory=lambda: Recipe(backbone_rate=0.01, head_rate=0.1, warmup=10, drops=(20.0, 50.0))
    )

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf:
            raise ValueError("margin must be a finite number of at least 0")


class AGW(EmbeddingMethod[AGWConfig]):
    """Attention, generalised mean pooling, weighted triplets; see :class:`AGWConfig` for its switches.

    Raises:
        ConfigError: a stream whose batches hold no two images of one identity, or a backbone that cannot have two
            stems or non-local blocks.
    """

    Config = AGWConfig
    encoder: NeckEncoder

    def __init__(self, config: AGWConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        stream = config.stream
        require_pairs("AGW", stream)
        network = two_stems(
            config.backbone,
            weights=config.weights,
            image_size=(stream.height, stream.width),
            last_stride=config.last_stride,
        )
        if config.non_local:
            _add_attention(network)
        self.encoder = NeckEncoder(network, pooling(config.pooling))
        self.classifier = neck_classifier(self.encoder.dim, num_identities)

    def optimizer(self) -> Optim:
        """SGD, the two streams slower than neck and classifier."""
        new = [*self.encoder.neck.trainable(), *self.classifier.parameters()]
        return self.config.recipe.optim(backbone=self.encoder.network.parameters(), head=new)

    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Identity loss of the embeddings, triplet loss of the pooled features of all ranks; the visible half first.

        Raises:
            TrainingError: at the first step, a batch that is not of this order.
        """
        if step.index == 0:
            check_halves("AGW", batch)
        pooled, embedded = self.encoder(batch.images, batch.modality, both=True)
        with torch.autocast(pooled.device.type, enabled=False):
            features, identities = _joint(full(pooled), step), _joint(batch.identity, step)
            if self.config.triplet == "weighted":
                triplet = weighted_triplet_loss(features, identities)
            else:
                triplet = triplet_loss(features, identities, margin=self.config.margin)
            return {"identity": identity_loss(self.classifier(full(embedded)), batch.identity), "triplet": triplet}


def _joint(tensor: Tensor, step: Step) -> Tensor:
    """(B, ...) -> (world * B, ...): the visible images of all ranks, then the infrared ones."""
    return torch.cat([step.gather(half) for half in tensor.chunk(2)])


def _add_attention(network: TwoStems) -> None:
    try:
        add_non_local(network)
    except ConfigError as error:
        raise ConfigError(f"{error} Or set with.non_local to false.") from error


METHOD = AGW
