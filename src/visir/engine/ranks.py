"""Several processes that train as one: sums across ranks that gradients flow through, joint batch statistics.

Two ranks must do what one rank does on the joined batch. That takes three things: a gather with a gradient, batch
normalisation over the joined batch, and gradients averaged over ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

BUCKET = 32 * 2**20  # bytes that are averaged at once


class _Sum(torch.autograd.Function):
    """The sum over ranks; its gradient is the sum of the ranks' gradients, to any order."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Sum.apply(gradients[0])


def gather(tensor: Tensor, rank: int, world: int) -> Tensor:
    """(B, ...) -> (world * B, ...), rank after rank; every rank must give the same shape.

    The gradient that arrives on a rank is that of the sum of all ranks' losses. After :func:`average` the parameters
    so get the gradient of the mean of the losses, whether a loss was computed from a share or from the gathered whole.
    """
    if world == 1:
        return tensor
    before = tensor.new_zeros(rank * len(tensor), *tensor.shape[1:])
    after = tensor.new_zeros((world - 1 - rank) * len(tensor), *tensor.shape[1:])
    gathered: Tensor = _Sum.apply(torch.cat([before, tensor, after]))
    return gathered


def average(tensors: Sequence[Tensor], world: int) -> None:
    """Replace each tensor by its mean over ranks, in place, a bucket at a time; all ranks end with equal bits."""
    if world == 1:
        return
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        dist.all_reduce(flat)
        flat.div_(world)
        first = 0
        for tensor in bucket:
            tensor.copy_(flat[first : first + tensor.numel()].view(tensor.shape))
            first += tensor.numel()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        bucket: list[Tensor] = []
        size = 0
        for tensor in (tensor for tensor in tensors if tensor.dtype == dtype):
            bucket.append(tensor)
            size += tensor.numel() * tensor.element_size()
            if size >= BUCKET:
                yield bucket
                bucket, size = [], 0
        if bucket:
            yield bucket


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Give every rank the values of rank 0, in place."""
    for tensor in tensors:
        whole = tensor.contiguous()
        dist.broadcast(whole, 0)
        tensor.copy_(whole)


class JointStatistics(TorchFunctionMode):
    """While active, batch normalisation in training uses the mean and variance of the batch of all ranks.

    It stands in for ``torch.nn.functional.batch_norm``, so it holds for every module that calls it, changes no module
    and no checkpoint, and works on CPUs, where ``torch.nn.SyncBatchNorm`` does not.
    """

    def __init__(self, rank: int, world: int) -> None:
        super().__init__()
        self._rank, self._world = rank, world

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm:
            return self._normalise(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _normalise(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        mean, variance, count = self._joint(x)
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((variance * count / (count - 1)).to(running_var.dtype), momentum)
        scale = torch.rsqrt(variance + eps)
        if weight is not None:
            scale = scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        shape = [1, -1] + [1] * (x.dim() - 2)
        return torch.addcmul(shift.view(shape), x, scale.view(shape)).to(input.dtype)

    def _joint(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (C,), population variance (C,) and count () over all ranks, from each rank's own."""
        channels = x.shape[1]
        variance, mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
        own = torch.cat([mean, variance, x.new_full((1,), x.numel() // channels)])
        every = gather(own[None], self._rank, self._world)
        means, variances, counts = every[:, :channels], every[:, channels:-1], every[:, -1:]
        share = counts / counts.sum()
        joint = (share * means).sum(0)
        return joint, (share * (variances + (means - joint) ** 2)).sum(0), counts.sum()
