"""Embedding infrared images twice: as they are, and as visible images that a network makes of them."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn
from torch.nn import functional

from visir.core.errors import CheckpointError
from visir.core.types import Modality
from visir.engine.encoders import Encoder


class WithConversions(nn.Module):
    """The mean of an infrared image's own vector and that of its visible version; visible images as ever.

    What Dai et al. (ICPR 2020, CE2L) leave open for the test, and AlignGAN does: one modality translated there, too.

    Args:
        encoder: images (B, 3, H, W), modality (B,) -> (B, D) vectors that are compared by their angle.
        converter: images (B, 3, h, w), modality (B,) -> the same images in the other modality.
        size: h and w; images are resized to it and back.

    Attributes:
        dim: D.
    """

    def __init__(self, encoder: nn.Module, converter: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.encoder, self.converter, self.size = encoder, converter, size
        self.dim = int(encoder.dim)  # type: ignore[arg-type]

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images and their modality -> (B, D), of unit length."""
        own = functional.normalize(self.encoder(images, modality).float())
        made = _resized(self.converter(_resized(images, self.size), modality), (images.shape[2], images.shape[3]))
        seen = functional.normalize(self.encoder(made, torch.full_like(modality, int(Modality.VISIBLE))).float())
        both = functional.normalize(own + seen)
        return torch.where((modality == Modality.INFRARED).unsqueeze(1), both, own)


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if (images.shape[2], images.shape[3]) == size:
        return images
    return functional.interpolate(images, size=size, mode="bilinear", antialias=True)


def with_conversions(encoder: Encoder, converter: Encoder) -> Encoder:
    """An encoder that also looks at infrared images as ``converter`` makes them visible.

    Raises:
        CheckpointError: ``encoder`` gives no vectors, or such as are not compared by their angle; ``converter`` does.
    """
    if not hasattr(encoder.network, "dim") or hasattr(converter.network, "dim"):
        raise CheckpointError(
            "expected an encoder that gives vectors and the run of a network that converts pictures, such as "
            f"cyclegan, got {encoder.about['method']} and {converter.about['method']}."
        )
    if getattr(encoder.network, "distance", "cosine") != "cosine":
        raise CheckpointError(
            f"expected vectors that are compared by their angle, {encoder.about['method']} compares its own by another "
            "distance, of which there is no mean; leave the converter out."
        )
    own, theirs = encoder.preprocess, converter.preprocess
    if (own.mean, own.std) != (theirs.mean, theirs.std):
        raise CheckpointError(
            "expected a converter whose images are normalised as the encoder's are; train both with the same version."
        )
    size = (theirs.height, theirs.width)
    network = WithConversions(encoder.network, converter.network, size).eval()
    name = hashlib.sha256(f"{encoder.fingerprint} with {converter.fingerprint}".encode()).hexdigest()
    return Encoder(network, encoder.preprocess, name, {**encoder.about, "converter": converter.fingerprint})
