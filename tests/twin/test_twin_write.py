"""Twins on disk: layouts, the same bytes every time, resuming after kill -9, refusing what is not theirs."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from visir.core.errors import ConfigError, DatasetError, StorageError
from visir.twin import LAYOUTS, MANIFEST, Layout, Size, write
from visir.twin.world import SIZES, Shot, plan

SMALL = Size(3, 1, 3, ((2, 3),), 32, 16, 1)


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def small(root: Path, layout: Layout, **options: object) -> Path:
    return write(root, layout=layout, size=SMALL, show_progress=False, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[Layout, Path]:
    return {layout: small(tmp_path_factory.mktemp("twin") / layout, layout, workers=1) for layout in LAYOUTS}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_bytes_whatever_the_number_of_workers(made: dict[Layout, Path], layout: Layout, tmp_path: Path) -> None:
    again = digest(small(tmp_path / "again", layout, workers=3))
    assert again == digest(made[layout])
    other = digest(small(tmp_path / "other", layout, seed=1))
    pictures = [name for name in set(again) & set(other) if name.endswith((".jpg", ".bmp"))]
    assert all(again[name] != other[name] for name in pictures)


def test_every_planned_picture_is_there_and_nothing_else(made: dict[Layout, Path]) -> None:
    for layout, root in made.items():
        planned = plan(0, layout, SMALL)
        expected = {shot.path for shot in planned.shots} | set(planned.files) | {MANIFEST}
        assert set(digest(root)) == expected
        assert len(expected) == len(planned.shots) + len(planned.files) + 1
        manifest = json.loads((root / MANIFEST).read_text())
        assert (manifest["layout"], manifest["seed"], manifest["complete"]) == (layout, 0, True)
        assert manifest["counts"] == dict(planned.counts)
        with Image.open(root / planned.shots[0].path) as image:
            assert (image.size, image.mode) == ((16, 32), "RGB")


def test_infrared_pictures_hold_one_channel_of_information(made: dict[Layout, Path]) -> None:
    for layout, root in made.items():
        for shot in plan(0, layout, SMALL).shots:
            with Image.open(root / shot.path) as image:
                pixels = np.asarray(image)
            grey = bool((pixels == pixels[..., :1]).all())
            assert grey == (shot.spectrum != "visible")


def test_sysu_has_the_official_split_files(made: dict[Layout, Path]) -> None:
    root = made["sysu_mm01"]
    splits = {}
    for name in ("train", "val", "test", "available"):
        splits[name] = [int(part) for part in (root / f"exp/{name}_id.txt").read_text().split(",")]
        assert loadmat(root / f"exp/{name}_id.mat")["id"].ravel().tolist() == splits[name]
    assert sorted(splits["train"] + splits["val"] + splits["test"]) == splits["available"]
    assert [len(splits[name]) for name in ("train", "val", "test")] == [3, 1, 3]
    permutations = loadmat(root / "exp/rand_perm_cam.mat")["rand_perm_cam"]
    assert permutations.shape == (6, 1)
    for camera in range(1, 7):
        cells = permutations[camera - 1][0].squeeze()
        assert len(cells) <= max(splits["available"])
        for identity, cell in enumerate(cells, start=1):
            names = sorted(path.name for path in (root / f"cam{camera}/{identity:04d}").glob("*"))
            assert names == [f"{number:04d}.jpg" for number in range(1, len(names) + 1)]
            assert cell.shape == (10, len(names))
            assert all(sorted(row) == list(range(1, len(names) + 1)) for row in cell)


def test_everyone_is_seen_in_both_modalities_and_not_in_every_camera() -> None:
    planned = plan(0, "sysu_mm01", SIZES["sysu_mm01"]["full"])
    seen: dict[int, set[int]] = {}
    for shot in planned.shots:
        seen.setdefault(shot.identity, set()).add(shot.camera)
    assert all(cameras & {1, 2, 4, 5} and cameras & {3, 6} for cameras in seen.values())
    assert len(seen) == 491
    assert 0.4 < np.mean([1 in cameras for cameras in seen.values()]) < 0.6
    images = Counter(shot.camera for shot in planned.shots)
    published = {1: 6289, 2: 7528, 3: 9812, 4: 8030, 5: 8224, 6: 5980}
    assert all(0.85 < images[camera] / count < 1.15 for camera, count in published.items())


def test_regdb_lists_part_the_people_in_halves_with_local_labels(made: dict[Layout, Path]) -> None:
    root = made["regdb"]
    for draw in range(1, 11):
        people = {}
        for part in ("train", "test"):
            sides = []
            for top in ("Visible", "Thermal"):
                lines = [
                    line.split(" ") for line in (root / f"idx/{part}_{top.lower()}_{draw}.txt").read_text().splitlines()
                ]
                assert all((root / path).is_file() and path.startswith(top) for path, _ in lines)
                sides.append({path.split("/")[1]: int(label) for path, label in lines})
            assert sides[0] == sides[1]
            assert sorted(sides[0].values()) == list(range(len(sides[0])))
            people[part] = set(sides[0])
        assert not people["train"] & people["test"]
        assert len(people["train"] | people["test"]) == 7
    assert plan(0, "regdb", SIZES["regdb"]["full"]).counts["thermal"] == 4120


def test_llcm_lists_and_test_folders_agree(made: dict[Layout, Path]) -> None:
    root = made["llcm"]
    test = {int(part) for part in (root / "idx/test_id.txt").read_text().split(",")}
    for word in ("vis", "nir"):
        folders = sorted(path.name for path in (root / f"test_{word}").iterdir())
        assert folders == [f"cam{number}" for number in range(1, 10) if word == "vis" or number != 3]
        listed = [line.split(" ")[0] for line in (root / f"idx/train_{word}.txt").read_text().splitlines()]
        assert sorted(listed) == sorted(path.relative_to(root).as_posix() for path in (root / word).rglob("*.jpg"))
        assert not {int(path.split("/")[1]) for path in listed} & test
        assert {int(path.parent.name) for path in (root / f"test_{word}").rglob("*.jpg")} == test


RUN = """
import sys
from pathlib import Path
from visir.twin import Size, write
print("go", flush=True)
write(Path(sys.argv[1]), layout=sys.argv[2], size=Size(4, 1, 4, ((4, 5),), 64, 32, 2), workers=2, show_progress=False)
"""


def test_a_killed_run_is_taken_up_again_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    size = Size(4, 1, 4, ((4, 5),), 64, 32, 2)
    whole = write(tmp_path / "whole", layout="sysu_mm01", size=size, show_progress=False)
    total = len(digest(whole))
    root = tmp_path / "killed"
    for goal in (0.2, 0.7):
        process = subprocess.Popen([sys.executable, "-c", RUN, str(root), "sysu_mm01"], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        while process.poll() is None and len(list(root.glob("cam*/*/*.jpg"))) < goal * total:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        assert not json.loads((root / MANIFEST).read_text())["complete"]
        for path in root.glob("cam*/*/*.jpg"):
            assert path.read_bytes() == (whole / path.relative_to(root)).read_bytes()
    write(root, layout="sysu_mm01", size=size, show_progress=False)
    assert digest(root) == digest(whole)


def test_same_bytes_from_kernels_compiled_now_and_from_kernels_out_of_the_cache(tmp_path: Path) -> None:
    """Compiling may inline otherwise than loading does: no kernel may depend on it."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for name in ("compiled", "cached"):
        subprocess.run([sys.executable, "-c", RUN, str(tmp_path / name), "sysu_mm01"], env=environment, check=True)
    assert list((tmp_path / "cache").rglob("*.nbi"))
    assert digest(tmp_path / "compiled") == digest(tmp_path / "cached")


