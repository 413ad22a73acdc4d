"""DEEN: more, and different, embeddings of every image, made inside the network.

Zhang and Wang, Diverse Embedding Expansion Network and Low-Light Cross-Modality Benchmark for Visible-Infrared Person
Re-identification, CVPR 2023. Behind a stage of a network with two stems, branches of dilated convolutions make further
maps of every image, which go through the rest as images of their own. A pair mining loss on the centres of identities
draws what was made of one spectrum to the other and away from its original, an orthogonal loss keeps the branches
apart, and every stage also sees the map before it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.core.errors import ConfigError
from visir.losses.diversity import center_mining_loss, orthogonal_loss
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.losses.triplet import triplet_loss
from visir.methods._halves import check_halves, require_pairs
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Recipe, Step
from visir.nets.aggregation import StageAggregation
from visir.nets.bnneck import BNNeck, neck_classifier
from visir.nets.expansion import DiverseExpansion
from visir.nets.pooling import Pooling, pooling
from visir.nets.stems import TwoStems, two_stems

STAGES = 4
Fusion = Literal["mean", "concatenation", "original"]


@dataclass(frozen=True)
class DEENConfig(MethodConfig):
    """The numbers of the paper; where it gives none, those of AGW, on which it builds. 150 epochs.

    Attributes:
        stages: stages of a ResNet that are kept; RegDB does without the fourth.
        expand_after: the stage behind which embeddings multiply, 0 for the stems: 3, on RegDB 2.
        branches: embeddings of an image, its original among them; 1 for no expansion.
        aggregation: every stage also sees the map before it.
        fusion: how the embeddings of an image become one: their mean, one after the other, or the original alone,
            which takes a third of the time behind the expansion.
        margin: of batch-hard triplets.
        mining: weight of the pair mining loss, 0 leaves it out; it needs at least two branches.
        center_margin: its margin.
        orthogonality: weight of the orthogonal loss, 0 leaves it out; it needs at least three branches.
        pooling: generalised mean with p = 3, or mean.
        last_stride: 1 keeps the resolution of a ResNet's third stage.
        recipe: the neck and the classifier ten times as fast as the rest.

    Networks other than ResNets need ``aggregation: false`` and ``expand_after: 4``, behind their last layer.
    """

    stream: Stream = field(
        default_factory=lambda: Stream(
            IdentityBalanced(6, 4), height=384, width=144, augment=Augment(flip=0.5, erase=0.5)
        )
    )
    stages: Literal[3, 4] = 4
    expand_after: Literal[0, 1, 2, 3, 4] = 3
    branches: int = 3
    aggregation: bool = True
    fusion: Fusion = "mean"
    margin: float = 0.3
    mining: float = 0.8
    center_margin: float = 0.2
    orthogonality: float = 0.1
    pooling: Pooling = "gem"
    last_stride: Literal[1, 2] = 1
    recipe: Recipe = field(
        default_factory=lambda: Recipe(backbone_rate=0.01, head_rate=0.1, warmup=10, drops=(20.0, 60.0, 120.0))
    )

    def __post_init__(self) -> None:
        if self.branches < 1:
            raise ValueError("branches must be at least 1")
        if self.expand_after > self.stages:
            raise ValueError(f"expand_after must be one of the {self.stages} stages that are kept")
        for name in ("margin", "mining", "center_margin", "orthogonality"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0")


class ExpansionEncoder(nn.Module):
    """Two stems, stages with an expansion between them, pooling, neck.

    Args:
        network: the two stems and what they share; it is changed.
        config: which parts it has.

    Attributes:
        branches: K, embeddings of an image.
        dim: D, the length of the fused embedding.
    """

    def __init__(self, network: TwoStems, config: DEENConfig) -> None:
        super().__init__()
        self.network, self.branches, self.fusion = network, config.branches, config.fusion
        self.stages, self.expand_after = config.stages, config.expand_after
        last = config.branches == 1 or config.expand_after == STAGES
        self.whole = config.stages == STAGES and not config.aggregation and last  # any network can do that
        widths = [network.channels] if self.whole else _widths(network, config.stages)
        self.expansion = DiverseExpansion(widths[-1 if last else config.expand_after], branches=config.branches)
        pairs = itertools.pairwise(widths) if config.aggregation else ()
        self.aggregations = nn.ModuleList(StageAggregation(low, high) for low, high in pairs)
        self.pool, self.neck = pooling(config.pooling), BNNeck(widths[-1])
        self.dim = widths[-1] * (config.branches if config.fusion == "concatenation" else 1)

    @overload
    def forward(self, images: Tensor, modality: Tensor) -> Tensor: ...

    @overload
    def forward(self, images: Tensor, modality: Tensor, *, every: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def forward(self, images: Tensor, modality: Tensor, *, every: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """(B, 3, H, W) images and their (B,) modalities -> (B, D), not normalised.

        Args:
            images: ImageNet-normalised.
            modality: (B,) int64.
            every: give all embeddings instead, before and behind the neck: (B, K, C) and (B, K, C), the original
                first.
        """
        if not every and self.fusion == "original":
            return self.neck(self.pool(self._maps(images, modality, expand=False)))  # type: ignore[no-any-return]
        pooled: Tensor = self.pool(self._maps(images, modality, expand=True))
        embedded: Tensor = self.neck(pooled)
        shape = (self.branches, -1, pooled.shape[1])
        each = embedded.view(shape).transpose(0, 1)
        if every:
            return pooled.view(shape).transpose(0, 1), each
        return each.mean(1) if self.fusion == "mean" else each.flatten(1)

    def _maps(self, images: Tensor, modality: Tensor, *, expand: bool) -> Tensor:
        """(K * B, C, h, w), or (B, C, h, w) of the originals alone."""
        features = self.network.stem(images, modality, training=self.training)
        if self.whole:
            features = self.network.rest(features)
            return self.expansion(features) if expand else features
        for number, stage in enumerate(self.network.stages[: self.stages]):
            if expand and number == self.expand_after:
                features = self.expansion(features)
            before, features = features, stage(features)
            if self.aggregations:
                features = self.aggregations[number](before, features)
        return self.expansion(features) if expand and self.expand_after == self.stages else features


def _widths(network: TwoStems, stages: int) -> list[int]:
    """Channels behind the stems and behind each stage; what lies behind the last one is taken out."""
    try:
        each = network.stage_channels
    except ConfigError as error:
        raise ConfigError(
            f"{error} Or set with.aggregation to false and with.expand_after to {STAGES}, behind the last layer."
        ) from error
    trunk: Any = network.shared.trunk
    if stages < STAGES:
        trunk.layer4 = nn.Sequential()
    return [int(trunk.feature_info[0]["num_chs"]), *each[:stages]]


class DEEN(EmbeddingMethod[DEENConfig]):
    """Diverse embedding expansion; see :class:`DEENConfig` for its switches.

    Raises:
        ConfigError: a stream that does not draw images of one identity in both spectra, or a backbone that cannot have
            two stems, or modules between its stages.
    """

    Config = DEENConfig
    encoder: ExpansionEncoder

    def __init__(self, config: DEENConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        stream = config.stream
        require_pairs("DEEN", stream)
        network = two_stems(
            config.backbone,
            weights=config.weights,
            image_size=(stream.height, stream.width),
            last_stride=config.last_stride,
        )
        self.encoder = ExpansionEncoder(network, config)
        self.classifier = neck_classifier(self.encoder.neck.num_features, num_identities)

    def optimizer(self) -> Optim:
        """SGD, the network, with what is put into it, slower than neck and classifier."""
        encoder = self.encoder
        new = [*encoder.neck.trainable(), *self.classifier.parameters()]
        slow = [p for part in (encoder.network, encoder.expansion, encoder.aggregations) for p in part.parameters()]
        return self.config.recipe.optim(backbone=slow, head=new)

    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Identity, triplet, pair mining and orthogonal loss (eq. 10) of a batch whose visible half comes first.

        Raises:
            TrainingError: at the first step, a batch that is not of this order.
        """
        if step.index == 0:
            check_halves("DEEN", batch)
        config, half = self.config, len(batch) // 2
        pooled, embedded = self.encoder(batch.images, batch.modality, every=True)
        with torch.autocast(pooled.device.type, enabled=False):
            local = full(pooled)
            visible, infrared = (step.gather(part) for part in local.chunk(2))  # (N, K, C) of all ranks
            identities = step.gather(batch.identity[:half])
            logits = self.classifier(full(embedded).flatten(0, 1))
            every = torch.cat([visible, infrared]).flatten(0, 1)
            whose = identities.repeat(2).repeat_interleave(config.branches)
            terms = {
                "identity": identity_loss(logits, batch.identity.repeat_interleave(config.branches)),
                "triplet": triplet_loss(every, whose, margin=config.margin),
            }
            if config.mining and config.branches > 1:
                originals, made = (visible[:, 0], infrared[:, 0]), (visible[:, 1:], infrared[:, 1:])
                mined = center_mining_loss(*originals, *made, identities, margin=config.center_margin)
                terms["mining"] = config.mining * mined
            if config.orthogonality and config.branches > 2:
                terms["orthogonality"] = config.orthogonality * orthogonal_loss(local[:, 1:])
            return terms


METHOD = DEEN
