"""HSME and D-HSME: two streams whose identities are directions on a hypersphere; experimental.

Hao, Wang, Li and Gao, HSME: Hypersphere Manifold Embedding for Visible Thermal Person Re-identification, AAAI 2019.
Experimental: no code of it is public, so sizes, rates and epochs are choices, and the sphere softmax over both spectra
is the only loss here. D-HSME adds a second phase, after Sun, Zheng, Deng and Wang, SVDNet for Pedestrian Retrieval,
ICCV 2017: the embedding's weight W = U S V^T becomes U S, whose columns are orthogonal, and stays as it is while the
rest learns on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.losses.precision import full
from visir.losses.sphere import sphere_softmax_loss
from visir.methods.base import Method, MethodConfig, Optim, Recipe, Step
from visir.nets.two_streams import TwoStreams, feature_network


@dataclass(frozen=True)
class HSMEConfig(MethodConfig):
    """The scale is SphereReID's; the recipe is that of the two-stream baseline.

    Attributes:
        dim: length of the shared embedding.
        scale: s, what cosines are multiplied with before the softmax.
        decorrelate_from: epoch at which the embedding's weight is decorrelated and fixed (D-HSME); null for never
            (HSME). May be fractional.
        recipe: the backbones ten times slower than what they share.
    """

    stream: Stream = field(
        default_factory=lambda: Stream(
            IdentityBalanced(32, 1), height=288, width=144, augment=Augment(flip=0.5, pad=10)
        )
    )
    dim: int = 1024
    scale: float = 14.0
    decorrelate_from: float | None = 40.0
    recipe: Recipe = field(
        default_factory=lambda: Recipe(backbone_rate=0.001, head_rate=0.01, nesterov=True, drops=(30.0, 60.0))
    )

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError("dim must be at least 1")
        if not 0 < self.scale < math.inf:
            raise ValueError("scale must be a finite number above 0")
        if self.decorrelate_from is not None and not self.decorrelate_from >= 0:
            raise ValueError("decorrelate_from must be at least 0, or null for never")


class SphereEncoder(nn.Module):
    """A stream for each spectrum, then one shared linear layer without bias; vectors are compared by angle.

    Args:
        stream: (b, 3, H, W) -> (b, channels), the visible stream; the infrared one is a copy.
        channels: length of its features.
        dim: D.

    Attributes:
        dim: D.
    """

    def __init__(self, stream: nn.Module, channels: int, *, dim: int) -> None:
        super().__init__()
        self.streams, self.embedding, self.dim = TwoStreams(stream), nn.Linear(channels, dim, bias=False), dim

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) images and their (B,) modalities -> (B, D), not normalised."""
        embedded: Tensor = self.embedding(self.streams(images, modality))
        return embedded


class HSME(Method[HSMEConfig]):
    """HSME, or D-HSME where ``decorrelate_from`` is given; experimental.

    Attributes:
        decorrelated: scalar bool, whether the weight of the embedding has been replaced; saved with the weights, so
            that a training which is continued does not do it twice.
    """

    Config = HSMEConfig
    encoder: SphereEncoder
    decorrelated: Tensor

    def __init__(self, config: HSMEConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        size = (config.stream.height, config.stream.width)
        stream, channels = feature_network(config.backbone, weights=config.weights, image_size=size)
        self.encoder = SphereEncoder(stream, channels, dim=config.dim)
        self.classes = nn.Linear(config.dim, num_identities, bias=False)
        self.register_buffer("decorrelated", torch.zeros((), dtype=torch.bool))
        self._fixed = False  # the same, for the host
        self.register_load_state_dict_post_hook(_look)  # type: ignore[no-untyped-call]

    def optimizers(self) -> Mapping[str, Optim]:
        """Two, so that the embedding can stay as it is while the rest learns."""
        recipe, encoder = self.config.recipe, self.encoder
        return {
            "main": recipe.optim(backbone=encoder.streams.parameters(), head=self.classes.parameters()),
            "embedding": recipe.optim(head=encoder.embedding.parameters()),
        }

    def train_step(self, batches: Mapping[str, Batch], step: Step) -> Mapping[str, Tensor]:
        """Minimize the sphere softmax over both spectra, in the second phase with the embedding fixed."""
        start, batch = self.config.decorrelate_from, batches["main"]
        if start is not None and step.epoch >= start and not self._fixed:
            self.decorrelate(step)
        features: Tensor = self.encoder(batch.images, batch.modality)
        with torch.autocast(features.device.type, enabled=False):
            loss = sphere_softmax_loss(full(features), self.classes.weight, batch.identity, scale=self.config.scale)
        step.minimize(loss, *(("main",) if self._fixed else ("main", "embedding")))
        return {"sphere": loss}

    @torch.no_grad()
    def decorrelate(self, step: Step) -> None:
        """Turn the embedding so that its weight has orthogonal rows, the longest first, and fix it from now on.

        The class weights turn with it, so no cosine changes and the loss goes on from where it was.
        """
        embedding, classes = self.encoder.embedding.weight, self.classes.weight
        turn = principal_turn(embedding)
        for weight, turned in (
            (embedding, turn @ embedding.cpu().double()),
            (classes, classes.cpu().double() @ turn.T),
        ):
            ours = turned.to(weight)
            weight.copy_(step.gather(ours)[: len(ours)])  # the first rank's: other processors may round otherwise
        self.decorrelated.fill_(True)
        self._fixed = True


def principal_turn(weight: Tensor) -> Tensor:
    """The turn that makes the rows of a weight orthogonal, ordered by length.

    Where ``weight^T = U S V^T``, this is V^T, and ``V^T weight = (U S)^T``. A decomposition leaves open which way a row
    points; here its largest number is positive. Where D > n it also leaves open the directions that no feature takes;
    here they follow from the others, so that rounding cannot choose them. Computed on the CPU in float64.

    Args:
        weight: (D, n), of a linear layer.

    Returns:
        (D, D) float64, orthogonal, on the CPU.

    >>> turn = principal_turn(torch.tensor([[0.0, 1.0], [3.0, 0.0]]))
    >>> (turn @ torch.tensor([[0.0, 1.0], [3.0, 0.0]]).double()).abs().round(decimals=9).tolist()
    [[3.0, 0.0], [0.0, 1.0]]
    """
    matrix = weight.detach().cpu().double()
    axes = torch.linalg.svd(matrix, full_matrices=False).U
    rest = torch.linalg.qr(axes, mode="complete").Q[:, axes.shape[1] :]  # the same whichever way the axes point
    turn = torch.cat([axes, rest], dim=1).T
    largest = turn.gather(1, turn.abs().argmax(1, keepdim=True))
    signed: Tensor = turn * largest.sign()
    return signed


def _look(module: nn.Module, incompatible: Any) -> None:
    """After weights were loaded: whether they are of the second phase."""
    assert isinstance(module, HSME)
    module._fixed = bool(module.decorrelated)


METHOD = HSME
