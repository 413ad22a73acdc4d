"""A pool of made images, so that a discriminator also meets what the generator made some time ago."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visir.core.errors import TrainingError


class ImagePool(nn.Module):
    """Keeps images and hands old ones out in the place of half of the new ones.

    Shrivastava et al., Learning from Simulated and Unsupervised Images through Adversarial Training, CVPR 2017, in the
    form of CycleGAN's code: until the pool is full, an image is kept and handed out; after that, with probability one
    half, an image is kept in the place of a random old one and the old one is handed out.

    What it holds are buffers, so it is part of every checkpoint. Ranks that hand in the same images (gathered ones) and
    equal generators hold the same.

    Args:
        size: number of images that are kept, at least 1.
        shape: of one image, (3, H, W).

    Attributes:
        images: (size, 3, H, W), zero where none is kept yet.
        count: () int64, the number of images that are kept.

    Raises:
        ValueError: no room.
    """

    images: Tensor
    count: Tensor

    def __init__(self, size: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"a pool has room for at least 1 image, got {size}")
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchange(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Hand images in and get as many back, new or old, without gradient.

        They are exchanged one after the other in their order, so that one of them may come back in the place of a later
        one; yet nothing here loops over them or waits for the device.

        Args:
            images: (B, 3, H, W), of all ranks.
            generator: on the CPU; B chances and B places are drawn from it, whatever is done with them.

        Returns:
            (B, 3, H, W), in the type of the pool.

        Raises:
            TrainingError: images of another shape.
        """
        if images.shape[1:] != self.images.shape[1:]:
            raise TrainingError(
                f"ImagePool: expected images of shape {tuple(self.images.shape[1:])}, got {tuple(images.shape[1:])}."
            )
        size, device = len(self.images), images.device
        images = images.to(self.images.dtype)
        lucky = (torch.rand(len(images), generator=generator) < 0.5).to(device)
        drawn = torch.randint(size, (len(images),), generator=generator).to(device)
        order = torch.arange(len(images), device=device)
        filling = self.count + order < size
        place = torch.where(filling, self.count + order, drawn)
        kept = filling | lucky
        writer = (place[:, None] == place) & kept  # (i, j): image j is kept at the place of image i
        old = self._content(place, writer & (order < order[:, None]), images)
        content = self._content(place, writer, images)
        self.images.index_copy_(0, place, content)  # a place that occurs twice gets the same content twice
        self.count.add_(len(images)).clamp_(max=size)
        return torch.where((kept & ~filling).view(-1, 1, 1, 1), old, images)

    def _content(self, place: Tensor, writer: Tensor, images: Tensor) -> Tensor:
        """What is at each of the (B,) places once the (B, B) writers have come, the last of which stays."""
        order = torch.arange(1, len(images) + 1, device=images.device)
        last = (writer * order).amax(1)
        return torch.where((last > 0).view(-1, 1, 1, 1), images[(last - 1).clamp(min=0)], self.images[place])
