"""What is known of n stored pictures, as columns in memory: filtered by masks, turned into entries one by one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from visir.core.types import BoolArray, IntArray, Modality
from visir.gallery.entry import Entry, Filter, instant, iso

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNKNOWN = np.iinfo(np.int64).min  # of a time; no date of years 1 to 9999 comes near it


def microseconds(text: str) -> int:
    """An ISO 8601 time as whole microseconds since 1970."""
    return (instant(text) - EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, eq=False)
class Columns:
    """n stored pictures.

    Attributes:
        key: (n,) int64.
        modality: (n,) int64, values of :class:`Modality`.
        camera: (n,) int64, meaningless where ``has_camera`` is False.
        has_camera: (n,) bool.
        taken_at: (n,) int64 microseconds since 1970, ``UNKNOWN`` where there is no time.
        identity: (n,) int64 places in ``names``, -1 for unknown.
        names: the distinct identities.
        source: (n,) texts.
        track: (n,) texts or None.
    """

    key: IntArray
    modality: IntArray
    camera: IntArray
    has_camera: BoolArray
    taken_at: IntArray
    identity: IntArray
    names: tuple[str, ...]
    source: npt.NDArray[np.object_]
    track: npt.NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.key)

    def order(self) -> IntArray:
        """(n,) the rows by modality, camera, key: a filter on either then keeps few, long runs of rows."""
        return np.lexsort((self.key, self.camera, self.has_camera, self.modality)).astype(np.int64)

    def take(self, rows: IntArray) -> Columns:
        """The columns of the given rows, in that order."""
        picked = {column.name: getattr(self, column.name) for column in fields(self)}
        return Columns(**{name: value if name == "names" else value[rows] for name, value in picked.items()})

    def mask(self, where: Filter) -> BoolArray:
        """(n,) True where the picture fulfils every condition."""
        kept = np.ones(len(self), np.bool_)
        if where.modality is not None:
            kept &= self.modality == int(where.modality)
        if where.cameras is not None:
            kept &= self.has_camera & np.isin(self.camera, list(where.cameras))
        if where.exclude_cameras:
            kept &= ~(self.has_camera & np.isin(self.camera, list(where.exclude_cameras)))
        if where.since is not None:
            kept &= self.taken_at >= microseconds(where.since)
        if where.until is not None:
            kept &= (self.taken_at < microseconds(where.until)) & (self.taken_at != UNKNOWN)
        if where.identities is not None:
            wanted = [place for place, name in enumerate(self.names) if name in where.identities]
            kept &= np.isin(self.identity, wanted)
        return kept

    def entry(self, row: int) -> Entry:
        """What is known of one picture."""
        place, taken_at = int(self.identity[row]), int(self.taken_at[row])
        return Entry(
            source=self.source[row],
            modality=Modality(int(self.modality[row])),
            camera=int(self.camera[row]) if self.has_camera[row] else None,
            identity=None if place < 0 else self.names[place],
            taken_at=None if taken_at == UNKNOWN else iso(EPOCH + timedelta(microseconds=taken_at)),
            track=self.track[row],
        )
