"""What methods on hand-crafted features share: a metric that is learnt in closed form, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from torch import nn

from visir.methods._projection import fit_projection
from visir.methods.base import FittedMethod, MethodConfig, Sample
from visir.nets.handcrafted import Hog, Lomo
from visir.nets.projected import Projected


@dataclass(frozen=True)
class HandcraftedConfig(MethodConfig):
    """The sizes of the metrics; ``backbone`` and ``weights`` have no meaning here.

    Attributes:
        metric: what is learnt behind the features; "euclidean" compares them as they are.
        principal: most principal axes before the metric; KISSME is used with 100.
        dim: most dimensions behind it: 200 for CCA, 100 for LFDA and KISSME; XQDA finds its own number.
    """

    metric: Literal["euclidean", "cca", "lfda", "xqda", "kissme"] = "xqda"
    principal: int = 600
    dim: int = 600

    def __post_init__(self) -> None:
        for name in ("principal", "dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")


H = TypeVar("H", bound=HandcraftedConfig)


class Handcrafted(FittedMethod[H], Generic[H]):
    """Features that are given, then principal axes and a metric over all training images of both modalities."""

    encoder: Hog | Lomo | Projected

    def __init__(self, config: H, num_identities: int, features: Hog | Lomo) -> None:
        super().__init__(config, num_identities)
        if config.metric == "euclidean":
            self.encoder = features
            return
        dim = min(config.dim, config.principal, features.dim)
        self.encoder = Projected(features, dim=dim, distance="cosine" if config.metric == "cca" else "euclidean")

    def raw(self) -> nn.Module | None:
        """The features; None where there is nothing to learn."""
        return self.encoder.features if isinstance(self.encoder, Projected) else None

    def fit(self, sample: Sample) -> Mapping[str, float]:
        """Learn the metric; gives the number of its directions.

        Raises:
            TrainingError: features from which it cannot be learnt; see :func:`visir.projections.learn.learn`.
        """
        if self.config.metric == "euclidean" or not isinstance(self.encoder, Projected):
            return {}
        return fit_projection(self.encoder, sample, metric=self.config.metric, principal=self.config.principal)
