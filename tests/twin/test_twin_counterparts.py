"""Counterparts: every training image's moment in the other spectrum, beside the data set and no part of it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from visir.benchmarks import catalog
from visir.benchmarks.manifest import Counterparts, read_manifest
from visir.core.errors import DatasetError
from visir.core.types import ByteArray
from visir.experiment.doctor import examine
from visir.twin import LAYOUTS, MANIFEST, Layout, Size, World, capture, picture, render_pair, write
from visir.twin.cameras import Spectrum
from visir.twin.world import SIZES, Shot, counterparts, plan

SMALL = Size(3, 1, 3, ((2, 3),), 32, 16, 1)
FOLDER = "counterparts"


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def data(files: dict[str, str]) -> dict[str, str]:
    """Without the counterparts, and without the manifest, which tells of them."""
    return {name: value for name, value in files.items() if not name.startswith((FOLDER, MANIFEST))}


def small(root: Path, layout: Layout, **options: object) -> Path:
    return write(root, layout=layout, size=SMALL, show_progress=False, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[Layout, Path]:
    return {layout: small(tmp_path_factory.mktemp("plain") / layout, layout) for layout in LAYOUTS}


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> dict[Layout, Path]:
    folder = tmp_path_factory.mktemp("paired")
    return {layout: small(folder / layout, layout, counterparts=True, workers=1) for layout in LAYOUTS}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_images_have_counterparts_and_the_data_set_is_the_same(
    plain: dict[Layout, Path], paired: dict[Layout, Path], layout: Layout
) -> None:
    benchmark, root = catalog.find(layout), paired[layout]
    assert data(digest(root)) == data(digest(plain[layout]))
    trained = {path for draw in range(1, benchmark.draws + 1) for path in benchmark.read(root, "trainval", draw).paths}
    made = {name.removeprefix(f"{FOLDER}/") for name in digest(root) if name.startswith(FOLDER)}
    assert made >= trained
    if layout != "regdb":
        assert made == trained
    section = json.loads((root / MANIFEST).read_text())[FOLDER]
    assert section == {"folder": FOLDER, "images": len(made), "complete": True}
    manifest = read_manifest(root)
    assert manifest is not None
    assert manifest.counterparts == Counterparts(FOLDER)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_counterparts_are_of_the_other_spectrum(paired: dict[Layout, Path], layout: Layout) -> None:
    for shot in counterparts(layout, plan(0, layout, SMALL)):
        own, other = (Path(shot.path.removeprefix(f"{FOLDER}/")), Path(shot.path))
        greys = []
        for path in (own, other):
            with Image.open(paired[layout] / path) as image:
                assert (image.size, image.mode) == ((16, 32), "RGB")
                pixels = np.asarray(image)
            greys.append(bool((pixels == pixels[..., :1]).all()))
        assert greys == [shot.optics != "visible", shot.optics == "visible"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_benchmarks_and_doctor_do_not_take_them_for_data(
    plain: dict[Layout, Path], paired: dict[Layout, Path], layout: Layout
) -> None:
    benchmark = catalog.recognise(paired[layout])
    assert benchmark.name == layout
    for split in ("train", "validation", "trainval", "test"):
        tables = [benchmark.read(root[layout], split, 1) for root in (plain, paired)]
        assert tables[0].paths == tables[1].paths
    without, found = (examine(root[layout], images=False) for root in (plain, paired))
    assert (found.findings, found.counts) == (without.findings, without.counts)
    assert found.usable
    assert examine(paired[layout], workers=1).findings == without.findings


def test_a_whole_twin_gets_them_without_being_made_again(paired: dict[Layout, Path], tmp_path: Path) -> None:
    root = small(tmp_path / "twin", "llcm", workers=3)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file() and path.name != MANIFEST}
    small(root, "llcm", counterparts=True, workers=3)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert digest(root) == digest(paired["llcm"])
    every = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    small(root, "llcm")
    small(root, "llcm", counterparts=True)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == every


RUN = """
import sys
from pathlib import Path
from visir.twin import Size, write
size = Size(4, 1, 4, ((4, 5),), 64, 32, 2)
print("go", flush=True)
write(Path(sys.argv[1]), layout="sysu_mm01", size=size, counterparts=True, workers=2, show_progress=False)
"""


def killed(root: Path, goal: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN, str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    while process.poll() is None and len(list(root.rglob("*.jpg"))) < goal:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


def test_a_killed_run_is_taken_up_again_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    size = Size(4, 1, 4, ((4, 5),), 64, 32, 2)
    whole = write(tmp_path / "whole", layout="sysu_mm01", size=size, counterparts=True, show_progress=False)
    planned = plan(0, "sysu_mm01", size)
    pictures, beside = len(planned.shots), len(counterparts("sysu_mm01", planned))
    root = tmp_path / "killed"
    killed(root, pictures + beside // 2)  # among the counterparts
    manifest = json.loads((root / MANIFEST).read_text())
    assert manifest["complete"]
    assert not manifest[FOLDER]["complete"]
    diagnosis = examine(root, images=False)
    assert [finding.severity for finding in diagnosis.findings if "counterparts" in finding.what] == ["note"]
    assert diagnosis.usable
    write(root, layout="sysu_mm01", size=size, counterparts=True, show_progress=False)
    assert digest(root) == digest(whole)


def test_counterparts_that_were_begun_are_not_forgotten(paired: dict[Layout, Path], tmp_path: Path) -> None:
    root = small(tmp_path / "twin", "llcm", counterparts=True)
    manifest = json.loads((root / MANIFEST).read_text())
    begun = {**manifest, "complete": False, FOLDER: {**manifest[FOLDER], "complete": False}}
    (root / MANIFEST).write_text(json.dumps(begun))
    next(root.glob("vis/*/*.jpg")).unlink()
    next(root.glob("counterparts/nir/*/*.jpg")).unlink()
    small(root, "llcm")
    assert data(digest(root)) == data(digest(paired["llcm"]))
    assert json.loads((root / MANIFEST).read_text()) == {**begun, "complete": True}
    small(root, "llcm", counterparts=True)
    assert digest(root) == digest(paired["llcm"])


@pytest.mark.parametrize("section", [{}, True, {"complete": True}])
def test_a_manifest_that_says_nonsense_of_them_is_damaged(
    plain: dict[Layout, Path], tmp_path: Path, section: object
) -> None:
    content = json.loads((plain["regdb"] / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**content, FOLDER: section}))
    with pytest.raises(DatasetError, match="damaged"):
        read_manifest(tmp_path)
    if section != {"complete": True}:
        with pytest.raises(DatasetError, match="damaged"):
            small(tmp_path, "regdb", counterparts=True)


def test_lens_and_moment_are_shared_and_the_sensor_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, float]] = []
    smear, blur = capture._smear, capture._blur
    smeared: list[int] = []

    def watched_smear(rng: np.random.Generator, light: np.ndarray) -> np.ndarray:
        out = smear(rng, light)
        smeared.append(rng.bit_generator.state["state"]["state"])
        return out

    def watched_blur(light: np.ndarray, spread: float) -> np.ndarray:
        seen.append((smeared[-1], spread))
        return blur(light, spread)

    monkeypatch.setattr(capture, "_smear", watched_smear)
    monkeypatch.setattr(capture, "_blur", watched_blur)
    cases: list[tuple[Layout, int, int, Spectrum, Spectrum]] = [
        ("sysu_mm01", 1, 2, "visible", "near-infrared"),
        ("sysu_mm01", 6, 2, "near-infrared", "visible"),
        ("regdb", 1, 502, "thermal", "visible"),
        ("llcm", 4, 2, "visible", "near-infrared"),
    ]
    for layout, camera, number, own, other in cases:
        world = World(3, layout, 32, 16, 1)
        picture(world, 5, camera, number, spectrum=own)
        picture(world, 5, camera, number, spectrum=other, optics=own)
        assert seen[-1] == seen[-2]
        picture(world, 6, camera, number, spectrum=other, optics=own)
        assert seen[-1] != seen[-2]
        render_pair(world, 5, camera, number)
        assert len(set(seen[-3:])) == 1


def grain(image: ByteArray) -> float:
    """Deviation of the noise, from differences of neighbouring pixels where nothing is to be seen."""
    values = cv2.filter2D(image[..., 1].astype(np.float32), -1, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], float))
    return float(np.median(np.abs(values)) / 6 / 0.6745)


def test_exposure_and_noise_are_those_of_the_other_sensor() -> None:
    """What a visible camera's moment looks like in the near-infrared is what near-infrared cameras give, and back."""
    world = World(0, "sysu_mm01")
    looks = {
        (camera, spectrum): np.array(
            [
                [image.mean(), grain(image)]
                for identity in range(1, 9)
                for image in [made(world, identity, camera, spectrum)]
            ]
        ).mean(0)
        for camera in (1, 3, 4, 6)
        for spectrum in ("visible", "near-infrared")
    }
    for spectrum, own, lent in (("visible", (1, 4), (3, 6)), ("near-infrared", (3, 6), (1, 4))):
        brightness, noise = (np.array([looks[camera, spectrum][i] for camera in own]) for i in (0, 1))
        for camera in lent:
            assert looks[camera, spectrum][0] == pytest.approx(brightness.mean(), rel=0.15)
            assert 0.5 * noise.min() < looks[camera, spectrum][1] < 2.0 * noise.max()
    for camera in (1, 3, 4, 6):  # dark sensors are noisier than the same camera by day
        assert looks[camera, "near-infrared"][1] > 1.2 * looks[camera, "visible"][1]


def made(world: World, identity: int, camera: int, spectrum: str) -> ByteArray:
    return picture(world, identity, camera, 1, spectrum="visible" if spectrum == "visible" else "near-infrared")


def test_plans_pair_every_training_image_once() -> None:
    for layout in LAYOUTS:
        contents = plan(0, layout, SIZES[layout]["demo"])
        beside: tuple[Shot, ...] = counterparts(layout, contents)
        moments = {(shot.identity, shot.camera, shot.number): shot.spectrum for shot in contents.shots}
        assert len({shot.path for shot in beside}) == len(beside)
        assert {shot.identity for shot in beside} == contents.training
        for shot in beside:
            assert moments[shot.identity, shot.camera, shot.number] == shot.optics != shot.spectrum
