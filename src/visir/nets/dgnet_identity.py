"""What reads identity in DG-Net: from appearance, as published, or from structure; and what only teaches it.

Zheng et al., Joint Discriminative and Generative Learning for Person Re-identification, CVPR 2019.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from visir.nets.backbones import Backbone
from visir.nets.dgnet import StructureEncoder
from visir.nets.frozen import Run, frozen, live
from visir.nets.image_blocks import ConvolutionBlock, start_weights
from visir.nets.pooling import MeanPool

FINE = 0.5  # how much the similarity of the fine features counts beside that of the primary ones


class Feature(NamedTuple):
    """What classifiers look at.

    Attributes:
        prime: (B, D).
        fine: (B, D) of the second head of the appearance encoder, or None where there is none.
    """

    prime: Tensor
    fine: Tensor | None = None


def embedding(inputs: int, dim: int) -> nn.Sequential:
    """A linear layer and batch normalisation: (B, inputs) -> (B, dim)."""
    linear = nn.Linear(inputs, dim)
    nn.init.kaiming_normal_(linear.weight, mode="fan_out")
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, nn.BatchNorm1d(dim))


class Classifier(nn.Module):
    """Dropout and a linear layer with a bias, drawn from N(0, 0.001).

    Args:
        dim: D, length of a feature.
        num_identities: C.
        dropout: probability that a number of a feature is dropped while training.
        normalise: batch normalisation before it, for features that have none.
    """

    def __init__(self, dim: int, num_identities: int, *, dropout: float, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm1d(dim) if normalise else nn.Identity()
        self.dropout, self.linear = nn.Dropout(dropout), nn.Linear(dim, num_identities)
        nn.init.normal_(self.linear.weight, std=0.001)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor, run: Run = live) -> Tensor:
        """(B, D) -> logits (B, C).

        Args:
            features: of images.
            run: how the layers are applied; a frozen classifier drops nothing.
        """
        features = run(self.normalise, features)
        return run(self.linear, features if run is frozen else self.dropout(features))


def weighted_pair(prime: Tensor, fine: Tensor, weight: float) -> Tensor:
    """One vector for two: cosines of such vectors order images as ``cos(prime) + weight * cos(fine)`` does.

    With parts of unit length, ``<[p; sqrt(w) f], [p'; sqrt(w) f']> = cos(p, p') + w cos(f, f')``, and all these vectors
    have the length sqrt(1 + w), so that their cosine is that sum divided by 1 + w.

    Args:
        prime: (B, D), of any length above 0.
        fine: (B, E), likewise.
        weight: at least 0.

    Returns:
        (B, D + E).

    >>> one, other = (weighted_pair(torch.tensor([p]), torch.tensor([[2.0, 0.0]]), 0.5) for p in ([3.0, 0], [0.0, 1]))
    >>> round(float(functional.cosine_similarity(one, other)), 4)  # (0 + 0.5 * 1) / 1.5
    0.3333
    """
    return torch.cat([functional.normalize(prime), math.sqrt(weight) * functional.normalize(fine)], dim=1)


class AppearanceEncoder(nn.Module):
    """Identity from appearance: E_a with its heads, as published.

    Args:
        trunk: E_a.
        dim: D, length of a feature.
        fine: whether there is a second head; then an embedding holds both features.
        mirror: whether mirror images count in an embedding.

    Attributes:
        dim: length of an embedding: D, or 2D with a second head.
    """

    def __init__(self, trunk: Backbone, *, dim: int, fine: bool, mirror: bool = True) -> None:
        super().__init__()
        self.backbone, self.prime = trunk, embedding(trunk.channels, dim)
        self.fine = embedding(trunk.channels, dim) if fine else None
        self.dim, self.mirror = 2 * dim if fine else dim, mirror

    def read(self, feature_map: Tensor, run: Run = live) -> Feature:
        """(B, C, h, w) -> features of its maxima.

        Args:
            feature_map: of E_a.
            run: how the heads are applied.
        """
        pooled = feature_map.amax(dim=(2, 3))
        return Feature(run(self.prime, pooled), None if self.fine is None else run(self.fine, pooled))

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) images of either modality -> (B, dim): of each image and its mirror image, summed."""
        found = [self.read(self.backbone(view)) for view in _views(images, self.mirror)]
        prime = _summed([feature.prime for feature in found])
        fine = [feature.fine for feature in found if feature.fine is not None]
        return weighted_pair(prime, _summed(fine), FINE) if fine else functional.normalize(prime)


class StructureReader(nn.Module):
    """Identity from structure: E_s and two further layers, whose maxima are the feature.

    Args:
        structure: E_s.
        mirror: whether mirror images count in an embedding.

    Attributes:
        dim: D = 4 times the channels of the structure, 512 for the published width.
    """

    def __init__(self, structure: StructureEncoder, *, mirror: bool = True) -> None:
        super().__init__()
        self.structure, self.mirror, channels = structure, mirror, structure.channels
        self.dim = 4 * channels
        self.deepen = nn.Sequential(
            ConvolutionBlock(channels, 2 * channels, 3, 2, activation="leaky"),
            ConvolutionBlock(2 * channels, self.dim, 3, 2, activation="leaky"),
        )
        start_weights(self.deepen)

    def read(self, structure: Tensor, run: Run = live) -> Feature:
        """(B, channels, h, w) structures -> features.

        Args:
            structure: of E_s.
            run: how the layers are applied.
        """
        return Feature(run(self.deepen, structure).amax(dim=(2, 3)))

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) images of either modality -> (B, D): of each image and its mirror image, summed."""
        found = [self.read(self.structure(view)).prime for view in _views(images, self.mirror)]
        return functional.normalize(_summed(found))


class Teacher(nn.Module):
    """A classifier of its own, which is trained first and then says what made pictures look like.

    Args:
        trunk: its network.
        dim: length of its feature.
        num_identities: number of identities.
        dropout: see :class:`Classifier`.
    """

    def __init__(self, trunk: Backbone, *, dim: int, num_identities: int, dropout: float) -> None:
        super().__init__()
        self.backbone, self.pool, self.prime = trunk, MeanPool(), embedding(trunk.channels, dim)
        self.classifier = Classifier(dim, num_identities, dropout=dropout)

    def read(self, images: Tensor, run: Run = live) -> Tensor:
        """(B, 3, H, W) -> (B, dim), what its classifier looks at.

        Args:
            images: normalised.
            run: how the layers are applied.
        """
        return run(self.prime, self.pool(run(self.backbone, images)))


def _views(images: Tensor, mirror: bool) -> list[Tensor]:
    return [images, images.flip(3)] if mirror else [images]


def _summed(features: list[Tensor]) -> Tensor:
    """The sum, of which the length is taken next: too much for 16 bits."""
    return torch.stack([one.float() if one.dtype in (torch.float16, torch.bfloat16) else one for one in features]).sum(
        0
    )
