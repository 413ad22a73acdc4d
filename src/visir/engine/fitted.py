"""The closed-form stage of a method: raw features of every training image, once, then its own fit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visir.core.errors import StorageError
from visir.core.types import ImageTable
from visir.engine.embedder import Embedder
from visir.engine.encoders import preprocess_of
from visir.methods.base import Method, Sample


def fit_sample(
    method: Method[Any], table: ImageTable, *, device: torch.device, scratch: Path, workers: int = 2
) -> Mapping[str, float]:
    """Embed the training images with ``method.raw()`` into a memory-mapped file and let the method fit itself to them.

    Args:
        method: with a closed-form stage, trained as far as it is trained.
        table: the training images.
        device: where the features are computed.
        scratch: the file for the features, (n, D) float32; it is gone afterwards.
        workers: threads that decode ahead.

    Returns:
        what the method says of its fit.

    Raises:
        StorageError: no room for the features.
        ImageError: a file cannot be decoded; it is named.
    """
    network = method.raw()
    if network is None:
        return {}
    embedder = Embedder(network, preprocess_of(method), "", device=device, distance="euclidean")
    scratch.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(table), embedder.dim)
    try:
        features = np.lib.format.open_memmap(scratch, mode="w+", dtype=np.float32, shape=shape)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here and would be a crash in mapped memory
            with scratch.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, scratch.stat().st_size)
        embedder.embed_table(table, workers=workers, out=features)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        gib = 4 * shape[0] * shape[1] / 2**30
        raise StorageError(f"{scratch}: no room for the {gib:.1f} GiB of training features ({error}).") from error
    try:
        method.to("cpu")
        return method.fit(Sample(features, table.identity, table.camera, table.modality))
    finally:
        method.to(device)
        scratch.unlink(missing_ok=True)
