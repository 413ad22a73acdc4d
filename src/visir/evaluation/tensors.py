"""The scores of :mod:`visir.evaluation.kernels` in tensor operations, for GPUs: same order, same ties, same numbers."""

from __future__ import annotations

import torch
from torch import Tensor

AT_A_TIME = 1 << 24  # distances sorted at once: about 0.6 GiB with everything that hangs on them


def score_gallery(
    distance: Tensor,
    column: Tensor,
    identity: Tensor,
    wanted: Tensor,
    *,
    identity_level: bool,
    identities: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Score b queries against the gallery ``column``.

    Args:
        distance: (b, G) float, infinite where hidden.
        column: (g,) columns of ``distance`` in gallery order.
        identity: (g,) int64 identity codes of ``column``.
        wanted: (b,) int64 identity codes of the queries.
        identity_level: whether the first rank counts identities.
        identities: number of identity codes.

    Returns:
        first rank (b,) int64, average precision and INP (b,) float64, ties (b,) int64; zeros where a query sees no
        right image.
    """
    step = max(1, AT_A_TIME // max(len(column), identities))
    parts = [
        _score(distance[at : at + step][:, column], identity, wanted[at : at + step], identity_level, identities)
        for at in range(0, len(distance), step)
    ]
    if not parts:
        none = torch.zeros(0, device=distance.device)
        return none.long(), none.double(), none.double(), none.long()
    first, precision, inp, ties = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return first, precision, inp, ties


def _score(
    kept: Tensor, identity: Tensor, wanted: Tensor, identity_level: bool, identities: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ordered, order = torch.sort(kept, dim=1, stable=True)
    right = (identity[order] == wanted[:, None]) & torch.isfinite(ordered)
    so_far = right.cumsum(1)
    found = so_far[:, -1]
    place = torch.arange(1, kept.shape[1] + 1, device=kept.device)
    divisor = found.clamp(min=1).double()
    precision = (right * (so_far.double() / place)).sum(1) / divisor
    last = (right * place).amax(1).clamp(min=1)
    first = torch.where(found > 0, right.int().argmax(1) + 1, 0)
    if identity_level:
        first = torch.where(found > 0, 1 + _identities_before(order, identity, first, identities), 0)
    return first, precision, found / last.double(), _ties(ordered, right, so_far)


def _identities_before(order: Tensor, identity: Tensor, first: Tensor, identities: int) -> Tensor:
    """(b,) identities whose nearest image comes before rank ``first``."""
    place = torch.arange(1, order.shape[1] + 1, device=order.device).expand_as(order)
    nearest = torch.full((len(order), identities), order.shape[1] + 1, dtype=torch.int64, device=order.device)
    nearest.scatter_reduce_(1, identity[order], place, "amin")
    return (nearest < first[:, None]).sum(1)


def _ties(ordered: Tensor, right: Tensor, so_far: Tensor) -> Tensor:
    """(b,) right images whose run of equal distances holds a wrong one."""
    begin = torch.searchsorted(ordered, ordered)
    end = torch.searchsorted(ordered, ordered, right=True)
    before = torch.nn.functional.pad(so_far, (1, 0))
    right_in_run = before.gather(1, end) - before.gather(1, begin)
    return (right & (right_in_run < end - begin)).sum(1)
