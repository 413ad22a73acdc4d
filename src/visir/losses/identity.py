"""Identity loss: softmax cross-entropy, one classifier or one for each body part."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from visir.core.errors import TrainingError


def identity_loss(logits: Tensor, identities: Tensor) -> Tensor:
    """Cross-entropy, averaged over the images and summed over the parts.

    ``sum_i mean_j -log softmax(logits[j, i])[y_j]``. The identity loss of DFE (Hao et al., Dual-alignment Feature
    Embedding for Cross-modality Person Re-identification, ACM MM 2019, eq. 13) is this of the visible images plus this
    of the infrared ones.

    Args:
        logits: (B, K, C) of K part classifiers, or (B, C) of one, before the softmax.
        identities: (B,) int64 in 0..C-1.

    Returns:
        Scalar, at least 0; K ln C where all logits are equal.

    Raises:
        TrainingError: shapes that do not fit.

    >>> import torch
    >>> round(float(identity_loss(torch.zeros(4, 6, 206), torch.tensor([0, 5, 5, 205]))), 2)  # 6 ln 206
    31.97
    """
    if logits.dim() not in (2, 3) or identities.shape != logits.shape[:1] or not len(identities):
        raise TrainingError(
            "identity_loss: expected logits (B, C) or (B, K, C) and identities (B,), "
            f"got {tuple(logits.shape)} and {tuple(identities.shape)}."
        )
    if logits.dim() == 2:
        return functional.cross_entropy(logits, identities)
    images, parts, _ = logits.shape
    summed = functional.cross_entropy(logits.flatten(0, 1), identities.repeat_interleave(parts), reduction="sum")
    return summed / images
