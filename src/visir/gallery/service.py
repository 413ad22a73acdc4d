"""Enroll, search, remove: the one object behind the command line, HTTP and notebooks. No web in it."""

from __future__ import annotations

import getpass
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visir.core.errors import GalleryError, ImageError
from visir.core.progress import progress
from visir.core.types import ByteArray, FloatArray, IntArray, Modality
from visir.data.images import decode, resize
from visir.gallery.audit import AuditLog, Trace
from visir.gallery.embedder import Embedder
from visir.gallery.entry import Entry, Filter, Match
from visir.gallery.store import Newcomer, Stored, VectorStore

Picture = Path | bytes | ByteArray  # a file, the bytes of one, or decoded (H, W, 3) uint8 RGB

CHUNK = 256  # pictures embedded and stored in one step
CHUNK_BYTES = 256 * 2**20  # of decoded pixels, at most, unless one picture alone is larger
THUMBNAIL_HEIGHT = 128  # pixels


@dataclass(frozen=True, eq=False)
class Enrolled:
    """What became of n pictures.

    Attributes:
        keys: (n,) int64, the key under which each picture is stored now; -1 for one that could not be read.
        added: how many are new.
        repeated: how many were stored before, by equal pixels in the same modality; their entries stay as they were.
        problems: one sentence for each picture that could not be read.
    """

    keys: IntArray
    added: int
    repeated: int
    problems: tuple[str, ...]


