"""How many people, who is seen where, and every file of a twin: the plan that :mod:`visir.twin.write` carries out."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from visir.core.errors import ConfigError, nearest
from visir.core.seeds import generator
from visir.core.types import IntArray
from visir.twin.cameras import Layout, Spectrum

Range = tuple[int, int]
DRAWS = 10  # partitions of RegDB, rows of the permutation file of SYSU-MM01
COUNTERPARTS = "counterparts"  # folder of the same moments in the other spectrum
INFRARED: Mapping[Layout, Spectrum] = {"sysu_mm01": "near-infrared", "regdb": "thermal", "llcm": "near-infrared"}


@dataclass(frozen=True)
class Size:
    """How large a twin is.

    Attributes:
        identities_train, identities_validation, identities_test: people. RegDB parts all of them in halves, ten times;
            LLCM has no validation list, its validation people are added to the training ones.
        images: least and most images of a person in a camera (of one spectrum): one range, or one for each camera.
        height, width: of the pictures, pixels. supersampling: rays along a pixel's side.
    """

    identities_train: int
    identities_validation: int
    identities_test: int
    images: tuple[Range, ...]
    height: int = 128
    width: int = 64
    supersampling: int = 2

    def __post_init__(self) -> None:
        if min(self.identities_train, self.identities_test) < 2 or self.identities_validation < 0:
            raise ConfigError("size: a twin needs at least two people for training and two for test.")
        if not self.images or any(not 1 <= low <= high for low, high in self.images):
            raise ConfigError(f"size: images must be ranges (least, most) of at least one image, got {self.images}.")
        if self.height < 16 or self.width < 8 or not 1 <= self.supersampling <= 8:
            raise ConfigError("size: pictures need at least 16 x 8 pixels and 1 to 8 rays along a pixel's side.")

    def images_in(self, camera: int) -> Range:
        """Least and most images of a person in ``camera`` (1-based)."""
        return self.images[camera - 1] if len(self.images) > 1 else self.images[0]


_SYSU_CELLS = ((14, 35), (18, 40), (20, 21), (12, 20), (12, 20), (20, 20))
SIZES: Mapping[Layout, Mapping[str, Size]] = {
    "sysu_mm01": {
        "tiny": Size(8, 2, 4, ((3, 4),), 64, 32),
        "demo": Size(120, 12, 40, ((4, 4),)),
        "full": Size(296, 99, 96, _SYSU_CELLS),
    },
    "regdb": {
        "tiny": Size(6, 0, 6, ((3, 3),), 64, 32),
        "demo": Size(70, 0, 70, ((10, 10),)),
        "full": Size(206, 0, 206, ((10, 10),)),
    },
    "llcm": {
        "tiny": Size(6, 0, 4, ((1, 2),), 64, 32),
        "demo": Size(48, 0, 24, ((2, 4),)),
        "full": Size(713, 0, 351, ((2, 5),)),
    },
}


def find_size(layout: Layout, size: str | Size) -> Size:
    """``size`` itself, or the one of that name; a ConfigError names the nearest known one."""
    if isinstance(size, Size):
        return size
    known = SIZES[layout]
    if size not in known:
        raise ConfigError(f"size: no twin of size {size!r}. {nearest(size, known)}")
    return known[size]


@dataclass(frozen=True)
class Shot:
    """One picture to make: its file below the root, and what it shows; ``optics`` as in :func:`..picture.picture`."""

    path: str
    identity: int
    camera: int
    number: int
    spectrum: Spectrum
    optics: Spectrum | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """All files of a twin.

    Attributes:
        shots: the pictures, in the order in which they are made.
        files: the split files: path below the root -> content.
        folders: folders that exist even if empty. counts: what the manifest says.
        training: the people of the training images (validation included), in any partition.
    """

    shots: tuple[Shot, ...]
    files: Mapping[str, bytes]
    folders: tuple[str, ...]
    counts: Mapping[str, int]
    training: frozenset[int]


def plan(seed: int, layout: Layout, size: Size) -> Plan:
    """Everything a twin consists of, decided before the first picture is made."""
    return {"sysu_mm01": _plan_sysu, "regdb": _plan_regdb, "llcm": _plan_llcm}[layout](seed, size)


def counterparts(layout: Layout, contents: Plan) -> tuple[Shot, ...]:
    """Every training image's moment in the other spectrum, by the same lens, in the order of the images."""
    infrared = INFRARED[layout]
    return tuple(
        replace(
            shot,
            path=f"{COUNTERPARTS}/{shot.path}",
            spectrum="visible" if shot.spectrum == infrared else infrared,
            optics=shot.spectrum,
        )
        for shot in contents.shots
        if shot.identity in contents.training
    )


def _share(count: int, share: float) -> int:
    return min(count, round(share * count))


def _some(rng: np.random.Generator, people: list[int], share: float) -> set[int]:
    return set(rng.permutation(people)[: _share(len(people), share)].tolist())


