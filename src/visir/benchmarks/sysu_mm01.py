"""SYSU-MM01 (Wu et al., ICCV 2017; IJCV 2020): 491 people, four visible and two near-infrared cameras.

On disk: ``cam1`` .. ``cam6``, in each ``<identity, four digits>/<number, four digits>.jpg``, and ``exp`` with the
lists ``train_id``, ``val_id`` and ``test_id`` (``.txt`` or ``.mat``). The official galleries are in
``rand_perm_cam.mat`` of the authors' code repository, expected in ``exp`` or in the root; the seeded draw needs no such
file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from visir.benchmarks._files import list_images, read_id_list
from visir.benchmarks._layout import (
    both_modalities,
    check_request,
    names,
    nesting_findings,
    require_folders,
    stray_findings,
    subfolders,
)
from visir.benchmarks._sysu_galleries import (
    GALLERY_CAMERAS,
    PERMUTATIONS,
    cell_problem,
    exp_folder,
    official_trials,
    order_of,
    permutation_file,
    read_permutations,
    same_room,
    seeded_trials,
)
from visir.benchmarks.base import Benchmark, Finding, Split
from visir.benchmarks.manifest import FILE as MANIFEST
from visir.benchmarks.manifest import differences
from visir.core.errors import DatasetError
from visir.core.types import ImageTable, Modality, Record
from visir.evaluation.protocol import Protocol

CAMERAS = (1, 2, 3, 4, 5, 6)
INFRARED_CAMERAS = (3, 6)
FOLDERS = tuple(f"cam{camera}" for camera in CAMERAS)
LISTS: Mapping[Split, tuple[str, ...]] = {
    "train": ("train_id",),
    "validation": ("val_id",),
    "trainval": ("train_id", "val_id"),
    "test": ("test_id",),
}
PUBLISHED = {
    "identities_train": 296,
    "identities_validation": 99,
    "identities_test": 96,
    "cam1": 6289,
    "cam2": 7528,
    "cam3": 9812,
    "cam4": 8030,
    "cam5": 8224,
    "cam6": 5980,
}
PERMUTATIONS_SHA256 = "90402382dd587e05b615dcee35637fee9ad61e56e26ac86988a00a43997ac0a7"


def read(root: Path, split: Split, draw: int = 1) -> ImageTable:
    """The images of one split, of all six cameras: by camera, then identity, then file name.

    Args:
        root: the folder with ``cam1`` .. ``cam6`` and ``exp``.
        split: ``train`` (296 people), ``validation`` (99), ``trainval`` (both) or ``test`` (96).
        draw: 1; the data set has one partition.

    Raises:
        DatasetError: a camera folder or list is missing, a list is damaged, or the split has no image.
    """
    check_request("SYSU-MM01", split, draw, 1)
    require_folders(root, "SYSU-MM01", [*FOLDERS, "exp"])
    identities = sorted({one for stem in LISTS[split] for one in read_id_list(root / "exp", stem)})
    records = [
        Record(f"cam{camera}/{identity:04d}/{image.name}", identity, camera, _modality(camera))
        for camera in CAMERAS
        for identity in identities
        for image in list_images(root / f"cam{camera}" / f"{identity:04d}")[0]
    ]
    if not records:
        raise DatasetError(
            f"{root}: none of the {len(identities)} identities of '{split}' has an image; expected folders such as "
            f"cam1/{identities[0]:04d}. Is the archive unpacked?"
        )
    return ImageTable.from_records(root, records)


def _modality(camera: int) -> Modality:
    return Modality.INFRARED if camera in INFRARED_CAMERAS else Modality.VISIBLE


def protocols(draw: int = 1) -> Mapping[str, Protocol]:
    """All and indoor search, 1 and 10 images a person and camera, by the published permutations or the seeded draw."""
    check_request("SYSU-MM01", "test", draw, 1)
    made = [
        _protocol(mode, shots, source)
        for source in ("official", "seeded")
        for mode in GALLERY_CAMERAS
        for shots in (1, 10)
    ]
    return {protocol.name: protocol for protocol in made}


def _protocol(mode: str, shots: int, source: str) -> Protocol:
    trials = official_trials(mode, shots) if source == "official" else seeded_trials(mode, shots)
    gallery = f"{'one visible image' if shots == 1 else 'ten visible images'} of each person and camera "
    gallery += ", ".join(map(str, GALLERY_CAMERAS[mode]))
    how = "by the published permutations" if source == "official" else "drawn with seeds 0 to 9"
    note = (
        f"{mode} search, all infrared images as queries, gallery of {gallery}, {how}, ten trials; queries of camera 3 "
        "do not see camera 2; CMC over identities."
    )
    return Protocol(f"sysu-{mode}-{shots}-{source}", trials, same_room, "identity", note)


def validation(draw: int = 1) -> Protocol:
    """All search with one seeded image, on the 99 validation people: never on test queries."""
    check_request("SYSU-MM01", "validation", draw, 1)
    return replace(_protocol("all", 1, "seeded"), name="sysu-all-1-seeded-validation")


def recognise(root: Path) -> bool:
    """``cam1`` .. ``cam6`` (at least three of them), or the data set's own split files in ``exp``."""
    inside = names(root)
    own = {PERMUTATIONS, "train_id.txt", "val_id.txt", "test_id.txt", "available_id.txt"}
    return len(inside & set(FOLDERS)) >= 3 or len(names(root / "exp") & own) >= 2


