"""What people look at while a run trains: the method's grids, as files of the run and in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from visir.core.batch import Batch
from visir.core.files import write_bytes, write_json
from visir.core.grid import Grid
from visir.data.images import encode_png
from visir.data.loading import Source
from visir.data.mosaic import mosaic
from visir.engine.runtime import Runtime
from visir.experiment.folder import RunFolder
from visir.experiment.log import RunLog
from visir.methods.base import Method

INDEX = "pictures.json"


class Looks:
    """Writes the grids of a method that has some, always of the same images: those of each stream's first batch.

    Args:
        method: the one that trains.
        sources: of its streams.
        runtime: where it trains.
        folder: of the run.
    """

    def __init__(self, method: Method[Any], sources: Mapping[str, Source], runtime: Runtime, folder: RunFolder) -> None:
        self._method, self._sources, self._runtime, self._folder = method, sources, runtime, folder
        self._shows = type(method).pictures is not Method.pictures
        self._batches: dict[str, Batch] = {}

    def write(self, log: RunLog, *, epoch: int, step: int) -> None:
        """Write ``pictures/<name>-<epoch>.png`` for every grid, and what each shows into ``pictures/pictures.json``."""
        if not self._shows:
            return
        grids = self._grids()
        for name, grid in grids.items():
            drawn = mosaic(grid)
            write_bytes(self._folder.pictures / f"{name}-{epoch:04d}.png", encode_png(drawn))
            log.picture(name, drawn, step=step)
        shown = {name: {"file": f"{name}-{epoch:04d}.png", "caption": grid.caption} for name, grid in grids.items()}
        write_json(self._folder.pictures / INDEX, {"epoch": epoch, "step": step, "grids": shown})

    def _grids(self) -> Mapping[str, Grid]:
        device, layout = self._runtime.device, self._runtime.memory_format
        if not self._batches:
            self._batches = {name: source.batch(0) for name, source in self._sources.items()}
        training = self._method.training
        self._method.eval()
        with torch.no_grad():
            moved = {name: batch.to(device, memory_format=layout) for name, batch in self._batches.items()}
            grids = self._method.pictures(moved)
        self._method.train(training)
        return grids
