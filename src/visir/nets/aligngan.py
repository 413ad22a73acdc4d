"""The networks of AlignGAN: translators between the spectra, discriminators of images, of images with features, heads.

Wang, Zhang, Cheng, Liu, Yang and Hou, RGB-Infrared Cross-Modality Person Re-Identification via Joint Pixel and Feature
Alignment, ICCV 2019; the layers are those of the released code. Images are in [-1, 1].
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from visir.nets.backbones import Backbone
from visir.nets.image_blocks import ConvolutionBlock, ResidualBlock, start_weights
from visir.nets.pooling import MeanPool
from visir.nets.ranges import normalised, signed
from visir.nets.routing import by_modality

DEVIATION = 0.02  # of all first weights of translators and discriminators
LAYERS = 5  # halvings of a discriminator at the published 128x128 pixels
JOINT_LAYERS = 2  # of them, those that see image and feature together


class ImageTranslator(nn.Sequential):
    """Images of one spectrum -> the same scene in the other: two halvings, residual blocks, two doublings.

    (B, 3, h, w) in [-1, 1], h and w multiples of four -> (B, 3, h, w) in [-1, 1].

    Args:
        width: channels of the first layer; the residual blocks have four times as many.
        blocks: number of residual blocks.

    >>> ImageTranslator(4, 1)(torch.zeros(1, 3, 16, 8)).shape
    torch.Size([1, 3, 16, 8])
    """

    def __init__(self, width: int = 64, blocks: int = 4) -> None:
        super().__init__(
            ConvolutionBlock(3, width, 7, padding="zeros"),
            ConvolutionBlock(width, 2 * width, 4, 2, padding="zeros"),
            ConvolutionBlock(2 * width, 4 * width, 4, 2, padding="zeros"),
            *(ResidualBlock(4 * width, padding="zeros") for _ in range(blocks)),
            _doubling(4 * width, 2 * width),
            _doubling(2 * width, width),
            ConvolutionBlock(width, 3, 7, norm="none", activation="tanh", padding="zeros"),
        )
        start_weights(self, deviation=DEVIATION)


def _doubling(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.InstanceNorm2d(outputs), nn.ReLU()
    )


def halvings(size: tuple[int, int], most: int = LAYERS) -> int:
    """How often a picture can be halved, at most ``most`` times, so that a map of 2x1 cells or more is left.

    >>> halvings((128, 128)), halvings((16, 16)), halvings((32, 8))
    (5, 3, 3)
    """
    high, low = max(size), min(size)
    return max((n for n in range(1, most + 1) if high >> n >= 2 and low >> n >= 1), default=0)


class ImageDiscriminator(nn.Sequential):
    """Images -> a map of scores of how real each of their patches looks: (B, 3, h, w) -> (B, 1, h / 2^n, w / 2^n).

    Args:
        size: (h, w) of the images; small ones take fewer of the five halvings, see :func:`halvings`.
        width: channels after the first halving; each further one has twice as many.

    >>> ImageDiscriminator((128, 128), 4)(torch.zeros(1, 3, 128, 128)).shape
    torch.Size([1, 1, 4, 4])
    """

    def __init__(self, size: tuple[int, int], width: int = 64) -> None:
        layers = _halving(3, width, halvings(size))
        super().__init__(*layers, nn.Conv2d(width << len(layers) - 1, 1, 3, padding=1, bias=False))
        start_weights(self, deviation=DEVIATION)


class JointDiscriminator(nn.Module):
    """Images with feature maps -> a map of scores of whether both are real, infrared, and of one person.

    Args:
        channels: C of the feature maps.
        size: (h, w) of the images; small ones take fewer halvings, the last of which stay the joint ones.
        width: channels after the first halving, and of a feature map where the two meet.

    >>> JointDiscriminator(6, (128, 128), 4)(torch.zeros(1, 3, 128, 128), torch.zeros(1, 6, 24, 12)).shape
    torch.Size([1, 1, 4, 4])
    """

    def __init__(self, channels: int, size: tuple[int, int], width: int = 64) -> None:
        super().__init__()
        possible = halvings(size)
        together = min(JOINT_LAYERS, possible - 1)
        alone = possible - together
        met = width << alone - 1
        self.images = nn.Sequential(*_halving(3, width, alone))
        self.features = nn.Sequential(nn.Conv2d(channels, width, 1), nn.LeakyReLU(0.2))
        widths = [met + width, *(met << n for n in range(1, together + 1))]
        self.joint = nn.Sequential(
            *(_halved(a, b) for a, b in itertools.pairwise(widths)),
            nn.Conv2d(widths[-1], 1, 3, padding=1, bias=False),
        )
        start_weights(self, deviation=DEVIATION)

    def forward(self, images: Tensor, features: Tensor) -> Tensor:
        """(B, 3, h, w) and (B, C, h', w') -> (B, 1, h / 2^n, w / 2^n)."""
        seen = self.images(images)
        shape = (seen.shape[2], seen.shape[3])
        resized = functional.interpolate(self.features(features), shape, mode="bilinear", align_corners=False)
        scores: Tensor = self.joint(torch.cat([seen, resized.to(seen.dtype)], dim=1))
        return scores


def _halving(inputs: int, width: int, count: int) -> list[nn.Module]:
    """The first layers of a discriminator; the very first is not normalised."""
    first = ConvolutionBlock(inputs, width, 4, 2, norm="none", activation="leaky", padding="zeros")
    return [first, *(_halved(width << n, width << n + 1) for n in range(count - 1))]


def _halved(inputs: int, outputs: int) -> nn.Module:
    return ConvolutionBlock(inputs, outputs, 4, 2, activation="leaky", padding="zeros")


class FeatureHeads(nn.Module):
    """What looks at pooled features in training: a classifier behind a bottleneck, and an embedding for triplets.

    Args:
        channels: C.
        dim: of the bottleneck and of the embedding.
        num_identities: of the training set.
        dropout: share of the pooled features that the classifier does not see.
    """

    def __init__(self, channels: int, *, dim: int, num_identities: int, dropout: float) -> None:
        super().__init__()
        bottleneck, norm, last = nn.Linear(channels, dim), nn.BatchNorm1d(dim), nn.Linear(dim, num_identities)
        self.classifier = nn.Sequential(nn.Dropout(dropout), bottleneck, norm, nn.LeakyReLU(0.1), last)
        self.embedder = nn.Linear(channels, dim)
        nn.init.kaiming_normal_(bottleneck.weight, mode="fan_out")
        nn.init.zeros_(bottleneck.bias)
        nn.init.normal_(norm.weight, 1.0, 0.02)
        nn.init.normal_(last.weight, std=0.001)
        nn.init.zeros_(last.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C) -> (B, num_identities) logits and (B, dim) embeddings."""
        return self.classifier(pooled), self.embedder(pooled)


