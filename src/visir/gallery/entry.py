"""What is known of a stored picture, what a search returns, and what a search may be restricted to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from visir.core.errors import GalleryError
from visir.core.types import Modality, Record

_WHOLE = range(-(2**63) + 1, 2**63)  # SQL cannot write the lowest number of 64 bits


def instant(text: str) -> datetime:
    """Read an ISO 8601 time; one without an offset counts as UTC, a date alone as its midnight.

    >>> instant("2026-03-01T12:00:00+02:00").isoformat()
    '2026-03-01T10:00:00+00:00'

    Raises:
        GalleryError: anything else.
    """
    try:
        read = datetime.fromisoformat(text)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise GalleryError(
            f"time: expected ISO 8601 such as '2026-03-01T14:30:00Z' or '2026-03-01', got {text!r}."
        ) from error


def iso(when: datetime) -> str:
    """A UTC time as text: ``2026-03-01T10:00:00Z``, with microseconds only where there are some."""
    return when.replace(tzinfo=None).isoformat() + "Z"


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value or "\0" in value:
        raise GalleryError(f"{name}: expected a non-empty text without NUL, got {value!r}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # such as a file name in another encoding
        raise GalleryError(f"{name}: expected a text that UTF-8 can write, got {value!r}; rename the file.") from error


def _whole(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value not in _WHOLE:
        raise GalleryError(f"{name}: expected a whole number of at most 64 bits, got {value!r}.")


def _modality(value: Any) -> Modality:
    try:
        return Modality(value)
    except ValueError as error:
        raise GalleryError(f"modality: expected Modality.VISIBLE or Modality.INFRARED, got {value!r}.") from error


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one stored picture.

    Attributes:
        source: where the picture is, such as a path; not empty.
        modality: the spectrum it was taken in.
        camera: number of the camera, or None.
        identity: name of the person, or None where unknown.
        taken_at: ISO 8601 UTC, or None. Times with an offset are converted, so equal instants are equal texts.
        track: name of the tracklet, or None.

    Raises:
        GalleryError: a field that is not what is said above.
    """

    source: str
    modality: Modality
    camera: int | None = None
    identity: str | None = None
    taken_at: str | None = None
    track: str | None = None

    def __post_init__(self) -> None:
        _text("source", self.source)
        object.__setattr__(self, "modality", _modality(self.modality))
        if self.camera is not None:
            _whole("camera", self.camera)
            if self.camera < 0:
                raise GalleryError(f"camera: expected a whole number from 0, got {self.camera}.")
        for name in ("identity", "track"):
            if getattr(self, name) is not None:
                _text(name, getattr(self, name))
        if self.taken_at is not None:
            object.__setattr__(self, "taken_at", iso(instant(self.taken_at)))

    @classmethod
    def of(cls, record: Record, source: str) -> Entry:
        """The entry of a row of an image table; identity -1, and empty times and tracks, are unknown.

        >>> Entry.of(Record("a.jpg", identity=-1, camera=2, modality=Modality.VISIBLE), "/data/a.jpg").identity is None
        True
        """
        return cls(
            source=source,
            modality=record.modality,
            camera=record.camera,
            identity=None if record.identity < 0 else str(record.identity),
            taken_at=record.taken_at or None,
            track=record.track or None,
        )


@dataclass(frozen=True, slots=True)
class Match:
    """One answer of a search: the key of the stored picture, its cosine in [-1, 1], and what is known of it."""

    key: int
    score: float
    entry: Entry


@dataclass(frozen=True, slots=True)
class Filter:
    """What a search is restricted to; every condition given must hold.

    Attributes:
        modality: only this spectrum.
        cameras: only these cameras; pictures of an unknown camera are left out.
        exclude_cameras: not these cameras; pictures of an unknown camera stay.
        since: only pictures taken at this instant or later (ISO 8601); pictures without a time are left out.
        until: only pictures taken *before* this instant, so that neighbouring spans neither overlap nor leave a gap.
        identities: only these people.

    Raises:
        GalleryError: a value of the wrong kind, an empty set, or a span that ends before it begins.
    """

    modality: Modality | None = None
    cameras: frozenset[int] | None = None
    exclude_cameras: frozenset[int] = frozenset()
    since: str | None = None
    until: str | None = None
    identities: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.modality is not None:
            object.__setattr__(self, "modality", _modality(self.modality))
        for name in ("cameras", "exclude_cameras", "identities"):
            self._set(name)
        for name in ("since", "until"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, iso(instant(getattr(self, name))))
        if self.since and self.until and instant(self.since) >= instant(self.until):
            raise GalleryError(
                f"filter: expected 'since' before 'until', got {self.since} and {self.until}; "
                "'until' itself is not included."
            )

    def _set(self, name: str) -> None:
        values = getattr(self, name)
        if values is None:
            return
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise GalleryError(f"{name}: expected a set of values, got {values!r}.")
        object.__setattr__(self, name, frozenset(values))
        for value in getattr(self, name):
            (_text if name == "identities" else _whole)(name, value)
        if name != "exclude_cameras" and not getattr(self, name):
            raise GalleryError(f"{name}: expected at least one value; leave it out to allow all.")

    def plain(self) -> Mapping[str, Any]:
        """The conditions that are set, as JSON values, for logs.

        >>> Filter(modality=Modality.VISIBLE, cameras=frozenset({2, 1})).plain()
        {'modality': 'visible', 'cameras': [1, 2]}
        """
        values: dict[str, Any] = {
            "modality": None if self.modality is None else self.modality.name.lower(),
            "cameras": sorted(self.cameras or ()),
            "exclude_cameras": sorted(self.exclude_cameras),
            "since": self.since,
            "until": self.until,
            "identities": sorted(self.identities or ()),
        }
        return {name: value for name, value in values.items() if value}
