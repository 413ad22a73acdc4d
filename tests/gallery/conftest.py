"""A toy encoder, toy pictures, and rows to put into a gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from visir.core.seeds import generator
from visir.core.types import ByteArray, FloatArray, Modality
from visir.data.images import resize
from visir.gallery.entry import Entry
from visir.gallery.lance_store import LanceStore
from visir.gallery.store import Newcomer, Settings

DIM = 24


class ToyEmbedder:
    """A fixed random projection of the small grey picture; it ignores the modality, as a perfect encoder would."""

    dim = DIM

    def __init__(self, fingerprint: str = "5eed" * 16) -> None:
        self.fingerprint = fingerprint
        self.calls: list[int] = []

    def embed(self, images: Iterable[ByteArray], modality: Modality) -> FloatArray:
        small = np.stack([resize(image, 16, 8).mean(axis=2).ravel() for image in images]).astype(np.float32)
        self.calls.append(len(small))
        projection = generator(0, "toy-embedder").standard_normal((16 * 8, DIM)).astype(np.float32)
        vectors = np.stack([(one - 127.5) @ projection for one in small])  # alone or in a batch: bit for bit the same
        unit: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def toy_picture(person: int, shot: int) -> ByteArray:
    """A 64 x 32 picture: the pattern of a person and a little noise of a shot."""
    pattern = generator(1, "toy-person", person).integers(0, 200, (8, 4, 3)).repeat(8, axis=0).repeat(8, axis=1)
    noise = generator(1, "toy-shot", person, shot).integers(0, 40, pattern.shape)
    return (pattern + noise).astype(np.uint8)


def unit_vectors(count: int, dim: int = DIM, seed: int = 0) -> FloatArray:
    """(count, dim) float32 of unit length."""
    vectors = generator(seed, "toy-vectors").standard_normal((count, dim)).astype(np.float32)
    unit: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def toy_newcomer(number: int, *, prefix: str = "toy") -> Newcomer:
    """Row ``number``: two modalities, five cameras, some unknown values."""
    entry = Entry(
        source=f"{prefix}/source-{number:06d}.jpg",
        modality=Modality(number % 2),
        camera=None if number % 7 == 6 else number % 5,
        identity=None if number % 11 == 10 else f"person {number // 4}",
        taken_at=None if number % 13 == 12 else f"2026-03-{1 + number % 28:02d}T10:00:00Z",
        track=f"track {number % 3}" if number % 3 else None,
    )
    return Newcomer(entry, digest=f"{prefix}-{number:08d}", thumbnail=b"\xff\xd8JPEG-%08d" % number)


@pytest.fixture
def newcomer() -> Callable[..., Newcomer]:
    return toy_newcomer


@pytest.fixture
def vectors() -> Callable[..., FloatArray]:
    return unit_vectors


@pytest.fixture
def picture() -> Callable[[int, int], ByteArray]:
    return toy_picture


@pytest.fixture
def embedder() -> ToyEmbedder:
    return ToyEmbedder()


@pytest.fixture
def settings() -> Settings:
    return Settings(fingerprint="5eed" * 16, dim=DIM, preprocess={"height": 16, "width": 8}, thumbnails=True)


@pytest.fixture
def traces() -> Callable[[Path, bytes], list[str]]:
    """Names of the files below a folder that contain the bytes."""

    def scan(folder: Path, content: bytes) -> list[str]:
        return [str(file) for file in sorted(folder.rglob("*")) if file.is_file() and content in file.read_bytes()]

    return scan


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> LanceStore:
    return LanceStore.create(tmp_path / "gallery", settings)
