"""Which spectrum a feature comes from: what a modality discriminator learns, and what features should not give away.

Dai, Ji, Wang, Wu and Huang, Cross-Modality Person Re-Identification with Generative Adversarial Training (cmGAN),
IJCAI 2018.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from visir.core.errors import TrainingError


def modality_loss(logits: Tensor, modality: Tensor) -> Tensor:
    """Cross-entropy over the two spectra, averaged over the images.

    Args:
        logits: (B, 2), before the softmax.
        modality: (B,) int64, values of :class:`visir.core.types.Modality`.

    Returns:
        Scalar, at least 0; ln 2 where nothing is known.

    Raises:
        TrainingError: shapes that do not fit, or no images.

    >>> import torch
    >>> round(float(modality_loss(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1]))), 4)
    0.6931
    """
    if logits.dim() != 2 or logits.shape[1] != 2 or modality.shape != logits.shape[:1] or not len(modality):
        raise TrainingError(
            "modality_loss: expected logits (B, 2) and modalities (B,), "
            f"got {tuple(logits.shape)} and {tuple(modality.shape)}."
        )
    return functional.cross_entropy(logits, modality)
