"""What the gallery needs of an encoder; the engine's ``Embedder`` fulfils it, and so may a remote one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from visir.core.types import ByteArray, FloatArray, Modality


class Embedder(Protocol):
    """Turns decoded person crops into vectors."""

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal hash of weights and preprocessing: equal exactly when vectors are comparable."""
        ...

    def embed(self, images: Iterable[ByteArray], modality: Modality) -> FloatArray:
        """(H, W, 3) uint8 pictures of one modality -> (n, D) float32 of unit length."""
        ...
