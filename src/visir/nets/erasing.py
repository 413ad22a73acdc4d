"""Random erasing of pictures that are already in a batch, for methods that erase in some of their losses only.

Zhong et al., Random Erasing Data Augmentation, AAAI 2020. Where a method erases everywhere, ``Augment.erase`` does it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

AREA = (0.02, 0.4)  # share of the picture, and
ASPECT = (0.3, 1 / 0.3)  # height to width of what is erased


def random_boxes(count: int, size: tuple[int, int], *, chance: float, generator: torch.Generator) -> Tensor:
    """Where each of ``count`` pictures is erased.

    Args:
        count: B.
        size: (H, W) of the pictures, pixels.
        chance: that a picture is erased at all.
        generator: on the CPU.

    Returns:
        (B, 4) int64 on the CPU: top, left, bottom, right; an empty box where nothing is erased.
    """
    height, width = size
    drawn = torch.rand(5, count, generator=generator, dtype=torch.float64)
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * drawn[1])
    low, high = (math.log(end) for end in ASPECT)
    aspect = (low + (high - low) * drawn[2]).exp()
    tall, wide = (area * aspect).sqrt().round().clamp(1, height), (area / aspect).sqrt().round().clamp(1, width)
    top, left = (drawn[3] * (height - tall + 1)).floor(), (drawn[4] * (width - wide + 1)).floor()
    boxes = torch.stack([top, left, top + tall, left + wide], dim=1).long()
    return torch.where((drawn[0] < chance).unsqueeze(1), boxes, 0)


def erased(images: Tensor, boxes: Tensor) -> Tensor:
    """The images with zeros (ImageNet's mean colour) inside their boxes.

    Args:
        images: (B, C, H, W), normalised.
        boxes: (B, 4) int64, as :func:`random_boxes` gives them, on the device of the images.

    >>> erased(torch.ones(1, 1, 2, 3), torch.tensor([[0, 1, 2, 2]])).tolist()
    [[[[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]]]
    """
    top, left, bottom, right = boxes.view(-1, 4, 1, 1).unbind(1)
    rows = torch.arange(images.shape[2], device=images.device).view(1, -1, 1)
    columns = torch.arange(images.shape[3], device=images.device).view(1, 1, -1)
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return images.masked_fill(inside.unsqueeze(1), 0.0)
