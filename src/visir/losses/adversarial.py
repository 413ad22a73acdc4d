"""What a discriminator and a generator want of each other: least squares over one or several scales, and a penalty.

Mao et al., Least Squares Generative Adversarial Networks, ICCV 2017; Mescheder, Geiger and Nowozin, Which Training
Methods for GANs do actually Converge?, ICML 2018 (the penalty on real images, R1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visir.core.errors import TrainingError

Maps = Tensor | Sequence[Tensor]


def discriminator_loss(real: Maps, fake: Maps) -> Tensor:
    """Sum over the scales of ``mean(fake^2) + mean((real - 1)^2)``; CycleGAN takes half of it.

    Args:
        real: maps of scores of real images, (B, 1, h, w) for each scale (or one tensor); of any size.
        fake: the same of made images, which the caller has detached.

    Raises:
        TrainingError: no scale, or not as many for real as for made images.

    >>> round(float(discriminator_loss(torch.tensor([0.8]), torch.tensor([0.3]))), 6)
    0.13
    """
    reals, fakes = _scales("discriminator_loss", real), _scales("discriminator_loss", fake)
    if len(reals) != len(fakes):
        raise TrainingError(
            f"discriminator_loss: expected as many scales of real as of made images, got {len(reals)} and {len(fakes)}."
        )
    return torch.stack([f.square().mean() + (r - 1).square().mean() for r, f in zip(reals, fakes, strict=True)]).sum()


def generator_loss(fake: Maps) -> Tensor:
    """Sum over the scales of ``mean((fake - 1)^2)``: a generator wants its images taken for real.

    Raises:
        TrainingError: no scale.

    >>> round(float(generator_loss([torch.tensor([0.3])] * 3)), 6)
    1.47
    """
    return torch.stack([(f - 1).square().mean() for f in _scales("generator_loss", fake)]).sum()


def gradient_penalty(real: Maps, images: Tensor) -> Tensor:
    """Sum over the scales of ``E ||grad_x sum(D(x))||^2`` on real images (R1), the mean being over images.

    The scores of an image are summed over the places of a map, as in the released code of DG-Net. The penalty can
    itself be differentiated.

    Args:
        real: maps of scores, (B, 1, h, w) for each scale, that depend on ``images``.
        images: (B, ...) real images that need a gradient.

    Raises:
        TrainingError: no scale, or ``images`` need no gradient.

    >>> images = torch.tensor([[1.0, 5.0]], requires_grad=True)
    >>> float(gradient_penalty(images @ torch.tensor([[1.0], [2.0]]), images))
    5.0
    """
    if not images.requires_grad:
        raise TrainingError("gradient_penalty: expected real images that need a gradient; call requires_grad_() first.")
    penalties = []
    for scores in _scales("gradient_penalty", real):
        (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
        penalties.append(gradient.flatten(1).square().sum(1).mean())
    return torch.stack(penalties).sum()


def _scales(loss: str, maps: Maps) -> Sequence[Tensor]:
    found = [maps] if isinstance(maps, Tensor) else list(maps)
    if not found or any(not m.numel() for m in found):
        raise TrainingError(f"{loss}: expected the scores of at least one scale and image, got none.")
    return found
