"""LLCM (Zhang and Wang, CVPR 2023): 1,064 people, nine cameras, visible and near-infrared in low light.

On disk: training images ``vis/<id>/*`` and ``nir/<id>/*`` named by ``idx/train_vis.txt`` and ``idx/train_nir.txt``;
test images ``test_vis/camN/<id>/*`` and ``test_nir/camN/<id>/*`` (no near-infrared camera 3) of the people in
``idx/test_id.txt``. Cameras carry the same numbers in both modalities.

The gallery of trial t, 0 to 9, has one image of each test identity and camera, drawn by a generator seeded with t:
identities ascending, cameras ascending within, one ``choice`` of the sorted images each. That is how the published code
draws. Its branch "visible to infrared" has scored something else since June 2023: the drawn near-infrared images as
queries against all visible images. Both exist here: ``llcm-v2i`` and ``llcm-v2i-released``.
"""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from visir.benchmarks._files import list_images, read_id_list
from visir.benchmarks._layout import (
    Strays,
    check_request,
    count_images,
    hold_out,
    names,
    nesting_findings,
    require_folders,
    stray_findings,
    subfolders,
)
from visir.benchmarks._lists import Labels, Shelf, read_list
from visir.benchmarks.base import Benchmark, Finding, Split
from visir.benchmarks.manifest import differences
from visir.core.errors import DatasetError
from visir.core.types import BoolArray, ImageTable, IntArray, Modality, Record
from visir.evaluation.protocol import Protocol, Trial

TRIALS = 10
TRAIN = {Modality.VISIBLE: "vis", Modality.INFRARED: "nir"}
TEST = {Modality.VISIBLE: "test_vis", Modality.INFRARED: "test_nir"}
CAMERAS = {Modality.VISIBLE: (1, 2, 3, 4, 5, 6, 7, 8, 9), Modality.INFRARED: (1, 2, 4, 5, 6, 7, 8, 9)}
CAMERA_FOLDERS = tuple(f"{top}/cam{camera}" for modality, top in TEST.items() for camera in CAMERAS[modality])
LISTS = {Modality.VISIBLE: "train_vis.txt", Modality.INFRARED: "train_nir.txt"}
RULE = "gallery images of the query's identity and camera are hidden, identity CMC."
PUBLISHED = {
    "identities": 1064,
    "identities_train": 713,
    "vis": 16946,
    "nir": 13975,
    "identities_test": 351,
    "test_vis": 8680,
    "test_nir": 7166,
}


def read(root: Path, split: Split, draw: int) -> ImageTable:
    """The table of one split; ``draw`` is 1.

    Test rows: visible first, then near-infrared; identities ascending, then cameras, then names. Training rows: visible
    list, then near-infrared list, in their order; their camera is read from ``_cNN_`` in the file name, 0 where it has
    none. ``validation`` holds out 15 % of the training identities, see ``hold_out``.

    Raises:
        DatasetError: a folder or list is missing, or a list is damaged; file and line are named.
    """
    check_request("LLCM", split, draw, 1)
    if split == "test":
        return _test_table(root)
    require_folders(root, "LLCM", [*TRAIN.values(), "idx"])
    return hold_out(_train_table(root), split, name="llcm")


def _train_table(root: Path) -> ImageTable:
    shelf, labels = Shelf(root), Labels()
    records = [
        Record(row.path, row.identity, _camera_in(row.path), modality)
        for modality in TRAIN
        for row in read_list(shelf, root / "idx" / LISTS[modality], TRAIN[modality], labels)
    ]
    return ImageTable.from_records(root, records)


def _camera_in(path: str) -> int:
    found = re.search(r"_c(\d+)_", path.rpartition("/")[2])
    return int(found[1]) if found else 0


def _test_table(root: Path) -> ImageTable:
    require_folders(root, "LLCM", [*TEST.values(), "idx"])
    for folder in CAMERA_FOLDERS:
        if not (root / folder).is_dir():
            raise DatasetError(
                f"{root / folder}: the camera folder is missing; LLCM has test_vis/cam1 to cam9 and test_nir/cam1 to "
                "cam9 without cam3. Unpack the archive again."
            )
    people = read_id_list(root / "idx", "test_id")
    records = [
        Record(path.relative_to(root).as_posix(), identity, camera, modality)
        for modality, top in TEST.items()
        for identity in people
        for camera in CAMERAS[modality]
        for path in list_images(root / top / f"cam{camera}" / f"{identity:04d}")[0]
    ]
    absent = sorted(set(people) - {record.identity for record in records})
    if absent:
        raise DatasetError(
            f"{root / 'idx' / 'test_id.txt'}: names person {absent[0]}, but no camera folder of test_vis or test_nir "
            f"has {absent[0]:04d}; unpack the archive again."
        )
    return ImageTable.from_records(root, records)


def drawn(table: ImageTable, modality: Modality, trial: int) -> IntArray:
    """Rows of one image for each identity and camera of ``modality``, identity-major, drawn as the published code does.

    ``random.Random(trial)`` gives the draws of ``random.seed(trial)`` without touching the global generator.
    """
    cells: dict[tuple[int, int], list[int]] = {}
    for row in np.flatnonzero(table.modality == modality).tolist():
        cells.setdefault((int(table.identity[row]), int(table.camera[row])), []).append(row)
    source = random.Random(trial)
    picked = [source.choice(sorted(cells[cell], key=table.paths.__getitem__)) for cell in sorted(cells)]
    return np.array(picked, np.int64)


