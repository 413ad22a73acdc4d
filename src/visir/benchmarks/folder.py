"""Any data set: ``visible/<identity>/*`` and ``infrared/<identity>/*``, or a table of images as CSV or Parquet.

The table is ``index.csv`` or ``index.parquet`` in the root, or the root is itself such a file. Columns: ``path``
(relative to the table's folder, or absolute), ``identity``, ``modality``; optional ``camera`` (1 for visible and 2 for
infrared without it), ``time`` (ISO 8601, UTC where no zone is given), ``track``, ``exclude`` (a query never sees
gallery images of the same value) and ``split`` (train, validation, test). A table goes before the two folders.

Identities may be any names. Whole numbers are kept; other names are numbered by their rank among all sorted names of
the data set, so that every split numbers a person alike. Without a ``split`` column all images are ``test``, all are
``trainval``, and ``train`` and ``validation`` part them by identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from visir.benchmarks._files import list_images
from visir.benchmarks._index import LARGEST, SUFFIXES, Row, read_rows
from visir.benchmarks._layout import (
    check_request,
    count_images,
    hold_out,
    names,
    nesting_findings,
    require_folders,
    stray_findings,
    subfolders,
)
from visir.benchmarks.base import Benchmark, Finding, Split
from visir.core.errors import DatasetError
from visir.core.types import BoolArray, ImageTable, Modality, Record
from visir.evaluation.protocol import Protocol, Trial

FOLDERS = {Modality.VISIBLE: "visible", Modality.INFRARED: "infrared"}
CAMERAS = {Modality.VISIBLE: 1, Modality.INFRARED: 2}
CONVERSION = "visir-conversion.json"  # written before the first image of a conversion, the index after the last


def read(root: Path, split: Split, draw: int) -> ImageTable:
    """The table of one split; ``draw`` is 1. Rows as in the table file, or visible first, by identity and name.

    Raises:
        DatasetError: neither the two folders nor a table is there, or a line of the table is wrong; it is named.
    """
    check_request("folder", split, draw, 1)
    rows = _rows(root)
    table = ImageTable.from_records(_base(root), _records(rows))
    splits = np.array([row.split for row in rows])
    kinds = set(splits.tolist())
    if kinds == {""}:
        return table if split == "test" else hold_out(table, split, name="folder")
    own = split == "test" or "validation" in kinds
    wanted = [split] if own and split != "trainval" else ["train", "validation"]
    picked = table.take(np.isin(splits, wanted))
    if not len(picked):
        shown = ", ".join(sorted(kinds))
        raise DatasetError(f"{root}: no image of the split {split!r}; the column 'split' has {shown}.")
    return picked if own else hold_out(picked, split, name="folder")


def table_file(root: Path) -> Path | None:
    """The CSV or Parquet file that lists the images of ``root``; None for the two plain folders.

    Raises:
        DatasetError: both files are there, or a conversion into this folder was not finished.
    """
    if root.suffix.lower() in SUFFIXES and not root.is_dir():
        return root
    found = [root / f"index{suffix}" for suffix in SUFFIXES if (root / f"index{suffix}").is_file()]
    if len(found) > 1:
        raise DatasetError(f"{root}: holds index.csv and index.parquet; keep the one that is right, remove the other.")
    if not found and (root / CONVERSION).is_file():
        raise DatasetError(f"{root}: an unfinished conversion; run the same 'visir data convert' again to finish it.")
    return found[0] if found else None


def _base(root: Path) -> Path:
    return root if root.is_dir() else root.parent


def _rows(root: Path) -> list[Row]:
    table = table_file(root)
    if table is not None:
        return read_rows(table)
    require_folders(root, "a folder data set", list(FOLDERS.values()))
    rows = [
        Row(path.relative_to(root).as_posix(), folder.name, modality)
        for modality, top in FOLDERS.items()
        for folder in subfolders(root / top)
        for path in list_images(folder)[0]
    ]
    if not rows:
        raise DatasetError(f"{root}: no images. Expected visible/<identity>/<image> and infrared/<identity>/<image>.")
    number = _numbers({row.identity for row in rows})
    return sorted(rows, key=lambda row: (row.modality, number[row.identity]))  # stable: names stay sorted


def _records(rows: list[Row]) -> list[Record]:
    identity = _numbers({row.identity for row in rows})
    exclude = _numbers({row.exclude for row in rows} - {""}) | {"": -1}
    return [
        Record(
            path=row.path,
            identity=identity[row.identity],
            camera=CAMERAS[row.modality] if row.camera is None else row.camera,
            modality=row.modality,
            exclude=exclude[row.exclude],
            taken_at=row.time,
            track=row.track,
        )
        for row in rows
    ]


def _numbers(words: set[str]) -> dict[str, int]:
    """Whole numbers as they are; as soon as one name is none, the rank of each among all.

    >>> _numbers({"7", "12"}), _numbers({"bob", "alice", "7"})
    ({'7': 7, '12': 12}, {'7': 0, 'alice': 1, 'bob': 2})
    """
    numbers = {int(word) for word in words if word.isdecimal()}
    if len(numbers) == len(words) and max(numbers, default=0) <= LARGEST:
        return {word: int(word) for word in sorted(words, key=int)}
    return {word: rank for rank, word in enumerate(sorted(words))}


def same_exclude(query: ImageTable, gallery: ImageTable) -> BoolArray:
    """(q, g) bool: both have the same ``exclude`` value, and it is not -1."""
    hidden: BoolArray = (query.exclude[:, None] == gallery.exclude[None, :]) & (query.exclude[:, None] >= 0)
    return hidden


def protocols(draw: int) -> Mapping[str, Protocol]:
    """Infrared to visible, which an investigator asks, and visible to infrared."""
    check_request("folder", "test", draw, 1)
    made = [_protocol("folder-i2v", Modality.INFRARED), _protocol("folder-v2i", Modality.VISIBLE)]
    return {protocol.name: protocol for protocol in made}


def validation(draw: int) -> Protocol:
    """Infrared to visible, on the validation identities."""
    return _protocol("folder-i2v-validation", Modality.INFRARED)


def _protocol(name: str, query: Modality) -> Protocol:
    def trials(table: ImageTable) -> list[Trial]:
        return [Trial("1", *(np.flatnonzero(table.modality == modality) for modality in (query, query.other)))]

    note = (
        f"all {FOLDERS[query]} images as queries, all {FOLDERS[query.other]} images as gallery, images of the query's "
        "'exclude' value hidden, CMC over image ranks."
    )
    return Protocol(name, trials, same_exclude, "image", note)


def recognise(root: Path) -> bool:
    """A table file, a folder with one, an unfinished conversion, or a folder named ``visible`` or ``infrared``."""
    if root.suffix.lower() in SUFFIXES and root.is_file():
        return True
    tables = {f"index{suffix}" for suffix in SUFFIXES}
    return bool(names(root) & {*FOLDERS.values(), CONVERSION, *tables})


def count(root: Path) -> dict[str, int]:
    """Identities, and images of each modality, each camera and each split of the table."""
    try:
        rows = _rows(root)
    except DatasetError:
        return {}  # inspect tells why
    table = ImageTable.from_records(_base(root), _records(rows))
    counted = {"identities": len(table.identities())}
    for modality, word in FOLDERS.items():
        counted[word] = len(table.of(modality))
    for camera in np.unique(table.camera).tolist():
        counted[f"camera{camera}"] = int((table.camera == camera).sum())
    for split in sorted({row.split for row in rows} - {""}):
        counted[split] = sum(row.split == split for row in rows)
    return counted


def inspect(root: Path) -> list[Finding]:
    """What keeps the data set from being read, people in several splits, images that the table does not name."""
    try:
        rows = _rows(root)
    except DatasetError as error:
        return [Finding("error", str(error)), *_folder_findings(root)]
    if table_file(root) is None:
        return [*_folder_findings(root), _no_split()]
    found = [] if any(row.split for row in rows) else [_no_split()]
    people = {part: {r.identity for r in rows if (r.split == "test") == (part == "test")} for part in ("train", "test")}
    shared = sorted(people["train"] & people["test"])
    if shared:
        what = f"Identities in the split test and in another one: {len(shared)} ({', '.join(shared[:5])})."
        found.append(Finding("warning", what, "Give each identity one split; scores on people trained on mean little."))
    named = {row.path for row in rows}
    unnamed = [path for path in _images_in_folders(root) if path not in named]
    if unnamed:
        what = f"Images in visible or infrared that the table does not name, so not used: {len(unnamed):,}."
        found.append(Finding("note", what, "Add them to the table, or remove it to use the folders.", unnamed[0]))
    return found


def _no_split() -> Finding:
    return Finding(
        "note",
        "There is no split column: all images are test, and training takes the same people.",
        "Train on another data set, or add a column 'split' with train, validation or test.",
    )


def _folder_findings(root: Path) -> list[Finding]:
    found: list[Finding] = []
    for top in FOLDERS.values():
        found += nesting_findings(root / top)
        found += stray_findings(count_images(subfolders(root / top))[1], drawn=False)
    return found


def _images_in_folders(root: Path) -> list[str]:
    return [
        path.relative_to(root).as_posix()
        for top in FOLDERS.values()
        for folder in subfolders(root / top)
        for path in list_images(folder)[0]
    ]


BENCHMARK = Benchmark(
    name="folder",
    title="folder",
    infrared="any",
    read=read,
    protocols=protocols,
    validation=validation,
    recognise=recognise,
    inspect=inspect,
    count=count,
)
