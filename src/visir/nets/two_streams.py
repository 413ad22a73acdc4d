"""Two whole networks, one for each spectrum, and what they share behind them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from visir.nets.alexnet import ALEXNETS, alexnet
from visir.nets.backbones import Backbone, backbone
from visir.nets.pooling import MeanPool
from visir.nets.routing import by_modality


class TwoStreams(nn.Module):
    """Two networks of one shape, each with weights of its own; an image goes through the one of its modality.

    Both start from equal weights, as they do where both start from one pretrained network.

    Args:
        stream: (b, ...) -> (b, ...), the visible network; the infrared one is a copy of it.
    """

    def __init__(self, stream: nn.Module) -> None:
        super().__init__()
        self.visible, self.infrared = stream, copy.deepcopy(stream)

    def forward(self, images: Tensor, modality: Tensor, visible: int | None = None) -> Tensor:
        """(B, ...) images and their (B,) modalities -> (B, ...) in the order of the images.

        Args:
            images: in any order; while training, a visible half and then an infrared half.
            modality: 0 for visible, 1 for infrared.
            visible: number of visible images, where these come first and are not one half of the batch.
        """
        if visible is None:
            return by_modality(self.visible, self.infrared, images, modality, training=self.training)
        seen, unseen = torch.split(images, [visible, len(images) - visible])
        return torch.cat([self.visible(seen), self.infrared(unseen)])


class PooledBackbone(nn.Module):
    """A backbone whose map is averaged over the image.

    Attributes:
        dim: C, the channels of the map.
    """

    def __init__(self, trunk: Backbone) -> None:
        super().__init__()
        self.backbone, self.pool, self.dim = trunk, MeanPool(), trunk.channels

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C), in float32 where the map has 16 bits."""
        pooled: Tensor = self.pool(self.backbone(images))
        return pooled


def feature_network(name: str, *, weights: str, image_size: tuple[int, int]) -> tuple[nn.Module, int]:
    """One stream and the length D of its features: (B, 3, H, W) -> (B, D).

    Args:
        name: ``alexnet`` up to its layer fc6 (see :func:`visir.nets.alexnet.alexnet` for its two forms); or any name of
            :func:`visir.nets.backbones.backbone`, averaged over the image; ResNets keep their last stride of 2.
        weights: ``scratch``, ``imagenet`` or the path of a safetensors file.
        image_size: (H, W) in pixels.

    Raises:
        ConfigError: an unknown name, or images too small for the network.
        CheckpointError: weights that cannot be had or do not fit.
    """
    if name in ALEXNETS:
        network = alexnet(name, weights=weights, image_size=image_size)
        return network, network.dim
    pooled = PooledBackbone(backbone(name, weights=weights, image_size=image_size, last_stride=2))
    return pooled, pooled.dim


class SharedEmbedding(nn.Module):
    """What both spectra go through behind their streams: dropout, ReLU, one layer (fc7), ReLU.

    Args:
        channels: length of the features of a stream.
        dim: D, length of the embedding.
        dropout: probability that a feature is dropped while training.
    """

    def __init__(self, channels: int, dim: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc7 = nn.Linear(channels, dim)
        nn.init.kaiming_normal_(self.fc7.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc7.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels) -> (B, D), at least 0."""
        embedded: Tensor = self.fc7(self.dropout(features).relu()).relu()
        return embedded


class TwoStreamEncoder(nn.Module):
    """Images -> a stream for each spectrum -> the shared embedding.

    Args:
        name: of the network, as :func:`feature_network` takes it.
        weights: where its weights come from.
        image_size: (H, W) in pixels.
        dim: D, length of the embedding.
        dropout: in front of the shared layer.
        normalise: whether a stream ends with batch normalisation.

    Attributes:
        dim: D.
    """

    def __init__(
        self, name: str, *, weights: str, image_size: tuple[int, int], dim: int, dropout: float, normalise: bool
    ) -> None:
        super().__init__()
        network, channels = feature_network(name, weights=weights, image_size=image_size)
        self.streams = TwoStreams(nn.Sequential(network, nn.BatchNorm1d(channels)) if normalise else network)
        self.embedding, self.dim = SharedEmbedding(channels, dim, dropout=dropout), dim

    def forward(self, images: Tensor, modality: Tensor, visible: int | None = None) -> Tensor:
        """(B, 3, H, W) images and their (B,) modalities -> (B, D); ``visible`` as :meth:`TwoStreams.forward` takes."""
        embedded: Tensor = self.embedding(self.streams(images, modality, visible))
        return embedded


def shared_classifier(dim: int, num_identities: int, *, dropout: float) -> nn.Sequential:
    """Dropout and one linear layer (fc8) with bias, the same for both spectra: (B, dim) -> logits (B, C)."""
    fc8 = nn.Linear(dim, num_identities)
    nn.init.xavier_uniform_(fc8.weight)
    nn.init.zeros_(fc8.bias)
    return nn.Sequential(nn.Dropout(dropout), fc8)
