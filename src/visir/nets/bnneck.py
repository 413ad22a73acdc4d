"""The neck between the two kinds of loss: triplets compare what goes in, the classifier and the search what comes out.

Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, CVPR Workshops 2019.
"""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor, nn

from visir.nets.stems import TwoStems


class BNNeck(nn.BatchNorm1d):
    """Batch normalisation without a shift: its bias stays 0, so that the classifier's planes go through the origin.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        nn.init.normal_(self.weight, 1.0, 0.01)
        self.bias.requires_grad_(False)

    def trainable(self) -> list[nn.Parameter]:
        """All but the bias."""
        return [self.weight]


def neck_classifier(dim: int, num_identities: int) -> nn.Linear:
    """The classifier behind a neck: linear, without bias, drawn from N(0, 0.001)."""
    linear = nn.Linear(dim, num_identities, bias=False)
    nn.init.normal_(linear.weight, std=0.001)
    return linear


class NeckEncoder(nn.Module):
    """Two stems, shared layers, pooling, neck: the encoder of AGW and of what builds on it.

    Args:
        network: the two streams.
        pool: (B, C, h, w) -> (B, C).

    Attributes:
        neck: its output is the embedding.
        dim: D = C, the length of an embedding.
    """

    def __init__(self, network: TwoStems, pool: nn.Module) -> None:
        super().__init__()
        self.network, self.pool, self.dim = network, pool, network.channels
        self.neck = BNNeck(network.channels)

    @overload
    def forward(self, images: Tensor, modality: Tensor) -> Tensor: ...

    @overload
    def forward(self, images: Tensor, modality: Tensor, *, both: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def forward(self, images: Tensor, modality: Tensor, *, both: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """(B, 3, H, W) images and their (B,) modalities -> (B, D), not normalised.

        Args:
            images: ImageNet-normalised.
            modality: (B,) int64.
            both: give the pooled features, which triplets compare, and the embedding.
        """
        pooled: Tensor = self.pool(self.network(images, modality))
        embedding: Tensor = self.neck(pooled)
        return (pooled, embedding) if both else embedding
