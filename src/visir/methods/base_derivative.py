"""Base-Derivative: visible and infrared images, learnt together with a derivative of each.

Liu, Miao, Yang and Ding, A Base-Derivative Framework for Cross-Modality RGB-Infrared Person Re-Identification, ICPR
2020. Light generators derive images from each base modality; the multi-mode loss compares images within each of the
four modalities, the multi-directional loss across chosen pairs of them, both ways.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from visir.core.batch import Batch
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.core.types import Modality
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.losses.triplet import Reduction, triplet_loss, two_way_triplet_loss
from visir.methods._halves import check_halves, require_pairs
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Recipe, Step
from visir.nets.bnneck import BNNeck, neck_classifier
from visir.nets.derivative import Derivatives, Kind
from visir.nets.nonlocal_block import add_non_local
from visir.nets.pooling import Pooling, pooling
from visir.nets.routing import by_modality
from visir.nets.stems import TwoStems, two_stems

Mode = Literal["visible", "infrared", "visible_derived", "infrared_derived"]

BASES: tuple[Mode, ...] = ("visible", "infrared")
DERIVED: dict[Mode, Modality] = {"visible_derived": Modality.VISIBLE, "infrared_derived": Modality.INFRARED}
ORDER: tuple[Mode, ...] = ("visible", "visible_derived", "infrared", "infrared_derived")  # of the sets of a batch


def _origin(mode: Mode) -> Mode:
    return "visible" if mode in ("visible", "visible_derived") else "infrared"


@dataclass(frozen=True)
class BaseDerivativeConfig(MethodConfig):
    """The full system; where the paper gives no number, that of the AGW baseline, on which it builds; 81 epochs.

    Attributes:
        modalities: the two bases and the derivatives that are made of them, for training.
        pairs: of modalities, which the multi-directional loss compares; one side visible by origin, one infrared.
        derivative: the generators; see :class:`visir.nets.derivative.Derivatives`.
        stems: ``two``: a derivative shares the stem of its origin; ``four``: each modality has its own.
        alpha_1: margin of the multi-mode loss.
        alpha_2: margin of the multi-directional loss.
        lambda_1: weight of the multi-mode loss; 0 leaves it out.
        lambda_2: weight of the multi-directional loss; 0, or no pairs, leaves it out.
        reduction: of a triplet loss over its anchors; the paper prints the sum.
        mode_reduce: of the multi-mode loss over the modalities, and of the multi-directional one over the pairs.
        non_local: AGW's non-local blocks.
        pooling: mean, or AGW's generalised mean.
        last_stride: 1 keeps the resolution of the ResNet's third stage.
        test_fuse: ``sum4`` adds the four similarities of two images and their derivatives. An embedding then is the
            sum of two unit vectors with two more numbers, which make all embeddings equally long without a part in
            products across modalities.
        recipe: neck, classifier and generators ten times as fast as the rest.
    """

    stream: Stream = field(default_factory=lambda: Stream(IdentityBalanced(8, 4), augment=Augment(flip=0.5, pad=10)))
    modalities: tuple[Mode, ...] = ("visible", "infrared", "visible_derived", "infrared_derived")
    pairs: tuple[tuple[Mode, Mode], ...] = (
        ("infrared", "visible"),
        ("visible", "infrared_derived"),
        ("infrared", "visible_derived"),
    )
    derivative: Kind = "pointwise"
    stems: Literal["two", "four"] = "two"
    alpha_1: float = 0.3
    alpha_2: float = 0.3
    lambda_1: float = 1.0
    lambda_2: float = 1.0
    reduction: Reduction = "mean"
    mode_reduce: Reduction = "sum"
    non_local: bool = False
    pooling: Pooling = "mean"
    last_stride: Literal[1, 2] = 1
    test_fuse: Literal["none", "sum4"] = "none"
    recipe: Recipe = field(
        default_factory=lambda: Recipe(backbone_rate=0.01, head_rate=0.1, warmup=10, drops=(20.0, 50.0))
    )

    def __post_init__(self) -> None:
        for name in ("alpha_1", "alpha_2", "lambda_1", "lambda_2"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0")
        if len(set(self.modalities)) < len(self.modalities) or not set(BASES) <= set(self.modalities):
            raise ValueError(f"modalities must name visible, infrared and each only once, not {list(self.modalities)}")
        if len({frozenset(pair) for pair in self.pairs}) < len(self.pairs):
            raise ValueError("pairs must name each pair only once")
        for first, second in self.pairs:
            if not {first, second} <= set(self.modalities):
                raise ValueError(f"pairs must be of the modalities, ({first}, {second}) is not")
            if _origin(first) == _origin(second):
                raise ValueError(f"pairs must cross from visible to infrared, ({first}, {second}) does not")
        if self.test_fuse == "sum4" and not set(DERIVED) <= set(self.modalities):
            raise ValueError("test_fuse must be none unless modalities name both derivatives")


class DerivativeEncoder(nn.Module):
    """Two stems, shared layers, pooling, neck, and the generators of the derivatives.

    Args:
        network: the two streams.
        pool: (B, C, h, w) -> (B, C).
        derivatives: the generators.
        origins: base modalities that have a derivative.
        own_stems: whether derivatives get stems of their own, copies of those of their origin.
        fused: whether an embedding is that of the image and its derivative.

    Attributes:
        dim: D, the length of an embedding: C, and 2 more if fused.
    """

    def __init__(
        self,
        network: TwoStems,
        pool: nn.Module,
        derivatives: Derivatives,
        origins: Sequence[Modality],
        *,
        own_stems: bool,
        fused: bool,
    ) -> None:
        super().__init__()
        self.network, self.pool, self.derivatives = network, pool, derivatives
        self.neck = BNNeck(network.channels)
        self.dim = network.channels + 2 * fused
        self._origins, self._fused = tuple(origins), fused
        self.own_stems = nn.ModuleDict(
            {origin.name.lower(): copy.deepcopy(network.of(origin)) for origin in (origins if own_stems else ())}
        )

    @overload
    def forward(self, images: Tensor, modality: Tensor) -> Tensor: ...

    @overload
    def forward(self, images: Tensor, modality: Tensor, *, sets: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def forward(self, images: Tensor, modality: Tensor, *, sets: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """(B, 3, H, W) images and their (B,) modalities -> (B, D), not normalised.

        Args:
            images: ImageNet-normalised.
            modality: (B,) int64.
            sets: a training batch, n visible images and then n infrared ones: give the pooled features, which triplets
                compare, and the normalised ones of all modalities, (M * n, C) each, set after set: visible images,
                their derivatives, infrared images, their derivatives.
        """
        if sets:
            pooled = self.pool(self.network.rest(self._stems_of_all(images)))
            return pooled, self.neck(pooled)
        own: Tensor = self.neck(self.pool(self.network(images, modality)))
        return self._fuse(own, images, modality) if self._fused else own

    def _stems_of_all(self, images: Tensor) -> Tensor:
        maps = []
        for origin, half in zip(Modality, images.chunk(2), strict=True):
            stem = self.network.of(origin)
            if origin not in self._origins:
                maps.append(stem(half))
            elif self.own_stems:
                maps += [stem(half), self._derived(half, origin)]
            else:
                maps.append(stem(torch.cat([half, self.derivatives(half, origin)])))
        return torch.cat(maps)

    def _derived(self, images: Tensor, origin: Modality) -> Tensor:
        """Images of one base modality -> what the stem makes of their derivatives."""
        key = origin.name.lower()
        stem = self.own_stems[key] if self.own_stems else self.network.of(origin)
        result: Tensor = stem(self.derivatives(images, origin))
        return result

    def _fuse(self, own: Tensor, images: Tensor, modality: Tensor) -> Tensor:
        """The products of these unit vectors across modalities are a quarter of the sum of four cosines.

        With unit vectors a and b, |a + b|^2 + |a - b|^2 = 4: the second norm, put in one of two places by modality,
        makes the whole as long as any other, and is multiplied by zero across modalities.
        """
        visible, infrared = (lambda x, origin=origin: self._derived(x, origin) for origin in Modality)
        maps = by_modality(visible, infrared, images, modality, training=self.training)
        a = functional.normalize(own)
        b = functional.normalize(self.neck(self.pool(self.network.rest(maps))))
        apart = torch.linalg.vector_norm(a - b, dim=1, keepdim=True)
        places = torch.stack([modality == value for value in Modality], dim=1).to(a.dtype)
        return torch.cat([a + b, apart * places], dim=1) / 2


class BaseDerivative(EmbeddingMethod[BaseDerivativeConfig]):
    """Two base modalities and their derivatives in one network; see :class:`BaseDerivativeConfig` for its switches.

    Raises:
        ConfigError: a stream whose batches hold no two images of one identity, or a backbone that cannot have two
            stems or non-local blocks.
    """

    Config = BaseDerivativeConfig
    encoder: DerivativeEncoder

    def __init__(self, config: BaseDerivativeConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        stream = config.stream
        require_pairs("Base-Derivative", stream)
        network = two_stems(
            config.backbone,
            weights=config.weights,
            image_size=(stream.height, stream.width),
            last_stride=config.last_stride,
        )
        if config.non_local:
            add_non_local(network)
        self.sets = tuple(mode for mode in ORDER if mode in config.modalities)
        origins = [DERIVED[mode] for mode in self.sets if mode in DERIVED]
        self.encoder = DerivativeEncoder(
            network,
            pooling(config.pooling),
            Derivatives(config.derivative, origins),
            origins,
            own_stems=config.stems == "four",
            fused=config.test_fuse == "sum4",
        )
        self.classifier = neck_classifier(network.channels, num_identities)

    def optimizer(self) -> Optim:
        """SGD, all stems and shared layers slower than what is new."""
        encoder = self.encoder
        new = [*encoder.neck.trainable(), *self.classifier.parameters(), *encoder.derivatives.parameters()]
        slow = [*encoder.network.parameters(), *encoder.own_stems.parameters()]
        return self.config.recipe.optim(backbone=slow, head=new)

    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Identity of all images, triplets within modalities and across pairs, of all ranks; the visible half first.

        Raises:
            TrainingError: at the first step, a batch that is not of this order.
        """
        if step.index == 0:
            check_halves("Base-Derivative", batch)
        config = self.config
        pooled, embedded = self.encoder(batch.images, batch.modality, sets=True)
        with torch.autocast(pooled.device.type, enabled=False):
            halves = dict(zip(BASES, batch.identity.chunk(2), strict=True))
            labels = torch.cat([halves[_origin(mode)] for mode in self.sets])
            terms = {"identity": identity_loss(self.classifier(full(embedded)), labels)}
            if not config.lambda_1 and not (config.lambda_2 and config.pairs):
                return terms
            features = dict(zip(self.sets, map(step.gather, full(pooled).chunk(len(self.sets))), strict=True))
            identities = {name: step.gather(half) for name, half in halves.items()}
            if config.lambda_1:
                terms["multi_mode"] = config.lambda_1 * self._multi_mode(features, identities)
            if config.lambda_2 and config.pairs:
                terms["multi_directional"] = config.lambda_2 * self._multi_directional(features, identities)
            return terms

    def _multi_mode(self, features: Mapping[Mode, Tensor], identities: Mapping[Mode, Tensor]) -> Tensor:
        """Batch-hard triplets within each modality; their minimum over negatives is subtracted (the paper prints +)."""
        config = self.config
        own = [
            triplet_loss(features[mode], identities[_origin(mode)], margin=config.alpha_1, reduction=config.reduction)
            for mode in self.sets
        ]
        return self._over_modes(own)

    def _multi_directional(self, features: Mapping[Mode, Tensor], identities: Mapping[Mode, Tensor]) -> Tensor:
        """Batch-hard triplets with the anchor on one side of a pair and the others on the other, both ways."""
        config = self.config
        across = [
            two_way_triplet_loss(
                features[first],
                features[second],
                identities[_origin(first)],
                identities[_origin(second)],
                margin=config.alpha_2,
                reduction=config.reduction,
            )
            for first, second in config.pairs
        ]
        return self._over_modes(across)

    def _over_modes(self, terms: Sequence[Tensor]) -> Tensor:
        stacked = torch.stack(list(terms))
        return stacked.sum() if self.config.mode_reduce == "sum" else stacked.mean()


METHOD = BaseDerivative
