"""The LanceDB table: its columns, filters as SQL, rows to and from Arrow, and its errors as sentences."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from visir.core.errors import GalleryError, StorageError, VisirError
from visir.core.types import FloatArray, IntArray, Modality
from visir.gallery.columns import UNKNOWN, Columns
from visir.gallery.entry import Entry, Filter, instant, iso
from visir.gallery.store import Newcomer, Settings, Stored

TABLE = "entries"
FORMAT = 1  # of the table; raised when an older visir could no longer read it
KNOWN = ("key", "modality", "camera", "taken_at", "identity", "source", "track")
RECORD = (*KNOWN, "digest", "enrolled_at", "enrolled_by")
_STORAGE = ("No space left", "File too large", "Permission denied", "Read-only file system", "quota exceeded")


def lancedb() -> Any:
    """The lancedb package, imported when a gallery is first opened.

    Raises:
        GalleryError: it is not installed.
    """
    try:
        import lancedb
        import pyarrow  # noqa: F401 - needed wherever lancedb is
    except ImportError as error:
        raise GalleryError('galleries need one more package: pip install "visir[search]"') from error
    return lancedb


@contextlib.contextmanager
def spoken(path: Path, doing: str) -> Iterator[None]:
    """Turn the errors of the database into one sentence each.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
        GalleryError: anything else, most likely damaged files.
    """
    try:
        yield
    except VisirError:
        raise
    except Exception as error:
        text = str(error)
        reason = next((known for known in _STORAGE if known.lower() in text.lower()), "")
        if reason:
            raise StorageError(
                f"{path}: {doing} failed ({reason.lower()}); what was stored before is untouched. Free some space or "
                "mend the permissions, then do it again."
            ) from error
        first = text.splitlines()[0][:160] if text else type(error).__name__
        raise GalleryError(
            f"{path}: {doing} failed, its files are damaged or incomplete ({first}); restore them from a backup, or "
            "make a new gallery and enroll again."
        ) from error


def schema(settings: Settings) -> Any:
    """The Arrow schema of the table; the settings are its metadata."""
    import pyarrow as pa

    time = pa.timestamp("us", "UTC")
    return pa.schema(
        [
            pa.field("key", pa.int64(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), settings.dim), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("modality", pa.int8(), nullable=False),
            pa.field("camera", pa.int64()),
            pa.field("identity", pa.string()),
            pa.field("taken_at", time),
            pa.field("track", pa.string()),
            pa.field("digest", pa.string(), nullable=False),
            pa.field("enrolled_at", time, nullable=False),
            pa.field("enrolled_by", pa.string(), nullable=False),
            pa.field("thumbnail", pa.binary()),
        ],
        metadata={
            "visir.format": str(FORMAT),
            "visir.fingerprint": settings.fingerprint,
            "visir.dim": str(settings.dim),
            "visir.preprocess": json.dumps(dict(settings.preprocess), sort_keys=True),
            "visir.thumbnails": str(int(settings.thumbnails)),
        },
    )


def settings_of(found: Any, path: Path) -> Settings:
    """The settings in a table's schema.

    Raises:
        GalleryError: it is not a table of visir, or one of a newer format.
    """
    values = {key.decode(): value.decode() for key, value in (found.metadata or {}).items()}
    try:
        number = int(values["visir.format"])
        if number > FORMAT:
            raise GalleryError(
                f"{path}: made by a newer visir (format {number}, this one reads up to {FORMAT}); upgrade visir."
            )
        settings = Settings(
            fingerprint=values["visir.fingerprint"],
            dim=int(values["visir.dim"]),
            preprocess=json.loads(values["visir.preprocess"]),
            thumbnails=values["visir.thumbnails"] == "1",
        )
    except (KeyError, ValueError) as error:
        raise GalleryError(f"{path}: its table was not made by visir; make a new gallery elsewhere.") from error
    if not found.equals(schema(settings)):
        raise GalleryError(f"{path}: the columns of its table were changed; restore it from a backup.")
    return settings


def quoted(text: str) -> str:
    """A text as SQL literal.

    >>> print(quoted("O'Neil"))
    'O''Neil'
    """
    return "'" + text.replace("'", "''") + "'"


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(str(int(value)) for value in sorted(values))


def sql(
    where: Filter | None = None,
    *,
    keys: Iterable[int] | None = None,
    source: str | None = None,
    after: int | None = None,
) -> str:
    """The conditions as SQL: numbers are printed as numbers, texts quoted, times printed from parsed times.

    >>> sql(Filter(modality=Modality.INFRARED, identities=frozenset({"x' OR '1'='1"})))
    "modality = 1 AND identity IN ('x'' OR ''1''=''1')"
    """
    where = where or Filter()
    parts = []
    if where.modality is not None:
        parts.append(f"modality = {int(where.modality)}")
    if where.cameras is not None:
        parts.append(f"camera IN ({_numbers(where.cameras)})")
    if where.exclude_cameras:
        parts.append(f"(camera IS NULL OR camera NOT IN ({_numbers(where.exclude_cameras)}))")
    if where.since is not None:
        parts.append(f"taken_at >= timestamp '{iso(instant(where.since))}'")
    if where.until is not None:
        parts.append(f"taken_at < timestamp '{iso(instant(where.until))}'")
    if where.identities is not None:
        parts.append(f"identity IN ({', '.join(quoted(name) for name in sorted(where.identities))})")
    if source is not None:
        parts.append(f"source = {quoted(source)}")
    if keys is not None:
        parts.append(f"key IN ({_numbers({*keys, -1})})")  # -1 is never a key: an empty list stays valid SQL
    if after is not None:
        parts.append(f"key > {int(after)}")
    return " AND ".join(parts)


def to_arrow(
    settings: Settings, keys: IntArray, vectors: FloatArray, newcomers: Sequence[Newcomer], *, by: str, at: datetime
) -> Any:
    """Rows ready to be added."""
    import pyarrow as pa

    entries = [newcomer.entry for newcomer in newcomers]
    values = {
        "key": pa.array(keys, pa.int64()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), settings.dim),
        "source": [entry.source for entry in entries],
        "modality": pa.array([int(entry.modality) for entry in entries], pa.int8()),
        "camera": pa.array([entry.camera for entry in entries], pa.int64()),
        "identity": pa.array([entry.identity for entry in entries], pa.string()),
        "taken_at": [None if entry.taken_at is None else instant(entry.taken_at) for entry in entries],
        "track": pa.array([entry.track for entry in entries], pa.string()),
        "digest": [newcomer.digest for newcomer in newcomers],
        "enrolled_at": [at] * len(entries),
        "enrolled_by": [by] * len(entries),
        "thumbnail": [newcomer.thumbnail if settings.thumbnails else None for newcomer in newcomers],
    }
    return pa.table(values, schema=schema(settings))


def read(table: Any, names: Sequence[str], where: str = "") -> Any:
    """The named columns of the rows that fulfil ``where``, as one Arrow table by ascending key."""
    query = table.search().select(list(names))
    found = (query.where(where) if where else query).limit(max(table.count_rows(), 1)).to_arrow()
    return found.sort_by("key")


def vectors_of(table: Any, where: str = "", rows: int = 4096) -> Iterator[tuple[IntArray, FloatArray]]:
    """(m,) keys and (m, dim) float32 vectors, in batches, in the order of the files."""
    query = table.search().select(["key", "vector"])
    query = (query.where(where) if where else query).limit(max(table.count_rows(), 1))
    for batch in query.to_batches(batch_size=rows):
        keys = batch.column("key").to_numpy()
        yield keys, batch.column("vector").flatten().to_numpy().reshape(len(keys), -1)


def columns_of(found: Any) -> Columns:
    """The columns ``KNOWN`` of an Arrow table as arrays in memory."""
    import pyarrow as pa
    import pyarrow.compute as pc

    identity = pc.dictionary_encode(found["identity"].combine_chunks())
    identity = identity.combine_chunks() if isinstance(identity, pa.ChunkedArray) else identity
    return Columns(
        key=found["key"].to_numpy().astype(np.int64),
        modality=found["modality"].to_numpy().astype(np.int64),
        camera=pc.fill_null(found["camera"], 0).to_numpy().astype(np.int64),
        has_camera=pc.is_valid(found["camera"]).to_numpy(),
        taken_at=pc.fill_null(found["taken_at"].cast(pa.int64()), UNKNOWN).to_numpy().astype(np.int64),
        identity=pc.fill_null(identity.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64),
        names=tuple(identity.dictionary.to_pylist()),
        source=np.array([*found["source"].to_pylist(), None], np.object_)[:-1],
        track=np.array([*found["track"].to_pylist(), None], np.object_)[:-1],
    )


def stored(row: dict[str, Any]) -> Stored:
    """One row of the columns ``RECORD``."""
    entry = Entry(
        source=row["source"],
        modality=Modality(row["modality"]),
        camera=row["camera"],
        identity=row["identity"],
        taken_at=None if row["taken_at"] is None else row["taken_at"].isoformat(),
        track=row["track"],
    )
    return Stored(row["key"], entry, row["digest"], iso(row["enrolled_at"]), row["enrolled_by"])
