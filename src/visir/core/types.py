"""Modality, Record and ImageTable: the columnar, validated, immutable table at the centre of everything."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visir.core.errors import DatasetError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]


class Modality(enum.IntEnum):
    """The spectrum of a camera. Thermal is ``INFRARED`` too; the benchmark says which band it is."""

    VISIBLE = 0
    INFRARED = 1

    @classmethod
    def parse(cls, text: str) -> Modality:
        """Read a modality from the words in use: visible, vis, rgb, infrared, ir, nir, thermal (any case).

        >>> Modality.parse("NIR").name
        'INFRARED'
        """
        word = text.strip().lower()
        if word in {"visible", "vis", "rgb", "v", "0"}:
            return cls.VISIBLE
        if word in {"infrared", "ir", "nir", "thermal", "i", "t", "1"}:
            return cls.INFRARED
        raise DatasetError(f"modality: expected 'visible' or 'infrared', got {text!r}.")

    @property
    def other(self) -> Modality:
        """The modality across: infrared for visible, visible for infrared."""
        return Modality(1 - self)


@dataclass(frozen=True, slots=True)
class Record:
    """One image as a row.

    ``path`` is relative to the benchmark root and "/" separated; ``identity`` is the data set's own number.
    ``exclude``: a query never sees gallery images of the same value (for instance the same instant of an aligned
    pair); -1 means none. ``taken_at`` is ISO 8601 UTC or "", ``track`` a tracklet name or "".
    """

    path: str
    identity: int
    camera: int
    modality: Modality
    exclude: int = -1
    taken_at: str = ""
    track: str = ""


@dataclass(frozen=True, eq=False)
class ImageTable:
    """n images as columns. Lengths, dtypes and modalities are checked on construction; arrays are read-only.

    Attributes:
        root: folder that ``paths`` are relative to.
        paths: n strings, "/" separated.
        identity: (n,) int64, numbered as the data set does; -1 for unknown.
        camera: (n,) int64.
        modality: (n,) int64, values of :class:`Modality`.
        exclude: (n,) int64, -1 for none; see :class:`Record`.
        taken_at: n ISO 8601 strings, "" where unknown.
        track: n tracklet names, "" where unknown.

    Raises:
        DatasetError: columns of different lengths, or a modality that is neither 0 nor 1.
    """

    root: Path
    paths: tuple[str, ...]
    identity: IntArray
    camera: IntArray
    modality: IntArray
    exclude: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    taken_at: tuple[str, ...] = ()
    track: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.paths)
        optional = {"exclude": np.full(n, -1, np.int64), "taken_at": ("",) * n, "track": ("",) * n}
        for name, default in optional.items():
            if len(getattr(self, name)) == 0:
                object.__setattr__(self, name, default)
        for column in fields(self):
            if column.name == "root":
                continue
            value = getattr(self, column.name)
            if len(value) != n:
                raise DatasetError(f"ImageTable: expected {n} values in '{column.name}', got {len(value)}.")
            if not isinstance(value, tuple):
                array = np.array(value, dtype=np.int64)
                array.flags.writeable = False
                object.__setattr__(self, column.name, array)
        if n and not np.isin(self.modality, (0, 1)).all():
            raise DatasetError("ImageTable: expected modalities 0 (visible) or 1 (infrared), got others.")

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: IntArray | BoolArray) -> ImageTable:
        """The table of the given rows, by (m,) row numbers or an (n,) mask, in that order."""
        index = np.flatnonzero(rows) if np.asarray(rows).dtype == np.bool_ else np.asarray(rows, np.int64)
        picked: dict[str, Any] = {}
        for column in fields(self):
            value = getattr(self, column.name)
            if isinstance(value, tuple):
                picked[column.name] = tuple(value[i] for i in index)
            elif isinstance(value, np.ndarray):
                picked[column.name] = value[index]
        return replace(self, **picked)

    def of(self, modality: Modality) -> ImageTable:
        """Only the images of one modality."""
        return self.take(self.modality == modality)

    def row(self, i: int) -> Record:
        """Image ``i`` as a :class:`Record`."""
        return Record(
            path=self.paths[i],
            identity=int(self.identity[i]),
            camera=int(self.camera[i]),
            modality=Modality(int(self.modality[i])),
            exclude=int(self.exclude[i]),
            taken_at=self.taken_at[i],
            track=self.track[i],
        )

    def file(self, i: int) -> Path:
        """Where image ``i`` is."""
        return self.root / self.paths[i]

    def labels(self) -> IntArray:
        """(n,) int64 training labels 0..C-1: the rank of each identity among the sorted identities."""
        return np.searchsorted(self.identities(), self.identity).astype(np.int64)

    def identities(self) -> IntArray:
        """(C,) int64, the distinct identities, ascending."""
        return np.unique(self.identity)

    @classmethod
    def from_records(cls, root: Path, records: Sequence[Record]) -> ImageTable:
        """A table of the given rows, in the given order."""
        return cls(
            root=root,
            paths=tuple(r.path for r in records),
            identity=np.array([r.identity for r in records], np.int64),
            camera=np.array([r.camera for r in records], np.int64),
            modality=np.array([int(r.modality) for r in records], np.int64),
            exclude=np.array([r.exclude for r in records], np.int64),
            taken_at=tuple(r.taken_at for r in records),
            track=tuple(r.track for r in records),
        )

    def summary(self) -> Mapping[str, int]:
        """Counts to print: images, visible, infrared, identities, cameras."""
        return {
            "images": len(self),
            "visible": int((self.modality == Modality.VISIBLE).sum()),
            "infrared": int((self.modality == Modality.INFRARED).sum()),
            "identities": len(self.identities()),
            "cameras": len(np.unique(self.camera)),
        }
