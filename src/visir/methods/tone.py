"""TONE: two streams, identified by one classifier, with pairs of one identity drawn together.

Ye, Lan, Li and Yuen, Hierarchical Discriminative Learning for Visible Thermal Person Re-identification, AAAI 2018. Its
features are also what the metric learning of that paper (HCML) and of the tables that quote it (XQDA, MLAPG) starts
from; ``metric`` adds it as a closed-form stage behind the last step.
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
from visir.losses.contrastive import contrastive_loss
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.methods._halves import check_halves, require_pairs
from visir.methods._projection import fit_projection
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Recipe, Sample, Step
from visir.nets.alexnet import ALEXNETS
from visir.nets.projected import Projected
from visir.nets.two_streams import TwoStreamEncoder, shared_classifier


@dataclass(frozen=True)
class TONEConfig(MethodConfig):
    """The numbers of the authors' code.

    Attributes:
        backbone: ``alexnet``, the paper's (see :mod:`visir.nets.alexnet`), or any timm name, averaged over the image
            and batch-normalised.
        contrast: weight of the contrastive loss, 0 leaves it out.
        margin: which pairs of different identities should be apart, between features of length 1.
        dim: length of the embedding.
        dropout: in front of the shared layer and of the classifier.
        metric: learnt behind the trained features, on their coordinates along ``principal`` axes; "none" compares the
            features by angle.
        principal: most principal axes, and most dimensions behind the metric.
        recipe: one rate for all, constant.
    """

    backbone: str = "alexnet"
    stream: Stream = field(
        default_factory=lambda: Stream(Pairs(64), height=227, width=227, augment=Augment(flip=0.0, enlarge=29))
    )
    contrast: float = 0.2
    margin: float = 0.5
    dim: int = 2048
    dropout: float = 0.5
    metric: Literal["none", "xqda", "mlapg", "hcml"] = "none"
    principal: int = 600
    recipe: Recipe = field(
        default_factory=lambda: Recipe(backbone_rate=0.001, head_rate=0.001, weight_decay=0.0, nesterov=False)
    )

    def __post_init__(self) -> None:
        for name in ("dim", "principal"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("contrast", "margin"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")


class TONE(EmbeddingMethod[TONEConfig]):
    """Two-stream network with identity and contrastive losses; see :class:`TONEConfig` for its switches.

    Raises:
        ConfigError: a stream that does not draw images of one identity in both spectra, or an unfit backbone.
    """

    Config = TONEConfig
    encoder: TwoStreamEncoder | Projected

    def __init__(self, config: TONEConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        require_pairs("TONE", config.stream)
        network = TwoStreamEncoder(
            config.backbone,
            weights=config.weights,
            image_size=(config.stream.height, config.stream.width),
            dim=config.dim,
            dropout=config.dropout,
            normalise=config.backbone not in ALEXNETS,  # fc6 goes on as it is
        )
        self.encoder = network
        if config.metric != "none":
            self.encoder = Projected(network, dim=min(config.principal, config.dim), distance="euclidean")
        self.classifier = shared_classifier(config.dim, num_identities, dropout=config.dropout)

    def optimizer(self) -> Optim:
        """SGD; the two streams are what may be pretrained."""
        new = [*self.network.embedding.parameters(), *self.classifier.parameters()]
        return self.config.recipe.optim(backbone=self.network.streams.parameters(), head=new)

    @property
    def network(self) -> TwoStreamEncoder:
        """The part that is trained."""
        found = self.encoder.features if isinstance(self.encoder, Projected) else self.encoder
        assert isinstance(found, TwoStreamEncoder)
        return found

    def raw(self) -> nn.Module | None:
        """The trained features, where a metric is learnt behind them."""
        return self.network if self.config.metric != "none" else None

    def fit(self, sample: Sample) -> Mapping[str, float]:
        """Learn the metric; see :func:`visir.methods._projection.fit_projection`."""
        if self.config.metric == "none" or not isinstance(self.encoder, Projected):
            return {}
        return fit_projection(self.encoder, sample, metric=self.config.metric, principal=self.config.principal)

    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Identity loss of all images, contrastive loss of pairs: one half of one identity, the other drawn at random.

        Raises:
            TrainingError: at the first step, a batch that is not N visible images, then N infrared ones of the same
                identities.
        """
        if step.index == 0:
            check_halves("TONE", batch)
        features = self.network(batch.images, batch.modality)
        config = self.config
        with torch.autocast(features.device.type, enabled=False):
            features = full(features)
            terms = {"identity": identity_loss(self.classifier(features), batch.identity)}
            if config.contrast:
                visible, infrared = (step.gather(half) for half in features.chunk(2))
                identity = step.gather(batch.identity.chunk(2)[0])
                other = partners(len(visible), step.generator).to(identity.device, non_blocking=True)
                alike = identity == identity[other]  # the random half has pairs of one identity too, if few
                pulled = contrastive_loss(visible, infrared[other], alike, margin=config.margin)
                terms["contrastive"] = config.contrast * pulled
            return terms


def partners(count: int, generator: torch.Generator) -> Tensor:
    """The place of the infrared image that each of ``count`` visible ones is paired with.

    (count,) int64; the first half its own, the rest by chance. Drawn for the batch of all ranks, so that the pairs are
    the same however many there are.
    """
    own = torch.arange(count)
    drawn = torch.randperm(count, generator=generator)
    return torch.where(own < count // 2, own, drawn)


METHOD = TONE
