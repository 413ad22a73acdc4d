"""Sphere softmax: identities as directions, told apart by the angle alone."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from visir.core.errors import TrainingError

SHORTEST = 1e-6  # features and class weights count as at least this long: the slope at zero stays finite


def sphere_softmax_loss(features: Tensor, weights: Tensor, identities: Tensor, *, scale: float) -> Tensor:
    """Cross-entropy of the cosines between features and class weights, times a fixed scale.

    ``mean_i -log softmax_c(s cos(f_i, w_c))[y_i]``, without bias: neither the length of a feature nor that of a class
    weight matters. Fan, Jiang, Luo and Fei, SphereReID: Deep Hypersphere Manifold Embedding for Person
    Re-Identification, 2019.

    Args:
        features: (B, D), of any length.
        weights: (C, D), one row for each identity, of any length.
        identities: (B,) int64 in 0..C-1.
        scale: s, above 0; the larger, the closer the loss can come to 0.

    Returns:
        Scalar, at least 0.

    Raises:
        TrainingError: shapes that do not fit.

    >>> import torch
    >>> classes = torch.tensor([[0.9, 0.19**0.5], [0.1, 0.99**0.5], [0.0, 1.0]], dtype=torch.float64)
    >>> feature = torch.tensor([[2.0, 0.0]], dtype=torch.float64)  # cosines 0.9, 0.1 and 0
    >>> f"{sphere_softmax_loss(feature, classes, torch.tensor([0]), scale=14.0):.2e}"
    '1.70e-05'
    """
    fit = features.dim() == weights.dim() == 2 and features.shape[1:] == weights.shape[1:]
    if not fit or identities.shape != features.shape[:1] or not features.numel() or not len(weights):
        raise TrainingError(
            "sphere_softmax_loss: expected features (B, D), class weights (C, D) and identities (B,), got "
            f"{tuple(features.shape)}, {tuple(weights.shape)} and {tuple(identities.shape)}."
        )
    directions = functional.normalize(features, dim=1, eps=SHORTEST)
    cosines = directions @ functional.normalize(weights, dim=1, eps=SHORTEST).T
    return functional.cross_entropy(scale * cosines, identities)