def small_size(size: tuple[int, int], reduction: tuple[float, float]) -> tuple[int, int]:
    """Size of the translated pictures: the whole one divided by ``reduction``, to a multiple of four, at least eight.

    >>> small_size((384, 192), (3.0, 1.5)), small_size((48, 24), (3.0, 1.5))
    ((128, 128), (16, 16))
    """
    height, width = (max(8, 4 * round(pixels / times / 4)) for pixels, times in zip(size, reduction, strict=True))
    return height, width


class TranslatingEncoder(nn.Module):
    """Everything as infrared: visible images are translated first, infrared ones enter as they are, one network reads.

    All images become small, as the translator works on them, and large again for the network: also real infrared ones
    are never sharper than made ones.

    Args:
        translator: visible -> infrared.
        trunk: the network that reads.
        size: (H, W) of its input.
        reduction: by which height and width of small images are divided, see :func:`small_size`.
        mirror: in evaluation, add the features of the mirrored picture.

    Attributes:
        dim: D = C, the length of an embedding.
    """

    def __init__(
        self,
        translator: ImageTranslator,
        trunk: Backbone,
        *,
        size: tuple[int, int],
        reduction: tuple[float, float],
        mirror: bool,
    ) -> None:
        super().__init__()
        self.translator, self.backbone, self.pool, self.dim = translator, trunk, MeanPool(), trunk.channels
        self.size, self.small, self.mirror = size, small_size(size, reduction), mirror

    def reduced(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) ImageNet-normalised -> (B, 3, h, w) in [-1, 1], as translators and discriminators see them."""
        if images.shape[2:] == self.small:
            return signed(images)
        return functional.interpolate(signed(images), self.small, mode="bilinear", antialias=True)

    def enlarged(self, small: Tensor) -> Tensor:
        """(B, 3, h, w) in [-1, 1] -> (B, 3, H, W) ImageNet-normalised, as the network reads them."""
        if small.shape[2:] != self.size:
            small = functional.interpolate(small, self.size, mode="bilinear", align_corners=False)
        return normalised(small)

    def maps(self, small: Tensor) -> Tensor:
        """(B, 3, h, w) in [-1, 1] -> (B, C, h', w'), the feature maps."""
        found: Tensor = self.backbone(self.enlarged(small))
        return found

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) images and their (B,) modalities -> (B, D), of length one."""
        small = self.reduced(images)
        unseen = by_modality(
            lambda seen: self.translator(seen).to(small.dtype), nn.Identity(), small, modality, training=self.training
        )
        large = self.enlarged(unseen)
        pooled: Tensor = self.pool(self.backbone(large))
        if self.mirror and not self.training:
            pooled = pooled + self.pool(self.backbone(large.flip(3)))
        return functional.normalize(pooled, dim=1)
