"""BDTR: two streams, ranked against each other in both directions, with a constraint inside each spectrum.

Ye, Wang, Lan and Yuen, Visible Thermal Person Re-identification via Dual-Constrained Top-Ranking, IJCAI 2018. Switches
give its ablations (BCTR, which leaves out the constraint; top-ranking from visible to infrared alone) and, as an
experiment, eBDTR (Ye, Lan, Wang and Yuen, IEEE TIFS 2020), which puts both constraints into one hinge around centres.
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
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.losses.ranking import center_ranking_loss, intra_ranking_loss, top_ranking_loss
from visir.methods._halves import check_halves, require_pairs
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Recipe, Step
from visir.nets.two_streams import TwoStreamEncoder, shared_classifier


@dataclass(frozen=True)
class BDTRConfig(MethodConfig):
    """The numbers of the paper and of its authors' code; 64 identities with one image of each spectrum.

    Attributes:
        backbone: ``alexnet``, the paper's (see :mod:`visir.nets.alexnet`), or any timm name, averaged over the image.
        ranking: weight of the ranking terms against the identity loss, 0 leaves them out; a larger one helps on RegDB.
        margin: of the ranking, between features of length 1.
        intra: weight of the constraint inside each spectrum, relative to the ranking; 0 leaves it out (BCTR).
        intra_margin: its margin.
        directions: "both", or "v2t" for visible anchors alone (top-ranking).
        constraint: "cross" ranks images; "center" ranks around centres (eBDTR, experimental), which includes the
            constraint inside each spectrum, so that ``intra`` and ``intra_margin`` play no part.
        dim: length of the embedding.
        dropout: in front of the shared layer and of the classifier.
        recipe: one rate for all, constant.
    """

    backbone: str = "alexnet"
    stream: Stream = field(
        default_factory=lambda: Stream(
            IdentityBalanced(64, 1), height=227, width=227, augment=Augment(flip=0.0, enlarge=29)
        )
    )
    ranking: float = 1.0
    margin: float = 0.5
    intra: float = 0.1
    intra_margin: float = 0.1
    directions: Literal["both", "v2t"] = "both"
    constraint: Literal["cross", "center"] = "cross"
    dim: int = 1024
    dropout: float = 0.5
    recipe: Recipe = field(
        default_factory=lambda: Recipe(backbone_rate=0.001, head_rate=0.001, weight_decay=0.0, nesterov=False)
    )

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError("dim must be at least 1")
        for name in ("ranking", "margin", "intra", "intra_margin"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")


class BDTR(EmbeddingMethod[BDTRConfig]):
    """Dual-constrained top-ranking; see :class:`BDTRConfig` for its switches.

    Raises:
        ConfigError: a stream that does not draw images of one identity in both spectra, or an unfit backbone.
    """

    Config = BDTRConfig
    encoder: TwoStreamEncoder

    def __init__(self, config: BDTRConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        require_pairs("BDTR", config.stream)
        self.encoder = TwoStreamEncoder(
            config.backbone,
            weights=config.weights,
            image_size=(config.stream.height, config.stream.width),
            dim=config.dim,
            dropout=config.dropout,
            normalise=True,
        )
        self.classifier = shared_classifier(config.dim, num_identities, dropout=config.dropout)

    def optimizer(self) -> Optim:
        """SGD; the two streams are what may be pretrained."""
        new = [*self.encoder.embedding.parameters(), *self.classifier.parameters()]
        return self.config.recipe.optim(backbone=self.encoder.streams.parameters(), head=new)

    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Identity loss, ranking, and the constraint inside each spectrum.

        Raises:
            TrainingError: at the first step, a batch that is not N visible images, then N infrared ones of the same
                identities.
        """
        if step.index == 0:
            check_halves("BDTR", batch)
        features = self.encoder(batch.images, batch.modality)
        with torch.autocast(features.device.type, enabled=False):
            features = full(features)
            terms = {"identity": identity_loss(self.classifier(features), batch.identity)}
            if self.config.ranking:
                halves = (*features.chunk(2), *batch.identity.chunk(2))
                terms |= self._ranking(*(step.gather(half) for half in halves))
            return terms

    def _ranking(
        self, visible: Tensor, infrared: Tensor, visible_identities: Tensor, infrared_identities: Tensor
    ) -> dict[str, Tensor]:
        config = self.config
        arguments = (visible, infrared, visible_identities, infrared_identities)
        loss = center_ranking_loss if config.constraint == "center" else top_ranking_loss
        terms = {"ranking": config.ranking * loss(*arguments, margin=config.margin, directions=config.directions)}
        if config.intra and config.constraint == "cross":
            apart = intra_ranking_loss(*arguments, margin=config.intra_margin, directions=config.directions)
            terms["intra"] = config.ranking * config.intra * apart
        return terms


METHOD = BDTR
