"""Identity loss: softmax cross-entropy, one classifier or one for each body part."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from visir.core.errors import TrainingError


def identity_loss(logits: Tensor, identities: Tensor, *, smoothing: float | Tensor = 0.0) -> Tensor:
    """Cross-entropy, averaged over the images and summed over the parts.

    ``sum_i mean_j -log softmax(logits[j, i])[y_j]``. The identity loss of DFE (Hao et al., Dual-alignment Feature
    Embedding for Cross-modality Person Re-identification, ACM MM 2019, eq. 13) is this of the visible images plus this
    of the infrared ones.

    Args:
        logits: (B, K, C) of K part classifiers, or (B, C) of one, before the softmax.
        identities: (B,) int64 in 0..C-1.
        smoothing: epsilon in [0, 1] of label smoothing (Szegedy et al., Rethinking the Inception Architecture, CVPR
            2016): the target is 1 - epsilon + epsilon / C at the identity and epsilon / C elsewhere; one number, or
            (B,) for each image its own.

    Returns:
        Scalar, at least 0; K ln C where all logits are equal.

    Raises:
        TrainingError: shapes that do not fit, or a single smoothing outside [0, 1].

    >>> import torch
    >>> round(float(identity_loss(torch.zeros(4, 6, 206), torch.tensor([0, 5, 5, 205]))), 2)  # 6 ln 206
    31.97
    """
    if logits.dim() not in (2, 3) or identities.shape != logits.shape[:1] or not len(identities):
        raise TrainingError(
            "identity_loss: expected logits (B, C) or (B, K, C) and identities (B,), "
            f"got {tuple(logits.shape)} and {tuple(identities.shape)}."
        )
    if isinstance(smoothing, Tensor) or smoothing:
        return _smoothed(logits, identities, smoothing)
    if logits.dim() == 2:
        return functional.cross_entropy(logits, identities)
    images, parts, _ = logits.shape
    summed = functional.cross_entropy(logits.flatten(0, 1), identities.repeat_interleave(parts), reduction="sum")
    return summed / images


def _smoothed(logits: Tensor, identities: Tensor, smoothing: float | Tensor) -> Tensor:
    if isinstance(smoothing, Tensor):
        if smoothing.shape != identities.shape:
            raise TrainingError(
                f"identity_loss: expected a smoothing for each of {len(identities)} images, got shape "
                f"{tuple(smoothing.shape)}."
            )
        smoothing = smoothing.view(-1, *[1] * (logits.dim() - 2))
    elif not 0 <= smoothing <= 1:
        raise TrainingError(f"identity_loss: expected a smoothing from 0 to 1, got {smoothing}.")
    costs = -logits.log_softmax(dim=-1)
    index = identities.view(-1, *[1] * (logits.dim() - 1)).expand(*logits.shape[:-1], 1)
    named = costs.gather(-1, index).squeeze(-1)
    return (named + smoothing * (costs.mean(dim=-1) - named)).sum() / len(identities)