# --- SYSU-MM01 -------------------------------------------------------------------------------------------------------


def _sysu_people(rng: np.random.Generator, size: Size) -> dict[str, list[int]]:
    """Identity numbers by split, with gaps; ``late`` ones (above the rest) only walk past cameras 3, 4 and 5."""
    others = size.identities_train + size.identities_validation
    late = _share(others, 0.4)
    early = others - late + size.identities_test
    low = np.sort(rng.permutation(round(early * 1.12) + 2)[:early]) + 1
    top = int(low[-1])
    high = np.sort(rng.permutation(round(late * 1.06) + 1)[:late]) + top + 1
    test = np.sort(rng.permutation(low)[: size.identities_test])
    rest = rng.permutation(np.concatenate([np.setdiff1d(low, test), high]))
    validation = rest[: size.identities_validation]
    people = {"train": rest[size.identities_validation :], "val": validation, "test": test, "late": high}
    return {name: sorted(numbers.tolist()) for name, numbers in people.items()}


def _sysu_seen(rng: np.random.Generator, people: Mapping[str, list[int]]) -> dict[int, set[int]]:
    """camera -> who is seen by it: shares as in the real set, everyone by a camera of each modality."""
    late, test = set(people["late"]), people["test"]
    early = sorted({*people["train"], *people["val"]} - late)
    indoors = _some(rng, test, 0.58) | _some(rng, early, 0.85)
    everyone = sorted({*early, *test, *late})
    outdoors = {camera: set(everyone) - _some(rng, sorted(indoors), 0.03) for camera in (4, 5)}
    dark = set(everyone) - _some(rng, test, 0.03)
    return {1: indoors, 2: indoors, 3: dark, 4: outdoors[4], 5: outdoors[5], 6: {*early, *test}}


def matlab(name: str, value: object) -> bytes:
    """A MAT-file, version 5, of one variable, without the date that SciPy writes into its header."""
    from scipy.io import savemat

    buffer = io.BytesIO()
    savemat(buffer, {name: value})
    text = b"MATLAB 5.0 MAT-file, written by visir".ljust(116)
    return text + buffer.getvalue()[116:]


def _permutations(seed: int, cells: Mapping[tuple[int, int], int], tops: Mapping[int, int]) -> bytes:
    """The permutation file: 6 cells (cameras) of one cell per identity number, each 10 x n permutations of 1..n."""
    cameras = np.empty((6, 1), object)
    for camera in range(1, 7):
        people = np.empty((tops[camera], 1), object)
        for identity in range(1, tops[camera] + 1):
            count = cells.get((camera, identity), 0)
            rng = generator(seed, "permutation", camera, identity)
            rows = [rng.permutation(count) + 1.0 for _ in range(DRAWS)]
            people[identity - 1, 0] = np.array(rows, np.float64).reshape(DRAWS, count)
        cameras[camera - 1, 0] = people
    return matlab("rand_perm_cam", cameras)


def _plan_sysu(seed: int, size: Size) -> Plan:
    rng = generator(seed, "roster sysu_mm01")
    people = _sysu_people(rng, size)
    seen = _sysu_seen(rng, people)
    cells = {
        (camera, identity): int(generator(seed, "cell", camera, identity).integers(low, high + 1))
        for camera in range(1, 7)
        for low, high in [size.images_in(camera)]
        for identity in sorted(seen[camera])
    }
    shots = tuple(
        Shot(
            f"cam{camera}/{identity:04d}/{number:04d}.jpg",
            identity,
            camera,
            number,
            "near-infrared" if camera in (3, 6) else "visible",
        )
        for (camera, identity), count in cells.items()
        for number in range(1, count + 1)
    )
    lists = {name: people[name] for name in ("train", "val", "test")}
    lists["available"] = sorted({*people["train"], *people["val"], *people["test"]})
    top = max(lists["available"])
    lower = max(seen[6] | seen[1])
    files = {
        "exp/rand_perm_cam.mat": _permutations(seed, cells, {c: lower if c in (1, 2, 6) else top for c in range(1, 7)})
    }
    for name, numbers in lists.items():
        files[f"exp/{name}_id.txt"] = (",".join(map(str, numbers)) + "\n").encode()
        files[f"exp/{name}_id.mat"] = matlab("id", np.array([numbers], np.float64))
    counts = {
        "identities_train": len(people["train"]),
        "identities_validation": len(people["val"]),
        "identities_test": len(people["test"]),
        **{f"cam{camera}": sum(n for (c, _), n in cells.items() if c == camera) for camera in range(1, 7)},
    }
    trained = frozenset({*people["train"], *people["val"]})
    return Plan(shots, files, tuple(f"cam{camera}" for camera in range(1, 7)), counts, trained)


# --- RegDB -----------------------------------------------------------------------------------------------------------