def count(root: Path) -> dict[str, int]:
    """Identities of the three lists, and the images of each camera, whoever they show."""
    counted: dict[str, int] = {}
    for split, stem in (("train", "train_id"), ("validation", "val_id"), ("test", "test_id")):
        try:
            counted[f"identities_{split}"] = len(read_id_list(root / "exp", stem))
        except DatasetError:
            continue  # inspect tells why
    for folder in FOLDERS:
        counted[folder] = sum(len(list_images(one)[0]) for one in subfolders(root / folder))
    return counted


def inspect(root: Path) -> list[Finding]:
    """Missing cameras and lists, wrong nesting, strays, gaps in numbers, people of one modality, other permutations."""
    found = list(_camera_findings(root))
    found += _list_findings(root)
    found += _people_findings(root)
    found += _permutation_findings(root)
    return found + differences(root, count(root), PUBLISHED)


def _camera_findings(root: Path) -> Iterator[Finding]:
    inner = root / "SYSU-MM01"
    if inner.is_dir() and names(inner) & set(FOLDERS):
        yield Finding(
            "error", "The data set lies one folder deeper, in SYSU-MM01.", f"Use {inner} as root.", str(inner)
        )
    for folder in FOLDERS:
        if not (root / folder).is_dir():
            repair = f"Unpack the archive again; it holds {', '.join(FOLDERS)} and exp."
            yield Finding("error", f"{folder} is missing.", repair, str(root / folder))
            continue
        yield from nesting_findings(root / folder)
        odd = [one for one in subfolders(root / folder) if not (len(one.name) == 4 and one.name.isdecimal())]
        for one in odd:
            repair = "Rename it to the identity in four digits, or remove it."
            yield Finding("warning", f"{folder}/{one.name} is no identity of four digits.", repair, str(one))
        listed = [list_images(one) for one in subfolders(root / folder)]
        yield from stray_findings([stray for _, strays in listed for stray in strays], drawn=True)
        yield from _numbering(folder, [images for images, _ in listed if images])


def _numbering(folder: str, cells: Sequence[Sequence[Path]]) -> Iterator[Finding]:
    """Images are numbered from 0001 without gaps; a gap is a lost file, and shifts the official gallery."""
    broken = [images[0].parent for images in cells if [image.stem for image in images] != _expected_stems(len(images))]
    if broken:
        shown = ", ".join(one.name for one in broken[:5])
        what = f"{folder}: images of {len(broken)} people are not numbered 0001, 0002, ... without gaps ({shown})."
        yield Finding("warning", what, "Unpack the archive again: files are missing or renamed.", str(broken[0]))


