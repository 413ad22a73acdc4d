"""What a classifier learns from another one about pictures whose identity nobody knows.

Zheng et al., Joint Discriminative and Generative Learning for Person Re-identification (DG-Net), CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from visir.core.errors import TrainingError


def mean_softmax(views: Sequence[Tensor]) -> Tensor:
    """The mean of the softmaxes of several views of the same images, such as an image and its mirror image.

    Args:
        views: tensors (B, C) of logits.

    Returns:
        (B, C), rows that sum to 1.

    Raises:
        TrainingError: no views, or shapes that differ.

    >>> mean_softmax([torch.zeros(1, 2), torch.tensor([[0.0, 50.0]])]).tolist()
    [[0.25, 0.75]]
    """
    if not views or any(view.shape != views[0].shape for view in views):
        raise TrainingError(
            f"mean_softmax: expected logits of one shape (B, C) for each view, got {[tuple(v.shape) for v in views]}."
        )
    return torch.stack([view.softmax(dim=1) for view in views]).mean(0)


def teaching_loss(logits: Tensor, taught: Tensor) -> Tensor:
    """``KL(q || p) = sum_c q_c ln(q_c / p_c)``, averaged over the images; p is the softmax of ``logits``.

    DG-Net, eq. 8 (primary feature learning). The student should allow whatever the teacher holds possible; the slides
    that take DG-Net to two spectra print the divergence the other way round.

    Args:
        logits: (B, C) of the student, before the softmax.
        taught: (B, C), q of the teacher: at least 0, rows that sum to 1; without a gradient.

    Returns:
        Scalar, at least 0; 0 where student and teacher agree.

    Raises:
        TrainingError: shapes that differ or are not (B, C).

    >>> q, p = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.5, 0.3, 0.2]])
    >>> round(float(teaching_loss(p.log(), q)), 6)
    0.085123
    """
    if logits.shape != taught.shape or logits.dim() != 2 or not logits.numel():
        raise TrainingError(
            "teaching_loss: expected logits and a teacher's probabilities of one shape (B, C), got "
            f"{tuple(logits.shape)} and {tuple(taught.shape)}."
        )
    return functional.kl_div(logits.log_softmax(dim=1), taught, reduction="batchmean")
