"""What :class:`visir.methods.base.Step` is to a method on one rank, without an engine."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass
class OneRank:
    """The engine as one rank sees it."""

    index: int = 0
    epoch: float = 0.0
    seed: int = 0

    @property
    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def minimize(self, loss: Tensor, *names: str) -> None:
        raise AssertionError("losses() does not minimize")

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor

    def share(self, tensor: Tensor) -> Tensor:
        return tensor
