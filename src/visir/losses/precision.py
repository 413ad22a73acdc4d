"""In which precision losses are computed."""

from __future__ import annotations

import torch
from torch import Tensor


def full(features: Tensor) -> Tensor:
    """The features of a network that may run in 16 bits, for losses: float32, or float64 as it is.

    >>> full(torch.ones(2, dtype=torch.bfloat16)).dtype, full(torch.ones(2, dtype=torch.float64)).dtype
    (torch.float32, torch.float64)
    """
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