def _halves(seed: int, count: int) -> Iterator[tuple[int, str, IntArray]]:
    """draw, part and the identities 1..count of that part, ascending."""
    for draw in range(1, DRAWS + 1):
        order = generator(seed, "halves", draw).permutation(count) + 1
        yield draw, "train", np.sort(order[: count // 2])
        yield draw, "test", np.sort(order[count // 2 :])


def _plan_regdb(seed: int, size: Size) -> Plan:
    count = size.identities_train + size.identities_validation + size.identities_test
    low, high = size.images_in(1)
    images = {i: int(generator(seed, "cell", 1, i).integers(low, high + 1)) for i in range(1, count + 1)}
    sides: tuple[tuple[str, Spectrum, int], ...] = (("Visible", "visible", 0), ("Thermal", "thermal", 500))
    paths = {
        (top, i): [f"{top}/{i}/{top[0].lower()}_{i:05d}_{n:02d}.bmp" for n in range(1, images[i] + 1)]
        for top, _, _ in sides
        for i in images
    }
    shots = tuple(
        Shot(path, i, 1, first + n, spectrum)
        for top, spectrum, first in sides
        for i in images
        for n, path in enumerate(paths[top, i], start=1)
    )
    files = {
        f"idx/{part}_{top.lower()}_{draw}.txt": _listing([(paths[top, i], n) for n, i in enumerate(people.tolist())])
        for draw, part, people in _halves(seed, count)
        for top, _, _ in sides
    }
    total = sum(images.values())
    counts = {"identities": count, "visible": total, "thermal": total, "split_lists": 4 * DRAWS}
    return Plan(shots, files, ("Visible", "Thermal"), counts, frozenset(images))


def _listing(cells: list[tuple[list[str], int]]) -> bytes:
    return "".join(f"{path} {label}\n" for paths, label in cells for path in paths).encode()


# --- LLCM ------------------------------------------------------------------------------------------------------------


def _llcm_cell(seed: int, size: Size, identity: int, camera: int, spectrum: Spectrum, folder: str) -> list[Shot]:
    word, first = ("vis", 0) if spectrum == "visible" else ("nir", 500)
    rng = generator(seed, f"cell {word}", camera, identity)
    low, high = size.images_in(camera)
    day = int(rng.integers(100000, 300000))
    name = f"{identity:04d}_c{camera:02d}_s{day:06d}_f"
    return [
        Shot(f"{folder}/{identity:04d}/{name}{n * 25:04d}_{word}.jpg", identity, camera, first + n, spectrum)
        for n in range(1, int(rng.integers(low, high + 1)) + 1)
    ]


def _plan_llcm(seed: int, size: Size) -> Plan:
    count = size.identities_train + size.identities_validation + size.identities_test
    rng = generator(seed, "roster llcm")
    numbers = np.sort(rng.permutation(round(count * 1.05) + 1)[:count]) + 1
    test = sorted(rng.permutation(numbers)[: size.identities_test].tolist())
    train = sorted(set(numbers.tolist()) - set(test))
    cameras = {i: sorted(rng.permutation(9)[: int(rng.integers(4, 8))] + 1) for i in numbers.tolist()}
    cells: dict[str, list[list[Shot]]] = {"vis": [], "nir": [], "test_vis": [], "test_nir": []}
    sides: tuple[tuple[str, Spectrum], ...] = (("vis", "visible"), ("nir", "near-infrared"))
    for word, spectrum in sides:
        for i in train:
            made = [_llcm_cell(seed, size, i, int(c), spectrum, word) for c in cameras[i]]
            cells[word].append([shot for cell in made for shot in cell])
        for i in test:
            seen = [int(c) for c in cameras[i] if (c != 3 or word == "vis")]
            made = [_llcm_cell(seed, size, i, c, spectrum, f"test_{word}/cam{c}") for c in seen]
            cells[f"test_{word}"].append([shot for cell in made for shot in cell])
    files = {"idx/test_id.txt": (",".join(map(str, test)) + "\n").encode()}
    for name, people in cells.items():
        listed = name if name.startswith("test") else f"train_{name}"
        files[f"idx/{listed}.txt"] = _listing([([s.path for s in cell], n) for n, cell in enumerate(people)])
    shots = tuple(shot for people in cells.values() for cell in people for shot in cell)
    folders = ["vis", "nir"]
    folders += [f"test_{word}/cam{c}" for word in ("vis", "nir") for c in range(1, 10) if word == "vis" or c != 3]
    totals = {name: sum(len(cell) for cell in people) for name, people in cells.items()}
    counts = {
        "identities": count,
        "identities_train": len(train),
        "vis": totals["vis"],
        "nir": totals["nir"],
        "identities_test": len(test),
        "test_vis": totals["test_vis"],
        "test_nir": totals["test_nir"],
    }
    return Plan(shots, files, tuple(folders), counts, frozenset(train))
