"""How far what was made is from what it should be, and how far codes are from standard noise."""

from __future__ import annotations

from torch import Tensor

from visir.core.errors import TrainingError


def absolute_error(wanted: Tensor, made: Tensor) -> Tensor:
    """``E |wanted - made|``: the mean over all elements, for images and for codes.

    Args:
        wanted: (B, ...); detach it where the publication does.
        made: the same shape.

    Raises:
        TrainingError: shapes that differ, or nothing in them.

    >>> import torch
    >>> float(absolute_error(torch.tensor([0.5, -0.5, 0.0, 1.0]), torch.tensor([0.25, -0.5, 0.5, 0.5])))
    0.3125
    """
    _check("absolute_error", wanted, made)
    return (wanted - made).abs().mean()


def squared_error(wanted: Tensor, made: Tensor) -> Tensor:
    """``E (wanted - made)^2``: the mean over all elements.

    Args:
        wanted: (B, ...).
        made: the same shape.

    Raises:
        TrainingError: shapes that differ, or nothing in them.

    >>> import torch
    >>> float(squared_error(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 1.0])))
    0.625
    """
    _check("squared_error", wanted, made)
    return (wanted - made).square().mean()


def code_energy(codes: Tensor) -> Tensor:
    """``E mu^2`` over all elements: Kullback-Leibler divergence of N(mu, I) from N(0, I), doubled, per dimension.

    The exact divergence of one image is ``0.5 * sum(mu^2)``; the released code of UNIT (Liu, Breuel and Kautz, NIPS
    2017) minimises this mean instead, which differs by a constant factor.

    Args:
        codes: (B, ...), the means.

    Raises:
        TrainingError: no codes.

    >>> import torch
    >>> float(code_energy(torch.tensor([[1.0, -2.0, 0.0, 1.0]])))
    1.5
    """
    if not codes.numel():
        raise TrainingError("code_energy: expected at least one code, got none.")
    return codes.square().mean()


def _check(loss: str, wanted: Tensor, made: Tensor) -> None:
    if wanted.shape != made.shape or not wanted.numel():
        raise TrainingError(
            f"{loss}: expected two tensors of one shape with something in them, got {tuple(wanted.shape)} and "
            f"{tuple(made.shape)}."
        )
