"""Two branches by modality: every image through the one that is its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Branch = Callable[[Tensor], Tensor]


def by_modality(visible: Branch, infrared: Branch, images: Tensor, modality: Tensor, *, training: bool) -> Tensor:
    """Each image through the branch of its modality, in the order of the images.

    A training batch is its visible half, then its infrared half, so nothing has to look where they are (on a GPU,
    looking makes the host wait). Otherwise any order will do, and a branch without images is not run.

    Args:
        visible: (b, ...) -> (b, ...), for images of modality 0.
        infrared: the same for modality 1, with results of the same shape and type.
        images: (B, ...).
        modality: (B,) int64.
        training: whether the batch is one of training, where branches also update their statistics.

    >>> images, modality = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 0, 1])
    >>> by_modality(lambda x: x, lambda x: -x, images, modality, training=False)
    tensor([-1.,  2., -3.])
    """
    if training:
        first, second = images.chunk(2)
        return torch.cat([visible(first), infrared(second)])
    if torch.compiler.is_exporting():  # a traced graph cannot depend on what the modalities are
        seen, unseen = visible(images), infrared(images)
        return torch.where((modality == 0).view(-1, *[1] * (seen.dim() - 1)), seen, unseen)
    rows = [(modality == value).nonzero().flatten() for value in (0, 1)]
    parts = [(r, branch(images[r])) for r, branch in zip(rows, (visible, infrared), strict=True) if len(r)]
    if len(parts) == 1:
        return parts[0][1]
    return torch.cat([part for _, part in parts])[torch.cat([r for r, _ in parts]).argsort()]
