"""CE2L: two ranked streams that also learn from every image converted to the other spectrum.

Dai, Xie, Ma, Liu and Xiong, RGB-Infrared Person Re-Identification via Image Modality Conversion, ICPR 2020. A
translation network, trained beforehand without pairs, makes an infrared image of every visible one and the reverse. The
visible stream learns from visible images and converted infrared ones, the infrared stream likewise. As converted images
are noisy, their identities are smoothed. Without conversion this is BDTR (Ye et al., IJCAI 2018), term for term.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from visir.core.batch import Batch
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.core.errors import TrainingError
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.losses.ranking import intra_ranking_loss, top_ranking_loss
from visir.methods._halves import check_halves, require_pairs
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Recipe, Step
from visir.nets.two_streams import TwoStreamEncoder, shared_classifier


@dataclass(frozen=True)
class CE2LConfig(MethodConfig):
    """The numbers of the paper; margins and weights, of which it gives none, are those of BDTR's code.

    Attributes:
        backbone: ``alexnet`` (see :mod:`visir.nets.alexnet`), or any timm name, averaged over the image.
        stream: its ``converted`` follows ``conversion`` and ``direction``, whatever it is given as.
        conversion: learn from converted images too.
        direction: which converted images: infrared made visible ("ir2v"), visible made infrared ("v2ir"), or both.
        smoothing: epsilon of label smoothing, for converted images alone; 0 for hard labels.
        ranking: weight of both ranking terms against the identity loss, 0 leaves them out.
        margin: of the ranking, between features of length 1.
        intra: weight of the constraint inside each spectrum, relative to the ranking; 0 leaves it out.
        intra_margin: its margin.
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
    conversion: bool = True
    direction: Literal["both", "ir2v", "v2ir"] = "both"
    smoothing: float = 0.1
    ranking: float = 1.0
    margin: float = 0.5
    intra: float = 0.1
    intra_margin: float = 0.1
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
        if not 0 <= self.smoothing <= 1:
            raise ValueError("smoothing must be at least 0 and at most 1")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")
        asked = True if self.direction == "both" else self.direction
        object.__setattr__(self, "stream", replace(self.stream, converted=asked if self.conversion else False))


@dataclass(frozen=True, eq=False)
class _Joined:
    """The real and converted images of one step, those of the visible stream first.

    Attributes:
        images: (B, 3, H, W).
        modality: (B,) by stream: a converted image has the modality that it looks like.
        identity: (B,), for a converted image that of its original.
        converted: (B,) float, 1 for converted images.
        visible: number of images of the visible stream.
    """

    images: Tensor
    modality: Tensor
    identity: Tensor
    converted: Tensor
    visible: int


class CE2L(EmbeddingMethod[CE2LConfig]):
    """Ranking of real and converted images; see :class:`CE2LConfig` for its switches.

    At test time nothing is converted: each image goes through the stream of its own spectrum.

    Raises:
        ConfigError: a stream that does not draw images of one identity in both spectra, or an unfit backbone.
    """

    Config = CE2LConfig
    encoder: TwoStreamEncoder

    def __init__(self, config: CE2LConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        require_pairs("CE2L", config.stream)
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
        """Identity loss, ranking, and the constraint inside each spectrum, over real and converted images alike.

        Raises:
            TrainingError: no converted images where they are asked for; at the first step also a batch that is not N
                visible images, then N infrared ones of the same identities.
        """
        if step.index == 0:
            check_halves("CE2L", batch)
        config, joined = self.config, self._join(batch)
        features = self.encoder(joined.images, joined.modality, joined.visible)
        with torch.autocast(features.device.type, enabled=False):
            features = full(features)
            smoothing = config.smoothing * joined.converted if config.conversion and config.smoothing else 0.0
            named = identity_loss(self.classifier(features), joined.identity, smoothing=smoothing)
            terms = {"identity": named}
            if config.ranking:
                sizes = [joined.visible, len(features) - joined.visible]
                compared = (*torch.split(features, sizes), *torch.split(joined.identity, sizes))
                compared = tuple(step.gather(part) for part in compared)
                terms["ranking"] = config.ranking * top_ranking_loss(*compared, margin=config.margin)
                if config.intra:
                    apart = intra_ranking_loss(*compared, margin=config.intra_margin)
                    terms["intra"] = config.ranking * config.intra * apart
            return terms

    def _join(self, batch: Batch) -> _Joined:
        real, half = batch.images.new_zeros(len(batch)), len(batch) // 2
        if not self.config.conversion:
            return _Joined(batch.images, batch.modality, batch.identity, real, half)
        if batch.converted is None:
            raise TrainingError(
                "CE2L: expected a batch with its images converted to the other spectrum, got none; name their folder "
                "with --set benchmark.converted=DIR, or leave them out with --set with.conversion=false."
            )
        # four parts: v, t, the infrared ones made from v, the visible ones made from t
        use = {"both": (0, 3, 1, 2), "ir2v": (0, 3, 1), "v2ir": (0, 1, 2)}[self.config.direction]
        seen, unseen = batch.modality.chunk(2)

        def joined(*parts: Tensor) -> Tensor:
            return torch.cat([parts[i] for i in use])

        return _Joined(
            joined(*batch.images.chunk(2), *batch.converted.chunk(2)),
            joined(seen, unseen, unseen, seen),
            joined(*batch.identity.chunk(2), *batch.identity.chunk(2)),
            joined(*real.chunk(2), *(real + 1).chunk(2)),
            half * use.index(1),
        )


METHOD = CE2L
