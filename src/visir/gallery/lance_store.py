"""A gallery folder in LanceDB: the table is the truth, an exact scorer in memory answers.

One table holds everything; every write is a version of it and whole or not at all. Writers of several processes take
turns by a lock, one batch each; readers never wait. A removal rewrites the table without the removed rows and deletes
all older files, because a deleted row otherwise stays readable in them.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from visir.core.errors import GalleryError
from visir.core.types import FloatArray, IntArray
from visir.gallery import lance_table
from visir.gallery.entry import Filter, Match
from visir.gallery.folder import BusyError, GalleryFolder
from visir.gallery.lance_table import read, spoken, sql
from visir.gallery.store import MEMORY_LIMIT, Added, Newcomer, Scan, Settings, Stored, check_vectors

if TYPE_CHECKING:  # listing and removing do without torch
    from visir.gallery.resident import Room, Segment

T = TypeVar("T")

FILES = 32  # from so many files on they are merged, unless one file holds most rows: each row is rewritten rarely
MANY_FILES = 512  # from so many on they are merged in any case
SEGMENTS = 16  # that many additions are searched one by one before they are merged
REWRITTEN = 32768  # rows rewritten at once after a removal


def pixels(newcomer: Newcomer) -> tuple[str, int]:
    """What makes a picture the same picture: its pixels, seen in one modality."""
    return newcomer.digest, int(newcomer.entry.modality)


@dataclass
class Digests:
    """Which pixels are stored under which key, at one version of the table; costs nothing while nobody else writes."""

    version: int = -1
    last: int = -1
    keys: dict[tuple[str, int], int] = field(default_factory=dict)

    def find(self, newcomer: Newcomer) -> int | None:
        """The key under which the same pixels are stored."""
        return self.keys.get(pixels(newcomer))

    def added(self, keys: IntArray, newcomers: Sequence[Newcomer], version: int) -> None:
        """Take note of rows just written by the holder of the lock."""
        self.keys.update(zip(map(pixels, newcomers), keys.tolist(), strict=True))
        self.last, self.version = int(keys.max()), version

    def refresh(self, table: Any) -> None:
        """Read what was added since; everything, where something was removed (keys only grow, so counts tell)."""
        if table.version == self.version:
            return
        if table.count_rows() != len(self.keys) + table.count_rows(sql(after=self.last)):
            self.keys, self.last = {}, -1
        found = read(table, ("key", "digest", "modality"), sql(after=self.last)).to_pydict()
        self.keys.update(zip(zip(found["digest"], found["modality"], strict=True), found["key"], strict=True))
        self.last, self.version = max([self.last, *found["key"][-1:]]), table.version


def _tidy(table: Any) -> None:
    """Merge small files and delete all that the newest version does not need; only while holding the lock."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns that older versions go; that is the purpose
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


