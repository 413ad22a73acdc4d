"""A network as it is now, used without being trained: what a copy of it would do, without a copy."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.func import functional_call

Run = Callable[[nn.Module, Tensor], Tensor]
"""How a network is applied to images: :func:`live`, :func:`frozen` or :func:`unmoved`."""


def live(network: nn.Module, images: Tensor) -> Tensor:
    """``network(images)``: the counterpart of :func:`frozen` and :func:`unmoved`."""
    found: Tensor = network(images)
    return found


def frozen(network: nn.Module, images: Tensor) -> Tensor:
    """``network(images)`` with weights that get no gradient and statistics that stay as they are.

    The gradient goes through to the images. Batch normalisation of a network in training mode uses the statistics of
    this batch, and its running ones do not move: this is what a deep copy of the network would give.

    >>> import torch
    >>> network = nn.BatchNorm1d(1)
    >>> frozen(network, torch.tensor([[1.0], [3.0]])).flatten().tolist(), network.running_mean.tolist()
    ([-0.9999949932098389, 0.9999949932098389], [0.0])
    """
    return _called(network, images, moving=False)


def unmoved(network: nn.Module, images: Tensor) -> Tensor:
    """``network(images)`` with weights that get no gradient, while running statistics move as in training.

    Under autocast this is not the same as ``torch.no_grad()``, which would leave low-precision weights without a
    gradient for the next use of the network.
    """
    return _called(network, images, moving=True)


def _called(network: nn.Module, images: Tensor, *, moving: bool) -> Tensor:
    state = {name: parameter.detach() for name, parameter in network.named_parameters()}
    if not moving:
        state |= {name: buffer.clone() for name, buffer in network.named_buffers()}
    found: Tensor = functional_call(network, state, (images,))
    return found
