"""The small protocol between the service and a vector database, and the choice of database by its address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np

from visir.core.errors import GalleryError
from visir.core.types import BoolArray, FloatArray, IntArray
from visir.gallery.entry import Entry, Filter, Match

MEMORY_LIMIT = 8 * 2**30  # bytes of vectors that one process holds in memory
Scan = Literal["float32", "bfloat16"]
UNIT_TOLERANCE = 1e-3  # how far from 1 the length of a vector may be; float16 encoders stay well inside


@dataclass(frozen=True)
class Settings:
    """What a gallery is made with; stored in it and never changed.

    Attributes:
        fingerprint: hash of the weights and preprocessing of the encoder that makes its vectors.
        dim: length of a vector.
        preprocess: how pictures are prepared for that encoder, as plain values; informative.
        thumbnails: whether a small JPEG of every picture is stored, so that results can be shown after the originals
            have moved. Off by default: a gallery then holds no pictures of people.
    """

    fingerprint: str
    dim: int
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    thumbnails: bool = False

    def __post_init__(self) -> None:
        if not self.fingerprint or not isinstance(self.fingerprint, str):
            raise GalleryError(f"fingerprint: expected the encoder's hash as text, got {self.fingerprint!r}.")
        if not isinstance(self.dim, int) or self.dim < 1:
            raise GalleryError(f"dim: expected a whole number of at least 1, got {self.dim!r}.")


@dataclass(frozen=True, slots=True)
class Newcomer:
    """One picture about to be stored: its entry, the SHA-256 of its pixels (hexadecimal), perhaps a small JPEG."""

    entry: Entry
    digest: str
    thumbnail: bytes | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored picture, without its vector: who enrolled it when, and what is known of it."""

    key: int
    entry: Entry
    digest: str
    enrolled_at: str
    enrolled_by: str


@dataclass(frozen=True, eq=False)
class Added:
    """What became of n newcomers.

    Attributes:
        keys: (n,) int64 the key of each picture; for one that was stored before, the key it has had since then.
        new: (n,) bool, False where the same pixels in the same modality were stored before.
    """

    keys: IntArray
    new: BoolArray


class VectorStore(Protocol):
    """A vector database as the gallery needs it. All vectors are float32 of unit length, all scores cosines.

    Every write is whole or not at all, also when the process is killed; several processes may write at once.
    """

    @property
    def uri(self) -> str:
        """Where the gallery is."""
        ...

    @property
    def settings(self) -> Settings:
        """What it was made with."""
        ...

    def version(self) -> int:
        """Number of the newest state; another one after every write of any process."""
        ...

    def count(self, where: Filter | None = None) -> int:
        """How many pictures fulfil the filter."""
        ...

    def known(self, newcomers: Sequence[Newcomer]) -> dict[int, int]:
        """Place in ``newcomers`` -> key, for those whose pixels are stored already in the same modality."""
        ...

    def add(self, vectors: FloatArray, newcomers: Sequence[Newcomer], *, by: str) -> Added:
        """Store n pictures with their (n, dim) vectors in one step; those known already are left as they are."""
        ...

    def remove(self, keys: Iterable[int]) -> int:
        """Delete pictures and every trace of them from the store; how many there were. Their keys never come back."""
        ...

    def select(
        self, where: Filter | None = None, *, keys: Iterable[int] | None = None, source: str | None = None
    ) -> Iterator[Stored]:
        """The stored pictures that fulfil every condition, by ascending key."""
        ...

    def thumbnail(self, key: int) -> bytes | None:
        """The small JPEG of a stored picture; None where there is none."""
        ...

    def search(self, queries: FloatArray, k: int, where: Filter | None = None) -> list[list[Match]]:
        """For each of the (q, dim) queries the k most similar pictures, best first, the lower key first in a tie."""
        ...

    def bytes_used(self) -> int:
        """Size of the gallery on disk."""
        ...


def check_vectors(vectors: FloatArray, dim: int, *, what: str) -> FloatArray:
    """The vectors as contiguous (n, dim) float32, scaled to unit length as exactly as float32 allows.

    Raises:
        GalleryError: another shape, NaN or infinite values, or lengths other than 1.
    """
    array = np.ascontiguousarray(vectors, np.float32)
    if array.ndim != 2 or array.shape[1] != dim:
        raise GalleryError(f"{what}: expected vectors of shape (n, {dim}), got {array.shape}; is it the right encoder?")
    length = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
    wrong = np.flatnonzero(~(np.abs(length - 1.0) <= UNIT_TOLERANCE))
    if len(wrong):
        kind = "finite values" if not np.isfinite(length[wrong[0]]) else "vectors of unit length"
        raise GalleryError(f"{what}: expected {kind}, got length {length[wrong[0]]:.6g} in row {wrong[0]}.")
    return np.ascontiguousarray(array / length[:, None], np.float32)


def _local(uri: str | Path) -> Path:
    text = str(uri)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(uri)
    if scheme == "file":
        return Path(rest)
    if scheme in {"http", "https"}:
        raise GalleryError(
            f"{text}: galleries on a Milvus server need the Milvus adapter, an extra; give a folder here."
        )
    raise GalleryError(f"{text}: expected a folder, got an address of kind {scheme!r}, which visir does not know.")


def create_store(uri: str | Path, settings: Settings) -> VectorStore:
    """Make an empty gallery.

    Raises:
        GalleryError: the folder holds something already, or the address is of an unknown kind.
        StorageError: it cannot be written.
    """
    from visir.gallery.lance_store import LanceStore

    return LanceStore.create(_local(uri), settings)


def open_store(uri: str | Path, *, scan: Scan = "float32", memory_limit: int = MEMORY_LIMIT) -> VectorStore:
    """Open a gallery.

    Args:
        uri: a folder.
        scan: how vectors are read in a search: ``float32``, or ``bfloat16`` for long-lived services, which takes half
            as much memory again and answers two to five times as fast. Answers are exact and equal in both.
        memory_limit: bytes of vectors to hold in memory; what is beyond is mapped from an unnamed file in the folder.

    Raises:
        GalleryError: no gallery there, a damaged one, or one of a newer visir.
    """
    from visir.gallery.lance_store import LanceStore

    if scan not in get_args(Scan):
        raise GalleryError(f"scan: expected one of {', '.join(get_args(Scan))}, got {scan!r}.")
    return LanceStore.open(_local(uri), scan=scan, memory_limit=memory_limit)
