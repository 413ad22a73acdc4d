"""A network that tells from a feature which spectrum it comes from."""

from __future__ import annotations

from torch import nn

HIDDEN = (1000, 500)


class ModalityDiscriminator(nn.Sequential):
    """Three linear layers with rectifiers between them, as in cmGAN (Dai et al., IJCAI 2018): D-1000-500-2.

    (B, D) features -> (B, 2), the logits of visible and of infrared.

    Args:
        dim: D, the length of a feature.

    >>> import torch
    >>> ModalityDiscriminator(8)(torch.zeros(3, 8)).shape
    torch.Size([3, 2])
    """

    def __init__(self, dim: int) -> None:
        first, second = HIDDEN
        super().__init__(nn.Linear(dim, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 2))