@dataclass
class _Chunk:
    places: list[int] = field(default_factory=list)
    images: list[ByteArray] = field(default_factory=list)
    newcomers: list[Newcomer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seen: int = 0


class SearchService:
    """Search a gallery of person pictures across modalities.

    Every enrolment, search, listing and removal is written to a log with the name of whoever did it: what is about to
    change before it changes, and its counts after; what was found before it is answered. Removing a person deletes
    rows, vectors, thumbnails and every mention in that log, also of searches that are on their way meanwhile.

    Args:
        embedder: the encoder; None to list, count and remove only.
        store: the vector database, from :func:`~visir.gallery.store.open_store`.
        audit: where to log; ``audit.jsonl`` in the gallery's folder by default.
        user: who acts, unless a call says otherwise; the name of the login by default.

    Raises:
        GalleryError: the gallery was made with another encoder.
    """

    def __init__(
        self,
        embedder: Embedder | None,
        store: VectorStore,
        *,
        audit: AuditLog | None = None,
        user: str | None = None,
    ) -> None:
        if embedder is not None:
            _check_encoder(embedder, store)
        self._embedder, self.store = embedder, store
        self.audit = audit or AuditLog(Path(store.uri) / "audit.jsonl")
        self._user = user or _login()

    def enroll(self, images: Sequence[Picture], entries: Sequence[Entry], *, user: str | None = None) -> Enrolled:
        """Store pictures with what is known of them, in batches; each batch is whole or not at all.

        Pictures that cannot be read are reported and passed over. A call that was cut short can be repeated: what is
        stored already is recognised by its pixels.

        Raises:
            GalleryError: as many entries as pictures are needed.
            StorageError: the log cannot be written, then nothing is stored; or the disk got full or the log unwritable
                on the way, then batches before are stored, and the log says that this call began.
        """
        if len(images) != len(entries):
            raise GalleryError(f"enrolling: expected one entry for each picture, got {len(entries)} for {len(images)}.")
        self.audit.append("enroll", user or self._user, pictures=len(images))
        keys = np.full(len(images), -1, np.int64)
        added = repeated = 0
        problems: list[str] = []
        with progress("enrolling", len(images)) as shown:
            for chunk in _ahead(_chunks(images, entries, self.store.settings.thumbnails)):
                new = self._store(chunk, keys, user or self._user)
                added, repeated = added + new, repeated + len(chunk.places) - new
                problems += chunk.problems
                shown.advance(chunk.seen)
        return Enrolled(keys, added, repeated, tuple(problems))

    def _store(self, chunk: _Chunk, keys: IntArray, user: str) -> int:
        """Embed and store what is new of one chunk, fill in its keys, and log it; how many were new."""
        known = self.store.known(chunk.newcomers)
        fresh = [place for place in range(len(chunk.places)) if place not in known]
        for place, key in known.items():
            keys[chunk.places[place]] = key
        added = 0
        if fresh:
            newcomers = [chunk.newcomers[place] for place in fresh]
            vectors = self._embed([chunk.images[place] for place in fresh], [n.entry.modality for n in newcomers])
            result = self.store.add(vectors, newcomers, by=user)
            keys[[chunk.places[place] for place in fresh]] = result.keys
            added = int(result.new.sum())
        repeated, unreadable = len(chunk.places) - added, len(chunk.problems)
        self.audit.append("enrolled", user, added=added, repeated=repeated, unreadable=unreadable)
        return added

    def search(
        self, image: Picture, modality: Modality, k: int = 20, where: Filter | None = None, *, user: str | None = None
    ) -> list[Match]:
        """The k stored pictures most similar to one picture, best first.

        Args:
            image: the query; a crop of one person.
            modality: the spectrum of the query.
            k: how many; fewer come back where the filter leaves fewer, none from an empty gallery.
            where: what the answers are restricted to, such as the other modality.
            user: who asks, for the log.

        Raises:
            ImageError: the query is not a readable picture.
            GalleryError: k below 1, an encoder that gives NaN, a damaged gallery.
            StorageError: the log cannot be written; then nothing is answered.
        """
        return self.search_many([image], modality, k, where, user=user)[0]

    def search_many(
        self,
        images: Sequence[Picture],
        modality: Modality,
        k: int = 20,
        where: Filter | None = None,
        *,
        user: str | None = None,
    ) -> list[list[Match]]:
        """:meth:`search` for several pictures of one modality, much faster than one by one."""
        if not images:
            return []
        decoded = [_decoded(image) for image in images]
        vectors = self._embed(decoded, [Modality(modality)] * len(decoded))
        with self.audit.watch() as forgot:
            answers = self.store.search(vectors, k, where)

            def late() -> Mapping[str, Any]:
                nonlocal answers
                line: dict[str, Any] = {"filter": self._plain(where)}
                if forgot():  # somebody was removed meanwhile, maybe one of these
                    before = sum(map(len, answers))
                    answers = self._still_stored(answers)
                    line["forgotten"] = before - sum(map(len, answers)) + len(decoded)
                else:
                    line["query_sha256"] = [digest(image) for image in decoded]
                return {**line, "keys": [[match.key for match in answer] for answer in answers]}

            self.audit.append("search", user or self._user, modality=Modality(modality).name.lower(), k=k, late=late)
        return answers

    def _still_stored(self, answers: list[list[Match]]) -> list[list[Match]]:
        stored = {one.key for one in self.store.select(keys={match.key for answer in answers for match in answer})}
        return [[match for match in answer if match.key in stored] for answer in answers]

    def _plain(self, where: Filter | None) -> Mapping[str, Any]:
        """The filter as it is logged: by name only people who are stored, of others their number."""
        names = (where and where.identities) or frozenset()
        known = sorted(name for name in names if self.store.count(Filter(identities=frozenset({name}))))
        plain = {**(where or Filter()).plain(), "identities": known, "unknown_identities": len(names) - len(known)}
        return {name: value for name, value in plain.items() if value}

    def entries(self, where: Filter | None = None, *, user: str | None = None) -> list[Stored]:
        """What is stored, by ascending key; logged, because it names people."""
        found = list(self.store.select(where))
        self.audit.append("list", user or self._user, count=len(found), late=lambda: {"filter": self._plain(where)})
        return found

    def remove(
        self,
        *,
        identity: str | None = None,
        keys: Iterable[int] | None = None,
        source: str | None = None,
        user: str | None = None,
    ) -> int:
        """Delete a person, or pictures by key or source, with everything derived from them; how many pictures.

        Old versions of the files go too, and the log forgets their keys, digests and names. Pictures that are enrolled
        meanwhile go as well. A search that uses a removed picture as its query later logs the digest of that query.

        Raises:
            GalleryError: not exactly one of ``identity``, ``keys`` and ``source``.
            StorageError: the log cannot be written, then nothing is removed; or the disk got full on the way, then the
                removal from the store is finished when the gallery is next opened; repeat the call for the log.
        """
        if sum(choice is not None for choice in (identity, keys, source)) != 1:
            raise GalleryError("removing: expected exactly one of an identity, keys or a source.")
        where = None if identity is None else Filter(identities=frozenset({identity}))
        chosen = None if keys is None else list(keys)
        by = "identity" if identity is not None else "source" if source is not None else "keys"
        self.audit.append("remove", user or self._user, by=by)
        removed = 0
        while found := list(self.store.select(where, keys=chosen, source=source)):
            self.audit.forget(self._trace(found, going=True))
            removed += self.store.remove([one.key for one in found])
            self.audit.forget(self._trace(found, going=False))  # what was logged since; later searches find nothing
        if identity is not None:
            self.audit.forget(Trace(keys=(), digests=(), identities={identity}))
        self.audit.append("removed", user or self._user, by=by, removed=removed)
        return removed

    def _trace(self, found: list[Stored], *, going: bool) -> Trace:
        """What the log may hold of pictures that are going or gone; a name only where nobody of that name stays."""
        names = Counter(one.entry.identity for one in found if one.entry.identity is not None)
        gone = {
            name
            for name, pictures in names.items()
            if self.store.count(Filter(identities=frozenset({name}))) <= pictures * going
        }
        return Trace({one.key for one in found}, {one.digest for one in found}, gone)

    def status(self) -> Mapping[str, Any]:
        """Counts and facts to print: pictures by modality and camera, people, encoder, version, bytes on disk."""
        stored = [one.entry for one in self.store.select()]
        cameras = Counter(entry.camera for entry in stored if entry.camera is not None)
        settings = self.store.settings
        return {
            "uri": self.store.uri,
            "pictures": len(stored),
            "visible": sum(entry.modality is Modality.VISIBLE for entry in stored),
            "infrared": sum(entry.modality is Modality.INFRARED for entry in stored),
            "identities": len({entry.identity for entry in stored} - {None}),
            "unknown_identity": sum(entry.identity is None for entry in stored),
            "cameras": dict(sorted(cameras.items())),
            "first_taken_at": min((entry.taken_at for entry in stored if entry.taken_at), default=None),
            "last_taken_at": max((entry.taken_at for entry in stored if entry.taken_at), default=None),
            "fingerprint": settings.fingerprint,
            "dim": settings.dim,
            "preprocess": dict(settings.preprocess),
            "thumbnails": settings.thumbnails,
            "version": self.store.version(),
            "bytes": self.store.bytes_used(),
        }

    def _embed(self, images: Sequence[ByteArray], modalities: Sequence[Modality]) -> FloatArray:
        """(n, dim) float32, in the order given; the encoder sees one modality at a time."""
        if self._embedder is None:
            raise GalleryError("enrolling and searching need an encoder; give the run that the gallery was made with.")
        dim = self.store.settings.dim
        vectors = np.empty((len(images), dim), np.float32)
        for modality in sorted(set(modalities)):
            rows = [row for row, one in enumerate(modalities) if one == modality]
            part = self._embedder.embed([images[row] for row in rows], modality)
            if part.shape != (len(rows), dim):
                raise GalleryError(f"encoder: expected vectors of shape ({len(rows)}, {dim}), got {part.shape}.")
            vectors[rows] = part
        return vectors


def _check_encoder(embedder: Embedder, store: VectorStore) -> None:
    settings = store.settings
    if embedder.fingerprint != settings.fingerprint:
        raise GalleryError(
            f"{store.uri} holds vectors of encoder {settings.fingerprint[:12]}, but this one is "
            f"{embedder.fingerprint[:12]}; give the run that made the gallery, or make a new gallery with this one."
        )
    if embedder.dim != settings.dim:
        raise GalleryError(
            f"{store.uri} holds vectors of length {settings.dim}, but this encoder makes {embedder.dim}."
        )


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container user without a name
        return "unknown"


def digest(image: ByteArray) -> str:
    """SHA-256 of a decoded picture's shape and pixels, hexadecimal."""
    content = hashlib.sha256(repr(image.shape).encode())
    content.update(np.ascontiguousarray(image).data)
    return content.hexdigest()


def _decoded(image: Picture) -> ByteArray:
    if not isinstance(image, np.ndarray):
        return decode(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ImageError(f"image: expected (H, W, 3) uint8, got shape {image.shape} of {image.dtype}.")
    return image


def _thumbnail(image: ByteArray) -> bytes:
    height = min(THUMBNAIL_HEIGHT, image.shape[0])
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    content = io.BytesIO()
    Image.fromarray(resize(image, height, width)).save(content, "JPEG", quality=85)
    return content.getvalue()


def _chunks(images: Sequence[Picture], entries: Sequence[Entry], thumbnails: bool) -> Iterator[_Chunk]:
    chunk, size = _Chunk(), 0
    for place, (image, entry) in enumerate(zip(images, entries, strict=True)):
        chunk.seen += 1
        try:
            decoded = _decoded(image)
        except ImageError as error:
            chunk.problems.append(str(error) if isinstance(image, Path) else f"{entry.source}: {error}")
        else:
            chunk.places.append(place)
            chunk.images.append(decoded)
            small = _thumbnail(decoded) if thumbnails else None
            chunk.newcomers.append(Newcomer(entry, digest(decoded), small))
            size += decoded.nbytes
        if chunk.seen == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = _Chunk(), 0
    if chunk.seen:
        yield chunk


def _ahead(chunks: Iterator[_Chunk]) -> Iterator[_Chunk]:
    """The same chunks, the next one read and decoded while the caller works on one."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        waiting = worker.submit(next, chunks, None)
        while (chunk := waiting.result()) is not None:
            waiting = worker.submit(next, chunks, None)
            yield chunk
