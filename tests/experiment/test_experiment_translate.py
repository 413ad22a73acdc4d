"""Conversions on disk: every image, in its place, at its size; resumed after kill -9; refused where they do not fit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visir.benchmarks import catalog
from visir.core.errors import CheckpointError, ConfigError, DatasetError, EvaluationError, ImageError, StorageError
from visir.core.types import Modality
from visir.data.converted import converted_images
from visir.data.images import decode, prepare, resize
from visir.engine.encoders import load_encoder
from visir.evaluation.likeness import frechet_distance, mean_absolute_error, psnr, ssim
from visir.experiment import translate
from visir.experiment.config import build
from visir.experiment.folder import RunFolder
from visir.experiment.quality import form_and_colour, grey
from visir.experiment.train import train
from visir.experiment.translate import convert_images
from visir.twin import Size, write

SMALL = Size(3, 1, 3, ((2, 3),), 40, 20, 1)
TESTS = Path(__file__).parents[1]


def trained(run: Path, root: Path, name: str = "sysu_mm01", *, seed: int = 0, split: str = "train", **options) -> Path:
    content = {
        "benchmark": {"name": name, "root": str(root), "split": split},
        "method": "conversion_toys.tint",
        "with": options,
        "train": {"epochs": 1, "steps_per_epoch": 2, "workers": 0, "validate_every": 0},
        "seed": seed,
    }
    train(build(content), run, device="cpu")
    return run


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "twin"
    return write(root, layout="sysu_mm01", size=SMALL, counterparts=True, show_progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, twin: Path) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "tint", twin)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    """All training images of the twin, converted; read only."""
    return convert_images(run, tmp_path_factory.mktemp("made") / "all", device="cpu").folder


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_every_image_is_converted_in_its_place_at_its_size(whole: Path, run: Path, twin: Path) -> None:
    table = catalog.find("sysu_mm01").read(twin, "train", 1)
    assert set(pictures(whole)) == {path.replace(".jpg", ".png") for path in table.paths}
    found = converted_images(table, whole)
    assert found.modality.tolist() == (1 - table.modality).tolist()
    encoder = load_encoder(run)
    mean, std = (np.array(values, np.float32) for values in (encoder.preprocess.mean, encoder.preprocess.std))
    for i in range(0, len(table), 3):
        made = decode(found.file(i))
        assert made.shape == (40, 20, 3)
        assert (found.row(i).modality == Modality.VISIBLE) or (made == made[..., :1]).all()
        with torch.no_grad():
            expected = encoder.network(
                prepare([decode(table.file(i))], encoder.preprocess), torch.tensor(table.modality[i : i + 1])
            )
        shown = (expected[0].permute(1, 2, 0).numpy() * std + mean).clip(0, 1)
        assert np.abs(resize(np.rint(shown * 255).astype(np.uint8), 40, 20).astype(int) - made).max() <= 1
    assert not list(whole.rglob(".*"))


def test_the_folder_says_what_made_it(whole: Path, run: Path, twin: Path) -> None:
    table = catalog.find("sysu_mm01").read(twin, "train", 1)
    about = json.loads((whole / "conversion.json").read_text())
    counted = table.summary()
    assert about["converter"] == load_encoder(run).fingerprint
    assert about["experiment"] == RunFolder(run).read_experiment().digest()
    assert about["images"] == {"ir2v": counted["infrared"], "v2ir": counted["visible"]}
    keys = ("method", "benchmark", "split", "draw", "direction", "size", "complete")
    assert [about[key] for key in keys] == ["conversion_toys.tint", "sysu_mm01", "train", 1, "both", [32, 16], True]


def test_quality_is_that_of_each_picture_against_its_truth(whole: Path, run: Path, twin: Path) -> None:
    table = catalog.find("sysu_mm01").read(twin, "train", 1)
    quality = convert_images(run, whole, device="cpu", workers=0).quality
    made, truth = converted_images(table, whole), converted_images(table, twin / "counterparts")
    assert json.loads((whole / "quality.json").read_text())["likeness"]["ir2v"]["converted"]["pictures"] > 10
    for way, modality in (("ir2v", Modality.INFRARED), ("v2ir", Modality.VISIBLE)):
        rows = np.flatnonzero(table.modality == modality).tolist()
        true = [decode(truth.file(i)) for i in rows]
        for name, own in (
            ("converted", [decode(made.file(i)) for i in rows]),
            ("unconverted", [grey(decode(table.file(i))) for i in rows]),
        ):
            found = quality[way][name]
            assert found.pictures == len(rows)
            for measure, value in ((psnr, found.psnr), (ssim, found.ssim), (mean_absolute_error, found.mae)):
                assert value == pytest.approx(
                    np.mean([measure(*pair) for pair in zip(own, true, strict=True)]), abs=1e-5
                )
            distance = frechet_distance(form_and_colour(own), form_and_colour(true))
            assert found.form_colour == pytest.approx(distance, rel=1e-6)


def test_quality_is_computed_once_for_one_truth(
    whole: Path, run: Path, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = convert_images(run, whole, device="cpu").quality
    monkeypatch.setattr(translate, "judge", lambda *_, **__: pytest.fail("judged again"))
    assert convert_images(run, whole, device="cpu").quality == before
    monkeypatch.undo()
    itself = convert_images(run, whole, device="cpu", truth=whole).quality
    assert itself["ir2v"]["converted"].psnr == float("inf")
    assert itself["ir2v"]["converted"].form_colour == pytest.approx(0, abs=1e-6)
    assert json.loads((whole / "quality.json").read_text())["likeness"]["v2ir"]["converted"]["psnr"] is None
    assert convert_images(run, whole, device="cpu", truth=whole).quality == itself
    other = twin / "counterparts"
    assert convert_images(run, whole, device="cpu", truth=other).quality == before
    shutil.copytree(other, tmp_path / "truth")
    lost = catalog.find("sysu_mm01").read(twin, "train", 1).paths[2]
    assert lost.startswith("cam1/")
    (tmp_path / "truth" / lost).unlink()
    with pytest.raises(DatasetError, match=f"1 are missing, the first is that of {lost}"):
        convert_images(run, whole, device="cpu", truth=tmp_path / "truth")
    one = convert_images(run, tmp_path / "one", direction="ir2v", device="cpu", truth=tmp_path / "truth")
    assert one.quality == {"ir2v": before["ir2v"]}


def test_lost_and_empty_pictures_come_back_with_the_same_bytes(whole: Path, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(whole, folder)
    lost = sorted(folder.rglob("*.png"))[3:40:7]
    lost[0].write_bytes(b"")
    for path in lost[1:]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png") if path not in lost}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translate, "_place", lambda *_: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            convert_images(run, folder, device="cpu")
    assert not json.loads((folder / "conversion.json").read_text())["complete"]
    assert convert_images(run, folder, device="cpu").about["complete"]
    assert pictures(folder) == pictures(whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize("direction", ["ir2v", "v2ir"])
def test_one_direction_writes_the_same_pictures_and_only_those(
    whole: Path, run: Path, tmp_path: Path, direction: str
) -> None:
    done = convert_images(run, tmp_path / "one", direction=direction, device="cpu", workers=0)
    cameras = (3, 6) if direction == "ir2v" else (1, 2, 4, 5)
    names = tuple(f"cam{camera}/" for camera in cameras)
    assert pictures(done.folder) == {name: own for name, own in pictures(whole).items() if name.startswith(names)}
    assert list(done.about["images"]) == list(done.quality) == [direction]
    with pytest.raises(DatasetError, match="holds conversions of another direction and images"):
        convert_images(run, done.folder, device="cpu")


RUN = """
import sys
from pathlib import Path
from visir.experiment.translate import convert_images
print("go", flush=True)
convert_images(Path(sys.argv[1]), Path(sys.argv[2]), device="cpu", batch=4, workers=2)
"""


def test_a_killed_conversion_is_taken_up_again_and_ends_in_the_same_bytes(twin: Path, tmp_path: Path) -> None:
    slow = trained(tmp_path / "slow", twin, pause=0.05)
    expected = convert_images(slow, tmp_path / "whole", device="cpu", batch=4)
    total, folder = len(pictures(expected.folder)), tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(slow), str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    while process.poll() is None and len(list(folder.rglob("*.png"))) < total / 2:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert not json.loads((folder / "conversion.json").read_text())["complete"]
    found = pictures(folder)
    assert 0 < len(found) < total
    assert all(pictures(expected.folder)[name] == content for name, content in found.items())
    kept = {folder / name: (folder / name).stat().st_mtime_ns for name in found}
    convert_images(slow, folder, device="cpu", batch=4)
    assert pictures(folder) == pictures(expected.folder)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert json.loads((folder / "conversion.json").read_text())["complete"]


def test_pictures_of_any_size_and_suffix_keep_their_size(tmp_path: Path) -> None:
    rng, root = np.random.default_rng(0), tmp_path / "mine"
    sizes = {}
    for top in ("visible", "infrared"):
        for person in range(6):
            for number, suffix in enumerate((".png", ".JPG", ".bmp")):
                path = root / top / f"p{person}" / f"{number}.b{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                size = (int(rng.integers(12, 50)), int(rng.integers(12, 30)))
                Image.fromarray(rng.integers(0, 255, (*size, 3)).astype(np.uint8)).save(path)
                sizes[f"{top}/p{person}/{number}.b.png"] = size
    run = trained(tmp_path / "run", root, "folder", split="trainval")
    done = convert_images(run, tmp_path / "made", device="cpu", workers=3)
    assert {name: decode(done.folder / name).shape[:2] for name in pictures(done.folder)} == sizes
    assert done.quality == {}
    assert not (done.folder / "quality.json").exists()
    converted_images(catalog.find("folder").read(root, "trainval", 1), done.folder)
    truth = tmp_path / "truth"
    shutil.copytree(root, truth)
    assert convert_images(run, done.folder, device="cpu", truth=truth).quality["v2ir"]["unconverted"].pictures == 18
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(next(truth.rglob("*.bmp")))
    with pytest.raises(EvaluationError, match="of the size of its original"):
        convert_images(run, done.folder, device="cpu", truth=truth)
    shutil.copy(root / "visible" / "p1" / "0.b.png", root / "visible" / "p1" / "0.b.bmp")
    with pytest.raises(DatasetError, match="two images are called visible/p1/0.b,"):
        convert_images(run, tmp_path / "other", device="cpu")


def test_images_outside_of_the_root_are_refused(twin: Path, tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    rows = [
        f"{path},{n // 2},{kind}"
        for kind, camera in (("visible", 1), ("infrared", 3))
        for n, path in enumerate(sorted((twin / f"cam{camera}").rglob("*.jpg"))[:8])
    ]
    (tmp_path / "table" / "index.csv").write_text("\n".join(["path,identity,modality", *rows]) + "\n")
    run = trained(tmp_path / "run", tmp_path / "table", "folder", split="trainval")
    with pytest.raises(DatasetError, match="lies outside of it"):
        convert_images(run, tmp_path / "made", device="cpu")
    assert not (tmp_path / "made").exists()
    own = tmp_path / "table" / "index.csv"  # the table itself as root: its folder is the data set
    with pytest.raises(ConfigError, match="lies inside the data set"):
        convert_images(run, tmp_path / "table" / "made", root=own, device="cpu")


def test_other_converters_splits_and_files_are_not_touched(whole: Path, run: Path, twin: Path, tmp_path: Path) -> None:
    before = pictures(whole)
    other = trained(tmp_path / "other", twin, seed=1)
    with pytest.raises(DatasetError, match="holds conversions of another converter"):
        convert_images(other, whole, device="cpu")
    with pytest.raises(DatasetError, match="of another split"):
        convert_images(run, whole, split="trainval", device="cpu")
    assert pictures(whole) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(DatasetError, match="holds files that are no conversion's"):
        convert_images(run, tmp_path / "mine", device="cpu")
    (tmp_path / "mine" / "conversion.json").write_text("{")
    with pytest.raises(DatasetError, match="damaged"):
        convert_images(run, tmp_path / "mine", device="cpu")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["conversion.json", "letter.txt"]
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / ".conversion.json.x.tmp").touch()  # killed while claiming it
    assert convert_images(run, tmp_path / "begun", direction="ir2v", device="cpu").about["complete"]


def test_wrong_places_and_words(run: Path, twin: Path, tiny_run_of_dfe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="expected the run of a method that converts images, got one of 'dfe'"):
        convert_images(tiny_run_of_dfe, out)
    with pytest.raises(ConfigError, match="expected a run folder"):
        convert_images(tmp_path / "none", out)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="got a file"):
        convert_images(run, tmp_path / "file")
    for inside in (twin, twin / "converted", tmp_path / "link" / "converted"):
        if inside.parent.name == "link":
            inside.parent.symlink_to(twin)
        with pytest.raises(ConfigError, match="lies inside the data set"):
            convert_images(run, inside)
    with pytest.raises(ConfigError, match="Did you mean 'ir2v'"):
        convert_images(run, out, direction="ir2vis")
    with pytest.raises(ConfigError, match="split: expected one of"):
        convert_images(run, out, split="val")
    with pytest.raises(ConfigError, match="device"):
        convert_images(run, out / "device", device="gpu")
    with pytest.raises(DatasetError, match="cam1"):
        convert_images(run, out, root=tmp_path / "none")
    with pytest.raises(DatasetError, match="expected the true picture of each of"):
        convert_images(run, out, truth=tmp_path / "none")
    assert not out.exists()
    shutil.copytree(run, tmp_path / "untrained", ignore=shutil.ignore_patterns("encoder", "checkpoints"))
    with pytest.raises(CheckpointError, match="found neither"):
        convert_images(tmp_path / "untrained", out)
    assert not out.exists()


@pytest.fixture(scope="module")
def tiny_run_of_dfe(tmp_path_factory: pytest.TempPathFactory, twin: Path) -> Path:
    """A run folder of an embedding method; it need not be trained."""
    folder = RunFolder(tmp_path_factory.mktemp("dfe") / "run")
    folder.write_experiment(build({"benchmark": {"name": "sysu_mm01", "root": str(twin)}, "method": "dfe"}))
    return folder.path


def test_a_training_that_has_not_ended_converts_with_its_newest_checkpoint(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("encoder"))
    done = convert_images(tmp_path / "run", tmp_path / "made", direction="ir2v", device="cpu")
    assert done.about["converter"] == load_encoder(run).fingerprint
    assert "the training has not ended" in capsys.readouterr().err


def test_held_out_people_have_a_truth_and_test_people_have_none(run: Path, twin: Path, tmp_path: Path) -> None:
    assert convert_images(run, tmp_path / "held-out", split="validation", device="cpu").quality
    assert convert_images(run, tmp_path / "test", split="test", device="cpu").quality == {}


def test_networks_that_break_their_promise_are_named(
    run: Path, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halved = trained(tmp_path / "halved", twin, halved=True)
    with pytest.raises(CheckpointError, match=r"pictures of the shape of its input, \(\d+, 3, 32, 16\), it gave"):
        convert_images(halved, tmp_path / "small", device="cpu")
    spoilt = load_encoder(run)
    with torch.no_grad():
        spoilt.network.to_visible.bias.fill_(float("nan"))  # type: ignore[union-attr]
    monkeypatch.setattr(translate, "load_encoder", lambda _: spoilt)
    with pytest.raises(EvaluationError, match=r"cam3/.*NaN"):
        convert_images(run, tmp_path / "made", device="cpu")
    for folder in ("small", "made"):
        assert not json.loads((tmp_path / folder / "conversion.json").read_text())["complete"]
        assert not pictures(tmp_path / folder)


def test_a_full_disk_speaks_up_and_the_same_command_goes_on(
    whole: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = Path.write_bytes, []

    def full_after_five(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) > 5:
            raise OSError(28, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full_after_five)
    with pytest.raises(StorageError, match="No space left"):
        convert_images(run, tmp_path / "made", device="cpu")
    monkeypatch.undo()
    assert len(pictures(tmp_path / "made")) == 5
    assert not list((tmp_path / "made").rglob("*.part"))
    assert pictures(convert_images(run, tmp_path / "made", device="cpu").folder) == pictures(whole)


def test_damaged_originals_are_named(run: Path, twin: Path, tmp_path: Path) -> None:
    shutil.copytree(twin, tmp_path / "twin")
    table = catalog.find("sysu_mm01").read(tmp_path / "twin", "train", 1)
    table.file(9).write_bytes(b"half")
    with pytest.raises(ImageError, match=Path(table.paths[9]).name):
        convert_images(run, tmp_path / "made", root=tmp_path / "twin", device="cpu")


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_few_pictures_are_in_memory_at_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    decoded, placed, most = [], [], [0]
    read, put = translate.decode, translate._place

    def counted(path: Path) -> np.ndarray:
        decoded.append(path)
        most[0] = max(most[0], len(decoded) - len(placed))
        return read(path)

    def slowly(path: Path, content: bytes) -> None:
        time.sleep(0.002)
        put(path, content)
        placed.append(path)

    monkeypatch.setattr(translate, "decode", counted)
    monkeypatch.setattr(translate, "_place", slowly)
    convert_images(run, tmp_path / "made", device="cpu", batch=2, workers=workers)
    assert most[0] <= 2 * (4 * workers + 2)