def _expected_stems(images: int) -> list[str]:
    return [f"{number:04d}" for number in range(1, images + 1)]


def _list_findings(root: Path) -> Iterator[Finding]:
    if not (root / "exp").is_dir():
        yield Finding("error", "exp is missing.", "Copy the folder 'exp' from the archive.", str(root / "exp"))
        return
    lists: dict[str, set[int]] = {}
    for stem in ("train_id", "val_id", "test_id"):
        try:
            lists[stem] = set(read_id_list(root / "exp", stem))
        except DatasetError as error:
            yield Finding("error", str(error), "", str(root / "exp" / f"{stem}.txt"))
    for one, other in (("train_id", "val_id"), ("train_id", "test_id"), ("val_id", "test_id")):
        shared = sorted(lists.get(one, set()) & lists.get(other, set()))
        if shared:
            what = f"{len(shared)} people are in {one} and {other} ({', '.join(map(str, shared[:5]))})."
            yield Finding("error", what, "Copy the lists from the archive again.", str(root / "exp"))


def _people_findings(root: Path) -> Iterator[Finding]:
    for split in ("train", "validation", "test"):
        try:
            table = read(root, split, 1)
            listed = set(read_id_list(root / "exp", LISTS[split][0]))
        except DatasetError:
            continue  # told above
        absent = sorted(listed - set(table.identity.tolist()))
        if absent:
            shown = ", ".join(f"{identity:04d}" for identity in absent[:5])
            what = f"{len(absent)} people of the {split} list have no image ({shown})."
            yield Finding("error", what, "Unpack the archive again.", str(root))
        single = sorted(set(table.identity.tolist()) - set(both_modalities(table)))
        if single:
            shown = ", ".join(f"{identity:04d}" for identity in single[:5])
            what = f"{len(single)} people of the {split} list have images of one modality only ({shown})."
            yield Finding("warning", what, "They cannot be matched across modalities.", str(root))


def _permutation_findings(root: Path) -> Iterator[Finding]:
    path = permutation_file(root)
    try:
        permutations = read_permutations(path)
    except DatasetError as error:
        # The seeded protocols work without the file; a damaged one deserves more than a missing one.
        repair = f"Copy {PERMUTATIONS} from the authors' code repository; the seeded protocols work without it."
        yield Finding("error" if path.is_file() else "warning", str(error), repair, str(path))
        return
    differ = []
    for camera, own in zip(CAMERAS, permutations, strict=True):
        for identity in _listed(root, "test_id"):
            images = len(list_images(root / f"cam{camera}" / f"{identity:04d}")[0])
            problem = cell_problem(order_of(own, identity), images)
            if problem:
                differ.append(f"cam{camera}/{identity:04d} has {problem}")
    if differ:
        what = f"{len(differ)} test folders do not fit {path.name}: "
        what += "; ".join(differ[:4]) + (" ..." if len(differ) > 4 else ".")
        yield Finding("error", what, "Unpack the archive again; the official protocols need these images.", str(path))
    synthetic = (root / MANIFEST).is_file()
    if not synthetic and hashlib.sha256(path.read_bytes()).hexdigest() != PERMUTATIONS_SHA256:
        what = f"{path.name} is not the published file: scores by its galleries are not comparable with papers."
        yield Finding("note", what, "Copy it from the authors' code repository.", str(path))


def _listed(root: Path, stem: str) -> list[int]:
    try:
        return read_id_list(exp_folder(root), stem)
    except DatasetError:
        return []  # told by _list_findings


BENCHMARK = Benchmark(
    name="sysu_mm01",
    title="SYSU-MM01",
    infrared="near-infrared",
    read=read,
    protocols=protocols,
    validation=validation,
    recognise=recognise,
    inspect=inspect,
    published=PUBLISHED,
    count=count,
)