class LanceStore:
    """A :class:`~visir.gallery.store.VectorStore` in a folder. Safe to use from several threads and processes."""

    def __init__(self, folder: GalleryFolder, database: Any, settings: Settings, scan: Scan, memory_limit: int) -> None:
        self.folder, self._database, self._settings, self._scan = folder, database, settings, scan
        self._memory_limit = memory_limit
        self._room: Room | None = None
        self._segments: tuple[Segment, ...] = ()
        self._loaded = -1  # version that the segments show
        self._digests = Digests()
        self._guard = threading.Lock()

    @classmethod
    def create(cls, path: Path, settings: Settings) -> LanceStore:
        """Make an empty gallery in a new or empty folder; see :func:`visir.gallery.store.create_store`."""
        package, folder = lance_table.lancedb(), GalleryFolder(path)
        with folder.making(), spoken(path, "making a gallery"):
            package.connect(path).create_table(lance_table.TABLE, schema=lance_table.schema(settings))
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, *, scan: Scan = "float32", memory_limit: int = MEMORY_LIMIT) -> LanceStore:
        """Open a gallery; see :func:`visir.gallery.store.open_store`. Finishes a removal that was cut short."""
        package, folder = lance_table.lancedb(), GalleryFolder(path)
        folder.check()
        with spoken(path, "opening the gallery"):
            database = package.connect(path)
            settings = lance_table.settings_of(database.open_table(lance_table.TABLE).schema, path)
        store = cls(folder, database, settings, scan, memory_limit)
        if folder.unfinished_removal():
            with contextlib.suppress(BusyError), folder.writing(patience=0):  # busy: somebody is at it
                store._finish_removal()
        return store

    @property
    def uri(self) -> str:
        """The folder."""
        return str(self.folder.path)

    @property
    def settings(self) -> Settings:
        """What the gallery was made with."""
        return self._settings

    def version(self) -> int:
        """Number of the newest state of the table."""
        return self._read("reading the gallery", lambda table: int(table.version))

    def count(self, where: Filter | None = None) -> int:
        """How many pictures fulfil the filter."""
        return self._read("counting", lambda table: int(table.count_rows(sql(where) or None)))

    def bytes_used(self) -> int:
        """Size of the folder."""
        return self.folder.bytes_used()

    def select(
        self, where: Filter | None = None, *, keys: Iterable[int] | None = None, source: str | None = None
    ) -> Iterator[Stored]:
        """The stored pictures that fulfil every condition, by ascending key."""
        condition = sql(where, keys=keys, source=source)
        found = self._read("reading the gallery", lambda table: read(table, lance_table.RECORD, condition))
        for batch in found.to_batches(max_chunksize=1024):
            yield from map(lance_table.stored, batch.to_pylist())

    def thumbnail(self, key: int) -> bytes | None:
        """The small JPEG of a stored picture; None where there is none."""
        condition = sql(keys=[key])
        found = self._read("reading the gallery", lambda table: read(table, ("key", "thumbnail"), condition))
        return found["thumbnail"][0].as_py() if len(found) else None

    def known(self, newcomers: Sequence[Newcomer]) -> dict[int, int]:
        """Place -> key of those whose pixels are stored already in the same modality."""
        with self._guard:
            self._read("reading the gallery", self._digests.refresh)
            return {place: key for place, one in enumerate(newcomers) if (key := self._digests.find(one)) is not None}

    def add(self, vectors: FloatArray, newcomers: Sequence[Newcomer], *, by: str) -> Added:
        """Store n pictures with their (n, dim) vectors in one step; those known already are left as they are."""
        vectors = check_vectors(vectors, self._settings.dim, what="enrolling")
        if len(vectors) != len(newcomers):
            raise GalleryError(f"enrolling: expected as many entries as vectors, got {len(newcomers)}, {len(vectors)}.")
        with self.folder.writing():
            known = self.known(newcomers)
            first: dict[tuple[str, int], int] = {}
            for place in sorted(set(range(len(newcomers))) - set(known)):
                first.setdefault(pixels(newcomers[place]), place)
            chosen = list(first.values())
            new = np.zeros(len(newcomers), np.bool_)
            new[chosen] = True
            keys = np.full(len(newcomers), -1, np.int64)
            if chosen:
                keys[chosen] = self.folder.take_keys(len(chosen)) + np.arange(len(chosen))
                self._append(keys[chosen], vectors[chosen], [newcomers[place] for place in chosen], by)
        for place in np.flatnonzero(~new).tolist():
            keys[place] = known[place] if place in known else keys[first[pixels(newcomers[place])]]
        return Added(keys, new)

    def _append(self, keys: IntArray, vectors: FloatArray, newcomers: Sequence[Newcomer], by: str) -> None:
        rows = lance_table.to_arrow(self._settings, keys, vectors, newcomers, by=by, at=datetime.now(UTC))
        with self._newest("enrolling") as table:
            table.add(rows)
            with self._guard:
                self._digests.added(keys, newcomers, int(table.version))
            files = table.stats()["fragment_stats"]
            grown = files["num_fragments"] >= FILES and 2 * files["lengths"]["max"] <= table.count_rows()
            if grown or files["num_fragments"] >= MANY_FILES:
                _tidy(table)

    def remove(self, keys: Iterable[int]) -> int:
        """Delete pictures and every trace of them from the files of the store; how many there were."""
        with self.folder.writing():
            found = [one.key for one in self.select(keys=keys)]
            if found:
                self.folder.begin_removal(found)
                self._finish_removal()
        return len(found)

    def _finish_removal(self) -> None:
        if not (keys := self.folder.unfinished_removal()):
            return
        with self._newest("removing") as table:
            table.delete(sql(keys=keys))
            # A deleted row stays in its file until few enough others are left in it, so all rows move to new files.
            remaining = read(table, ("key",))["key"].to_numpy()
            for start in range(0, len(remaining), REWRITTEN):
                some = remaining[start : start + REWRITTEN]
                table.update(where=f"key >= {some[0]} AND key <= {some[-1]}", values_sql={"key": "key"})
            _tidy(table)
        self.folder.end_removal()

    def search(self, queries: FloatArray, k: int, where: Filter | None = None) -> list[list[Match]]:
        """For each of the (q, dim) queries the k most similar pictures, best first, the lower key first in a tie."""
        from visir.gallery import resident

        if not isinstance(k, int) or k < 1:
            raise GalleryError(f"k: expected a whole number of at least 1, got {k!r}.")
        queries = check_vectors(queries, self._settings.dim, what="searching")
        return resident.search(self._refreshed(), queries, k, where)

    def _refreshed(self) -> tuple[Segment, ...]:
        """The newest state in memory."""
        with self._guard:
            self._read("loading the gallery", self._load)
            return self._segments

    def _load(self, table: Any) -> None:
        """Bring the segments to the table's version; only what was added is read where nothing was removed."""
        from visir.gallery.resident import Room, Segment

        version = int(table.version)
        if version == self._loaded:
            return
        table.checkout(version)
        held = sum(len(segment) for segment in self._segments)
        last = max((int(segment.columns.key.max()) for segment in self._segments), default=-1)
        total, fresh = table.count_rows(), table.count_rows(sql(after=last))
        removed = held + fresh != total  # keys only grow, so whatever is new comes after the last
        if self._room is None or removed or len(self._segments) >= SEGMENTS:
            self._segments, self._loaded, last, fresh = (), -1, -1, total
            self._room = Room(self.folder.path, self._memory_limit)
        if fresh:
            where = sql(after=last)
            columns = lance_table.columns_of(read(table, lance_table.KNOWN, where))
            batches = lance_table.vectors_of(table, where)
            with self._room.given_back():
                segment = Segment.load(columns, batches, dim=self._settings.dim, scan=self._scan, room=self._room)
            self._segments = (*self._segments, segment)
        self._loaded = version

    def _read(self, doing: str, work: Callable[[Any], T], attempts: int = 5) -> T:
        """Work on the newest version; once more when a removal by another process deleted its files meanwhile."""
        with self._newest(doing) as table:
            version = int(table.version)
        try:
            with spoken(self.folder.path, doing):
                return work(table)
        except GalleryError:
            with self._newest(doing) as table:
                if attempts == 1 or int(table.version) == version:
                    raise
        return self._read(doing, work, attempts - 1)

    @contextlib.contextmanager
    def _newest(self, doing: str) -> Iterator[Any]:
        """The table at its newest version; a handle of its own, so threads do not wait for each other."""
        with spoken(self.folder.path, doing):
            yield self._database.open_table(lance_table.TABLE)
