"""The batches that a step wants, of streams that come and go with the phases of a training."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Protocol

import torch

from visir.core.batch import Batch
from visir.core.errors import TrainingError, nearest
from visir.engine.runtime import Runtime
from visir.methods.base import Method


class Source(Protocol):
    """Batches of one stream by step; :class:`visir.data.loading.Source` is one."""

    steps_per_epoch: int

    def batches(self, first: int, last: int, device: torch.device) -> Generator[Batch, None, None]:
        """The batches of the steps first..last-1 on ``device``."""
        ...


class Incoming:
    """Opens a stream when it is first wanted and closes it when it no longer is; what nobody wants is not loaded.

    Args:
        method: says what it wants, epoch by epoch.
        sources: by name of the stream.
        runtime: where the batches go.
        last: number of steps of the whole training.
    """

    def __init__(self, method: Method[Any], sources: Mapping[str, Source], runtime: Runtime, last: int) -> None:
        self._method, self._sources, self._runtime, self._last = method, sources, runtime, last
        self._open: dict[str, Generator[Batch, None, None]] = {}

    def at(self, index: int, epoch: float) -> dict[str, Batch]:
        """The wanted batches of step ``index``, to be asked for step after step.

        Raises:
            TrainingError: the method wants a stream that it did not declare.
        """
        wanted = self._method.wanted(epoch)
        for name in [name for name in self._open if name not in wanted]:
            self._open.pop(name).close()
        for name in wanted:
            if name not in self._sources:
                raise TrainingError(f"the method wants batches named {name!r}. {nearest(name, self._sources)}")
            if name not in self._open:
                self._open[name] = self._sources[name].batches(index, self._last, self._runtime.device)
        layout = self._runtime.memory_format
        return {n: next(b).to(self._runtime.device, memory_format=layout) for n, b in self._open.items()}

    def close(self) -> None:
        """Close every stream."""
        while self._open:
            self._open.popitem()[1].close()
