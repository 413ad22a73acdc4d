"""A toy method without steps: pictures as they are, and the whitening of their mean colours as its closed form."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from visir.core.draws import Pairs, Stream
from visir.methods.base import FittedMethod, MethodConfig, Sample
from visir.nets.projected import Projected


@dataclass(frozen=True)
class FittedConfig(MethodConfig):
    """Small pictures."""

    stream: Stream = field(default_factory=lambda: Stream(Pairs(4), 16, 8))
    dim: int = 3


class Columns(nn.Module):
    """(B, 3, 16, 8) -> (B, 24): the mean of every column."""

    dim = 24

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        return images.mean(2).flatten(1)


class Fitted(FittedMethod[FittedConfig]):
    """Principal components by hand."""

    Config = FittedConfig
    encoder: Projected

    def __init__(self, config: FittedConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        self.encoder = Projected(Columns(), dim=config.dim, distance="euclidean")

    def raw(self) -> nn.Module:
        return self.encoder.features

    def fit(self, sample: Sample) -> Mapping[str, float]:
        features = np.asarray(sample.features, np.float64)
        mean = features.mean(0)
        _, sizes, axes = np.linalg.svd(features - mean, full_matrices=False)
        found = axes[: self.config.dim].T.astype(np.float32)
        self.encoder.set(mean.astype(np.float32), found, -found)
        return {"largest": float(sizes[0])}


METHOD = Fitted
