"""What networks that make pictures hold in memory: the graph of one update, and nothing of the steps before."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import made, trained

from visir.methods import catalog

NAMES = [name for name in catalog.available() if hasattr(catalog.find(name).Config(), "width")]
STEPS = 2


class Kept:
    """A tensor that a graph keeps for its backward pass."""

    now = peak = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        Kept.now += tensor.nbytes
        Kept.peak = max(Kept.peak, Kept.now)

    def __del__(self) -> None:
        Kept.now -= self.tensor.nbytes


def living() -> int:
    """Bytes of all tensors that Python can reach; what shares memory counts once."""
    gc.collect()
    found = (one for one in gc.get_objects() if issubclass(type(one), Tensor) and one.device.type == "cpu")
    return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in found}.values())


def measured(step: Callable[..., Mapping[str, Tensor]], seen: list[tuple[int, int, int]]) -> Callable[..., Any]:
    """``train_step`` that notes, of every step: kept from before, most kept at once, living before it."""

    def train_step(*args: Any) -> Mapping[str, Tensor]:
        alive = living()
        before, Kept.peak = Kept.now, Kept.now
        terms = step(*args)
        seen.append((before, Kept.peak, alive))
        return terms

    return train_step


@pytest.mark.parametrize("name", NAMES)
def test_steps_leave_nothing_behind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = made(name, epochs=3)
    seen: list[tuple[int, int, int]] = []
    monkeypatch.setattr(method, "train_step", measured(method.train_step, seen))
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        trained(method, epochs=4, steps_per_epoch=STEPS)
    assert [before for before, *_ in seen] == [0] * 4 * STEPS, "the graph of a step ends with it"
    _, peak, alive = zip(*seen[-STEPS:], strict=True)
    assert max(peak) < 1.01 * min(peak), "each step needs as much as the last, but for what is mined"
    assert max(alive) < min(alive) + 1000, "but for the terms since the last line of the log, nothing is gathered"
