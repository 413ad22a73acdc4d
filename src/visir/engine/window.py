"""Loss terms and times between two events, read from the device once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from visir.core.errors import TrainingError
from visir.engine import ranks
from visir.engine.runtime import Runtime


class Window:
    """The steps since the last event. Their terms stay on the device until :meth:`read`, so no step waits for it.

    Attributes:
        images: on this rank.
        waited: seconds spent on waiting for batches.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.restart()

    def restart(self) -> None:
        """Forget everything and start the clock."""
        self._steps: list[tuple[int, tuple[str, ...]]] = []
        self._terms: list[Tensor] = []
        self.images, self.waited, self._started = 0, 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the restart."""
        return time.perf_counter() - self._started

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting."""
        began = time.perf_counter()
        yield
        self.waited += time.perf_counter() - began

    def add(self, index: int, terms: Mapping[str, Tensor], images: int) -> None:
        """Note the terms of step ``index``."""
        self.images += images
        if terms:
            values = [
                term.detach().to(self._runtime.device, torch.float32, non_blocking=True) for term in terms.values()
            ]
            self._steps.append((index, tuple(terms)))
            self._terms.append(torch.stack([value.reshape(()) for value in values]))

    def read(self) -> dict[str, float]:
        """The mean of each term over the steps that had it, and over ranks.

        Raises:
            TrainingError: a term was not finite; the first such step and all its terms are named.
        """
        if not self._terms:
            return {}
        joined = torch.cat(self._terms)
        ranks.average([joined], self._runtime.world)
        left = iter(joined.tolist())
        seen: dict[str, list[float]] = {}
        for index, names in self._steps:
            values = {name: next(left) for name in names}
            _require_finite(index, values)
            for name, value in values.items():
                seen.setdefault(name, []).append(value)
        return {name: math.fsum(values) / len(values) for name, values in seen.items()}


def _require_finite(index: int, values: Mapping[str, float]) -> None:
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        others = ", ".join(f"{name} {value:.6g}" for name, value in values.items() if name != bad[0]) or "none"
        raise TrainingError(
            f"step {index}: the loss term {bad[0]!r} is {values[bad[0]]} (other terms: {others}). Training stops; "
            "saved checkpoints are untouched. Lower the learning rate, or use fp32 or bf16 if this was fp16."
        )
