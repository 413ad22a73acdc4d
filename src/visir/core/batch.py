"""One training batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from visir.core.types import Modality


@dataclass(frozen=True, eq=False)
class Batch:
    """B images with their labels.

    Attributes:
        images: (B, 3, H, W) float32, ImageNet-normalised; infrared has three equal channels.
        identity: (B,) int64, 0..num_identities-1.
        camera: (B,) int64, as the data set numbers them.
        modality: (B,) int64, values of :class:`Modality`.
        converted: (B, 3, H, W) float32, each image converted to the other modality, for streams that ask for them.
    """

    images: Tensor
    identity: Tensor
    camera: Tensor
    modality: Tensor
    converted: Tensor | None = None

    def __len__(self) -> int:
        return int(self.identity.shape[0])

    def of(self, modality: Modality) -> Batch:
        """Only the images of one modality, in order."""
        keep = self.modality == int(modality)
        converted = None if self.converted is None else self.converted[keep]
        return Batch(self.images[keep], self.identity[keep], self.camera[keep], self.modality[keep], converted)

    def to(self, device: torch.device, *, memory_format: torch.memory_format = torch.preserve_format) -> Batch:
        """The batch on ``device``; copies from pinned memory do not block."""
        images = self.images.to(device, non_blocking=True, memory_format=memory_format)
        converted = self.converted
        if converted is not None:
            converted = converted.to(device, non_blocking=True, memory_format=memory_format)
        identity, camera, modality = (
            t.to(device, non_blocking=True) for t in (self.identity, self.camera, self.modality)
        )
        return Batch(images, identity, camera, modality, converted)