def same_sighting(query: ImageTable, gallery: ImageTable) -> BoolArray:
    """(q, g) bool: the same identity seen by the same camera number; camera 0, unknown, is like no other."""
    identity = query.identity[:, None] == gallery.identity[None, :]
    camera = (query.camera[:, None] == gallery.camera[None, :]) & (query.camera[:, None] > 0)
    hidden: BoolArray = identity & camera
    return hidden


def protocols(draw: int) -> Mapping[str, Protocol]:
    """Visible to infrared as described, as released, and infrared to visible."""
    check_request("LLCM", "test", draw, 1)
    made = [
        _described("llcm-v2i", Modality.VISIBLE),
        Protocol(
            "llcm-v2i-released",
            _released,
            same_sighting,
            "identity",
            "what the released code scores as visible to infrared: one near-infrared query for each identity and "
            f"camera, all visible images as gallery, {TRIALS} draws; {RULE}",
        ),
        _described("llcm-i2v", Modality.INFRARED),
    ]
    return {protocol.name: protocol for protocol in made}


def validation(draw: int) -> Protocol:
    """Visible to infrared as described, on the held-out training identities."""
    return _described("llcm-v2i-validation", Modality.VISIBLE)


def _described(name: str, query: Modality) -> Protocol:
    def trials(table: ImageTable) -> list[Trial]:
        rows = np.flatnonzero(table.modality == query)
        return [Trial(str(trial), rows, drawn(table, query.other, trial)) for trial in range(TRIALS)]

    words = {Modality.VISIBLE: "visible", Modality.INFRARED: "near-infrared"}
    note = (
        f"all {words[query]} images as queries, one {words[query.other]} gallery image for each identity and camera, "
        f"{TRIALS} draws; {RULE}"
    )
    return Protocol(name, trials, same_sighting, "identity", note)


def _released(table: ImageTable) -> list[Trial]:
    gallery = np.flatnonzero(table.modality == Modality.VISIBLE)
    return [Trial(str(trial), drawn(table, Modality.INFRARED, trial), gallery) for trial in range(TRIALS)]


def recognise(root: Path) -> bool:
    """A test folder, both training folders, or a split list."""
    found, lists = names(root), names(root / "idx")
    return bool(found & set(TEST.values())) or found >= set(TRAIN.values()) or bool(lists & set(LISTS.values()))


def count(root: Path) -> dict[str, int]:
    """Identities and images of the training lists and of the test folders, and each camera's images."""
    counted: dict[str, int] = {}
    with contextlib.suppress(DatasetError):  # inspect tells why
        train = _train_table(root)
        counted["identities_train"] = len(train.identities())
        for modality, top in TRAIN.items():
            counted[top] = len(train.of(modality))
    cells = {folder: subfolders(root / folder) for folder in CAMERA_FOLDERS}
    images = {folder: count_images(people)[0] for folder, people in cells.items()}
    counted["identities_test"] = len({person.name for people in cells.values() for person in people})
    for top in TEST.values():
        counted[top] = sum(n for folder, n in images.items() if folder.startswith(top))
    if "identities_train" in counted:
        counted["identities"] = counted["identities_train"] + counted["identities_test"]
    return counted | images


def inspect(root: Path) -> list[Finding]:
    """Missing folders and lists, damaged lists, people in training and test, stray files, wrong nesting."""
    found: list[Finding] = []
    for folder in (*TRAIN.values(), *CAMERA_FOLDERS):
        if not (root / folder).is_dir():
            found.append(Finding("error", f"{folder} is missing.", "Unpack the archive again.", str(root / folder)))
        found += nesting_findings(root / folder)
    found += _stray_findings(root)
    found += _list_findings(root)
    return found + differences(root, count(root), PUBLISHED)


def _stray_findings(root: Path) -> list[Finding]:
    drawn_from, others = Strays(), Strays()
    for folder in CAMERA_FOLDERS:
        drawn_from += count_images(subfolders(root / folder))[1]
    for folder in TRAIN.values():
        others += count_images(subfolders(root / folder))[1]
    return [*stray_findings(drawn_from, drawn=True), *stray_findings(others, drawn=False)]


def _list_findings(root: Path) -> list[Finding]:
    found: list[Finding] = []
    people: list[set[int]] = []
    for needed, table_of in ((TRAIN.values(), _train_table), (CAMERA_FOLDERS, _test_table)):
        if not all((root / folder).is_dir() for folder in needed):
            continue  # told as missing
        try:
            people.append(set(table_of(root).identities().tolist()))
        except DatasetError as error:
            found.append(Finding("error", str(error)))
    shared = sorted(set.intersection(*people)) if len(people) == 2 else []
    if shared:
        what = f"The same people in training and test: {len(shared)} ({', '.join(map(str, shared[:5]))})."
        found.append(Finding("error", what, "Copy the folder 'idx' again.", str(root / "idx")))
    return found


BENCHMARK = Benchmark(
    name="llcm",
    title="LLCM",
    infrared="near-infrared",
    read=read,
    protocols=protocols,
    validation=validation,
    recognise=recognise,
    inspect=inspect,
    published=PUBLISHED,
    count=count,
)
