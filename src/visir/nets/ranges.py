"""Between the ranges that image values have: ImageNet-normalised batches, [-1, 1] of generators, [0, 1] to look at."""

from __future__ import annotations

import torch
from torch import Tensor

from visir.core.colours import DEVIATION, MEAN


def _column(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(3, 1, 1)


def signed(images: Tensor) -> Tensor:
    """(..., 3, H, W) ImageNet-normalised -> the same pixels in [-1, 1], as generators and discriminators see them.

    >>> signed(torch.zeros(1, 3, 1, 1)).flatten().tolist() == [2 * m - 1 for m in torch.tensor(MEAN).tolist()]
    True
    """
    return shown(images) * 2 - 1


def normalised(images: Tensor) -> Tensor:
    """(..., 3, H, W) in [-1, 1] -> ImageNet-normalised: the inverse of :func:`signed`."""
    return ((images + 1) / 2 - _column(MEAN, images)) / _column(DEVIATION, images)


def shown(images: Tensor) -> Tensor:
    """(..., 3, H, W) ImageNet-normalised -> the same pixels in [0, 1], as people see them."""
    return images * _column(DEVIATION, images) + _column(MEAN, images)
