"""RegDB (Nguyen et al., Sensors 2017): 412 people, ten visible and ten thermal images each, ten train/test partitions.

On disk: ``Visible/<id>/*``, ``Thermal/<id>/*`` and the split lists ``idx/{train,test}_{visible,thermal}_{1..10}.txt``.
Where the lists are missing they are rebuilt from ``RegDB_split.mat`` (Ye et al., AAAI 2018), found in the root or in
``idx``. Identities are the folder numbers, so people of the training and the test part never share a number, although
the labels inside the lists do. Cameras: visible 1, thermal 2; no camera rule applies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from visir.benchmarks._files import list_images, read_mat
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
from visir.benchmarks._lists import Labels, Listed, Shelf, read_list
from visir.benchmarks.base import Benchmark, Finding, Split
from visir.benchmarks.manifest import differences
from visir.core.errors import DatasetError
from visir.core.types import ImageTable, Modality, Record
from visir.evaluation.protocol import CmcLevel, Protocol, Trial

DRAWS = 10
MATRIX = "RegDB_split.mat"
FOLDERS = {Modality.VISIBLE: "Visible", Modality.INFRARED: "Thermal"}
CAMERAS = {Modality.VISIBLE: 1, Modality.INFRARED: 2}
PUBLISHED = {
    "identities": 412,
    "visible": 4120,
    "thermal": 4120,
    "split_lists": 40,
    "identities_train": 206,
    "train_visible": 2060,
    "train_thermal": 2060,
    "identities_test": 206,
    "test_visible": 2060,
    "test_thermal": 2060,
}


def read(root: Path, split: Split, draw: int) -> ImageTable:
    """The table of one split of partition ``draw``: visible images first, then thermal, each in the order of its list.

    ``trainval`` is the training half; ``validation`` holds out 15 % of its identities, see ``hold_out``.

    Raises:
        DatasetError: a folder or list is missing, or a list is damaged; file and line are named.
    """
    check_request("RegDB", split, draw, DRAWS)
    require_folders(root, "RegDB", ["Visible", "Thermal"])
    table = _table(root, "test" if split == "test" else "train", draw, Shelf(root))
    return table if split == "test" else hold_out(table, split, name="regdb", draw=draw)


def _table(root: Path, part: str, draw: int, shelf: Shelf) -> ImageTable:
    lists = {modality: _list(root, part, modality, draw) for modality in FOLDERS}
    missing = [path for path in lists.values() if not path.is_file()]
    matrix = _matrix(root)
    labels, rows = Labels(), dict[Modality, list[Listed]]()
    if missing and matrix is None:
        raise DatasetError(
            f"{missing[0]}: the split list is missing. Copy the folder 'idx' from a RegDB archive, or put {MATRIX} "
            f"into {root}: the lists are then rebuilt."
        )
    for modality, folder in FOLDERS.items():
        if missing and matrix is not None:
            rows[modality] = _rebuilt(root, matrix, part, draw, folder)
        else:
            rows[modality] = read_list(shelf, lists[modality], folder, labels)
    return ImageTable.from_records(
        root,
        [Record(row.path, row.identity, CAMERAS[modality], modality) for modality in FOLDERS for row in rows[modality]],
    )


def _list(root: Path, part: str, modality: Modality, draw: int) -> Path:
    return root / "idx" / f"{part}_{FOLDERS[modality].lower()}_{draw}.txt"


def _matrix(root: Path) -> Path | None:
    return next((path for path in (root / MATRIX, root / "idx" / MATRIX) if path.is_file()), None)


def _rebuilt(root: Path, matrix: Path, part: str, draw: int, folder: str) -> list[Listed]:
    """What the list would say: identities ascending, images by name."""
    variable = "TrainIdx" if part == "train" else "TestIdx"
    splits = np.asarray(read_mat(matrix, variable))
    if splits.ndim != 2 or len(splits) < draw or not np.issubdtype(splits.dtype, np.number):
        raise DatasetError(f"{matrix}: expected '{variable}' with {DRAWS} rows, got the shape {splits.shape}.")
    by_number = {int(path.name): path for path in subfolders(root / folder) if path.name.isdecimal()}
    rows: list[Listed] = []
    for identity in sorted(splits[draw - 1].astype(np.int64).tolist()):
        images, _ = list_images(by_number.get(identity, root / folder / str(identity)))
        if not images:
            raise DatasetError(
                f"{matrix}: row {draw} of '{variable}' names person {identity}, who has no images in "
                f"{root / folder}; unpack the archive again."
            )
        rows += [Listed(path.relative_to(root).as_posix(), identity) for path in images]
    return rows


def protocols(draw: int) -> Mapping[str, Protocol]:
    """Both directions, with the CMC over images (AGW, DEEN) and over identities (the MPANet line)."""
    check_request("RegDB", "test", draw, DRAWS)
    made = [
        _protocol(draw, query, level)
        for level in ("img", "id")
        for query in (Modality.VISIBLE, Modality.INFRARED)
    ]  # fmt: skip
    return {protocol.name: protocol for protocol in made}


def validation(draw: int) -> Protocol:
    """Visible to thermal, on the held-out training identities."""
    return _protocol(draw, Modality.VISIBLE, "img", suffix="-validation")


def _protocol(draw: int, query: Modality, level: str, suffix: str = "") -> Protocol:
    def trials(table: ImageTable) -> list[Trial]:
        rows, others = (np.flatnonzero(table.modality == modality) for modality in (query, query.other))
        return [Trial(str(draw), rows, others)]

    way = "v2t" if query == Modality.VISIBLE else "t2v"
    cmc: CmcLevel = "image" if level == "img" else "identity"
    direction = "visible query, thermal gallery" if way == "v2t" else "thermal query, visible gallery"
    note = f"partition {draw} of {DRAWS}, {direction}, all images, nothing hidden, CMC over {cmc} ranks."
    return Protocol(f"regdb-t{draw:02d}-{way}-{level}{suffix}", trials, cmc=cmc, note=note)


def recognise(root: Path) -> bool:
    """``Visible`` or ``Thermal`` (exactly so), a split list, or the split matrix."""
    found = names(root)
    lists = names(root / "idx")
    return (
        bool(found & {"Visible", "Thermal", MATRIX})
        or any(name.startswith(("train_thermal_", "test_thermal_")) for name in lists)
        or MATRIX in lists
    )


def count(root: Path) -> dict[str, int]:
    """Images and identities of the folders, and those of the first partition."""
    people = {folder.name for top in FOLDERS.values() for folder in subfolders(root / top)}
    counted = {"identities": len(people)}
    for top in FOLDERS.values():
        counted[top.lower()] = count_images(subfolders(root / top))[0]
    counted["split_lists"] = sum(path.is_file() for path in _lists(root))
    shelf = Shelf(root)
    for part in ("train", "test"):
        try:
            table = _table(root, part, 1, shelf)
        except DatasetError:
            continue  # inspect tells why
        counted[f"identities_{part}"] = len(table.identities())
        for modality, top in FOLDERS.items():
            counted[f"{part}_{top.lower()}"] = len(table.of(modality))
    return counted


def _lists(root: Path) -> Iterator[Path]:
    for draw in range(1, DRAWS + 1):
        for part in ("train", "test"):
            for modality in FOLDERS:
                yield _list(root, part, modality, draw)


def inspect(root: Path) -> list[Finding]:
    """Missing folders and lists, damaged lists, people in both parts of a partition, stray files, wrong nesting."""
    found: list[Finding] = []
    for top in FOLDERS.values():
        if not (root / top).is_dir():
            found.append(Finding("error", f"{top} is missing.", f"Copy {top}/<identity>/* there.", str(root / top)))
        found += nesting_findings(root / top)
        odd = [folder for folder in subfolders(root / top) if not folder.name.isdecimal()]
        found += [
            Finding("warning", f"{top}/{folder.name} is no identity number.", "Rename or remove it.", str(folder))
            for folder in odd
        ]
        found += stray_findings(count_images(subfolders(root / top))[1], drawn=False)
    found += _list_findings(root)
    return found + differences(root, count(root), PUBLISHED)


def _list_findings(root: Path) -> list[Finding]:
    found: list[Finding] = []
    missing = [path for path in _lists(root) if not path.is_file()]
    rebuilt = _matrix(root) is not None
    if missing:
        repair = "visir rebuilds them from RegDB_split.mat." if rebuilt else f"Copy 'idx', or put {MATRIX} in the root."
        shown = ", ".join(path.name for path in missing[:4]) + (" ..." if len(missing) > 4 else "")
        what = f"Missing split lists: {len(missing)} of {4 * DRAWS} ({shown})."
        found.append(Finding("note" if rebuilt else "error", what, repair, str(missing[0])))
    if not all((root / top).is_dir() for top in FOLDERS.values()):
        return found
    shelf = Shelf(root)
    for draw in range(1, DRAWS + 1):
        found += _partition_findings(root, draw, shelf)
    return found


def _partition_findings(root: Path, draw: int, shelf: Shelf) -> list[Finding]:
    found: list[Finding] = []
    people: dict[str, set[int]] = {}
    for part in ("train", "test"):
        if _matrix(root) is None and not all(_list(root, part, modality, draw).is_file() for modality in FOLDERS):
            continue  # told as missing
        try:
            table = _table(root, part, draw, shelf)
        except DatasetError as error:
            found.append(Finding("error", str(error)))
            continue
        people[part] = set(table.identities().tolist())
    shared = people.get("train", set()) & people.get("test", set())
    if shared:
        some = ", ".join(str(identity) for identity in sorted(shared)[:5])
        what = f"Partition {draw} has the same people in training and test: {len(shared)} ({some})."
        found.append(Finding("error", what, "Copy the split lists again.", str(root / "idx")))
    return found


BENCHMARK = Benchmark(
    name="regdb",
    title="RegDB",
    infrared="thermal",
    read=read,
    protocols=protocols,
    validation=validation,
    recognise=recognise,
    inspect=inspect,
    draws=DRAWS,
    published=PUBLISHED,
    count=count,
)
