"""Images to vectors: for evaluation from tables, for galleries from pictures, always prepared the same way."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visir.core.errors import CheckpointError, EvaluationError
from visir.core.progress import track
from visir.core.types import ByteArray, FloatArray, ImageTable, Modality
from visir.data.images import Preprocess, normalise, resize
from visir.data.loading import images as load_images
from visir.engine import encoders, files
from visir.engine.build import describe
from visir.engine.runtime import LOW, Precision
from visir.evaluation.product import Distance, as_distance
from visir.methods.base import Method


class Embedder:
    """A trained encoder on a device; fulfils the gallery's ``Embedder``.

    Args:
        network: images (B, 3, H, W), modality (B,) -> (B, D), with the attribute ``dim``.
        preprocess: how images become its input.
        fingerprint: names weights and preprocessing.
        device: where it runs; the network is moved there.
        precision: "fp32", or "bf16" and "fp16" for speed on GPUs.
        batch: images at once.
        distance: None for what the network says.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocess: Preprocess,
        fingerprint: str,
        *,
        device: torch.device,
        precision: Precision = "fp32",
        batch: int = 64,
        distance: Distance | None = None,
    ) -> None:
        if not hasattr(network, "dim"):
            raise CheckpointError(
                "expected an encoder that gives vectors, got one that converts pictures; 'visir convert RUN DIR' "
                "writes what it makes of them."
            )
        self._distance = distance
        self._network, self.preprocess, self._fingerprint = network.to(device), preprocess, fingerprint
        self._device, self._precision, self._batch = device, precision, batch

    @classmethod
    def open(
        cls, path: Path, *, device: torch.device | None = None, precision: Precision = "fp32", batch: int = 64
    ) -> Embedder:
        """The embedder of an encoder file or folder, of a checkpoint, or of a run folder. Nothing is downloaded.

        Args:
            path: see :func:`visir.engine.encoders.load_encoder`.
            device: None for a GPU where there is one.
            precision: see the class.
            batch: see the class.

        Raises:
            CheckpointError: nothing usable there.
        """
        found = encoders.load_encoder(path)
        chosen = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return cls(found.network, found.preprocess, found.fingerprint, device=chosen, precision=precision, batch=batch)

    @classmethod
    def of(
        cls, method: Method[Any], *, device: torch.device, precision: Precision = "fp32", batch: int = 64
    ) -> Embedder:
        """The embedder of a method as it is now, for validation during training; its fingerprint is of this moment."""
        preprocess = encoders.preprocess_of(method)
        weights = files.copied(method.encoder.state_dict())
        name = encoders.fingerprint(weights, describe(method), preprocess)
        return cls(method.encoder, preprocess, name, device=device, precision=precision, batch=batch)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._network.dim)  # type: ignore[arg-type]

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of weights and preprocessing: equal exactly when vectors are comparable."""
        return self._fingerprint

    @property
    def distance(self) -> Distance:
        """How the vectors of :meth:`embed_table` are compared: "cosine", or what the network says of itself."""
        named = self._distance or getattr(self._network, "distance", "cosine")
        return as_distance(str(named))

    def embed(self, images: Iterable[ByteArray], modality: Modality) -> FloatArray:
        """(H, W, 3) uint8 RGB pictures of any sizes and of one modality -> (n, D) float32 of unit length.

        For galleries, which compare by angle, whatever the distance of the evaluation.

        Raises:
            EvaluationError: a picture of another type or shape, or a vector that is not finite or zero.
        """
        found = [np.empty((0, self.dim), np.float32)]
        left, first = iter(images), 0
        with _evaluating(self._network):
            while part := list(itertools.islice(left, self._batch)):
                names = [f"image {first + i}" for i in range(len(part))]
                pixels = np.stack([self._sized(*named) for named in zip(part, names, strict=True)])
                found.append(self._unit(torch.from_numpy(pixels), torch.full((len(part),), int(modality)), names))
                first += len(part)
        return np.concatenate(found)

    def embed_table(
        self, table: ImageTable, *, workers: int = 2, show_progress: bool = True, out: FloatArray | None = None
    ) -> FloatArray:
        """The images of a table, of both modalities, in its order -> (n, D) float32, for the evaluation.

        Of unit length where vectors are compared by angle. A few batches of images are in memory at once, whatever the
        length of the table.

        Args:
            table: the images.
            workers: threads that decode ahead.
            show_progress: a bar, or plain lines.
            out: (n, D) float32 to write into, such as a memory-mapped one.

        Raises:
            ImageError: a file cannot be decoded; it is named.
            EvaluationError: a vector that is not finite or zero; the file is named.
        """
        vectors = np.empty((len(table), self.dim), np.float32) if out is None else out
        batches = load_images(table, self.preprocess, batch=self._batch, workers=workers)
        if show_progress:
            batches = track(batches, f"embedding, {self._batch} images at a time", -(-len(table) // self._batch))
        given = self._unit if self.distance == "cosine" else self._finite
        with _evaluating(self._network):
            for rows, pixels in batches:
                names = [table.paths[row] for row in rows]
                vectors[rows] = given(pixels, torch.from_numpy(table.modality[rows]), names)
        return vectors

    def _finite(self, pixels: Tensor, modality: Tensor, names: Sequence[str]) -> FloatArray:
        """(b, H, W, 3) uint8 -> (b, D) float32 of any length."""
        vectors = self._raw(pixels, modality)
        wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(wrong):
            raise EvaluationError(
                f"{names[wrong[0]]}: the encoder gave a vector with NaN or infinite values. Its weights are damaged, "
                "or fp16 is too narrow for it; try fp32."
            )
        return vectors

    def _sized(self, picture: ByteArray, name: str) -> ByteArray:
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise EvaluationError(
                f"{name}: expected an (H, W, 3) uint8 RGB picture, got {picture.shape} {picture.dtype}; "
                "visir.data.images.decode makes one from a file."
            )
        return resize(picture, self.preprocess.height, self.preprocess.width)

    @torch.inference_mode()
    def _raw(self, pixels: Tensor, modality: Tensor) -> FloatArray:
        """(b, H, W, 3) uint8 -> (b, D) float32 as the network gives them."""
        network_input = normalise(pixels.to(self._device, non_blocking=True), self.preprocess)
        with torch.autocast(self._device.type, LOW.get(self._precision), enabled=self._precision in LOW):
            raw = self._network(network_input, modality.to(self._device))
        vectors: FloatArray = raw.float().cpu().numpy()
        return vectors

    def _unit(self, pixels: Tensor, modality: Tensor, names: Sequence[str]) -> FloatArray:
        """(b, H, W, 3) uint8 -> (b, D) float32 of unit length."""
        vectors = self._raw(pixels, modality)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        wrong = np.flatnonzero(~(np.isfinite(length) & (length > 0))[:, 0])
        if len(wrong):
            raise EvaluationError(
                f"{names[wrong[0]]}: the encoder gave a vector of length {float(length[wrong[0], 0])}, which cannot be "
                "compared. Its weights are damaged, or fp16 is too narrow for it; try fp32."
            )
        vectors /= length
        return vectors


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; outside, each part trains or not as before."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