def test_a_whole_twin_is_left_as_it_is_and_lost_pictures_of_a_broken_one_come_back(
    made: dict[Layout, Path], tmp_path: Path
) -> None:
    root = small(tmp_path / "twin", "regdb")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    small(root, "regdb")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    manifest = json.loads((root / MANIFEST).read_text())
    (root / MANIFEST).write_text(json.dumps({**manifest, "complete": False}))
    next(root.glob("Visible/*/*.bmp")).unlink()
    next(root.glob("Thermal/*/*.bmp")).write_bytes(b"")
    small(root, "regdb")
    assert digest(root) == digest(made["regdb"])


@pytest.mark.parametrize("change", [{"seed": 5}, {"layout": "llcm"}, {"size": "tiny"}])
def test_another_twin_is_not_touched(made: dict[Layout, Path], change: dict[str, object]) -> None:
    root = made["regdb"]
    before = digest(root)
    options: dict[str, object] = {"layout": "regdb", "size": SMALL, "show_progress": False, **change}
    with pytest.raises(DatasetError, match="another twin"):
        write(root, **options)  # type: ignore[arg-type]
    assert digest(root) == before


def test_foreign_files_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(DatasetError, match=r"holiday\.jpg"):
        small(tmp_path, "regdb")
    assert list(digest(tmp_path)) == ["holiday.jpg"]
    with pytest.raises(DatasetError, match="expected a folder"):
        small(tmp_path / "holiday.jpg", "regdb")
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(DatasetError, match="damaged"):
        small(tmp_path, "regdb")
    assert len(digest(tmp_path)) == 2


def test_a_full_disk_speaks_up_and_leaves_whole_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: dict[Layout, Path]
) -> None:
    real, written = Path.write_bytes, []

    def full_after_five(path: Path, content: bytes) -> int:
        if path.suffix == ".tmp":
            written.append(path)
            if len(written) > 5:
                raise OSError(28, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full_after_five)
    with pytest.raises(StorageError, match="No space left"):
        small(tmp_path / "twin", "regdb", workers=2)
    monkeypatch.undo()
    assert digest(small(tmp_path / "twin", "regdb")) == digest(made["regdb"])


def test_bad_options_name_the_nearest_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'sysu_mm01'"):
        write(tmp_path / "a", layout="sysu_mm1")
    with pytest.raises(ConfigError, match="Did you mean 'demo'"):
        write(tmp_path / "a", size="dmo")
    with pytest.raises(ConfigError, match="workers"):
        write(tmp_path / "a", size="tiny", workers=0)
    with pytest.raises(ConfigError, match="images"):
        Size(4, 1, 4, ((3, 2),))
    with pytest.raises(ConfigError, match="16 x 8"):
        Size(4, 1, 4, ((3, 4),), height=8)
    assert not (tmp_path / "a").exists()


def test_plans_do_not_repeat_a_moment() -> None:
    for layout in LAYOUTS:
        shots: tuple[Shot, ...] = plan(0, layout, SIZES[layout]["demo"]).shots
        assert len({(s.identity, s.camera, s.number) for s in shots}) == len(shots)
        assert 2000 < len(shots) < 3500
