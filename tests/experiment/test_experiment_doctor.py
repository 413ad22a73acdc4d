"""The doctor on whole and on broken data sets: each fault is named with its place and its repair."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tiny_layouts import encoded, picture, write_folder, write_llcm, write_regdb, write_regdb_matrix
from visir.benchmarks.base import Finding
from visir.core.errors import DatasetError
from visir.experiment.doctor import Count, Diagnosis, examine, format_diagnosis


def whole_regdb(root: Path) -> Path:
    """A tiny RegDB with the manifest of a twin, so that its counts are as expected."""
    write_regdb(root)
    counts = {"identities": 8, "visible": 16, "thermal": 16, "identities_test": 4, "split_lists": 40}
    (root / "visir-twin.json").write_text(json.dumps({"layout": "regdb", "counts": counts}))
    return root


def said(diagnosis: Diagnosis, severity: str = "error") -> list[str]:
    return [f"{f.what} {f.path}" for f in diagnosis.findings if f.severity == severity]


def huge_header() -> bytes:
    """A PNG that claims 50,000 x 50,000 pixels in under a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_whole_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = whole_regdb(tmp_path / "RegDB")
    diagnosis = examine(root)
    assert (diagnosis.benchmark, diagnosis.title, diagnosis.located) == ("regdb", "RegDB", root)
    assert diagnosis.findings == ()
    assert diagnosis.usable
    assert diagnosis.synthetic
    assert diagnosis.images_checked == 32
    assert Count("visible", 16, 16) in diagnosis.counts
    assert Count("train_thermal", 8, None) in diagnosis.counts
    text = format_diagnosis(diagnosis)
    assert text.startswith(f"{root}: a synthetic twin of RegDB\n")
    assert text.endswith("ready to use: nothing wrong, 32 images read.")
    assert "reading images: 32/32" in capsys.readouterr().err


def test_counts_differ_from_the_published_ones(tmp_path: Path) -> None:
    diagnosis = examine(write_regdb(tmp_path / "RegDB"), images=False)
    assert Count("identities", 8, 412) in diagnosis.counts
    assert "identities: expected 412, found 8. " in said(diagnosis, "warning")
    assert diagnosis.usable
    assert diagnosis.images_checked is None
    text = format_diagnosis(diagnosis)
    assert "identities                8        412  differs" in text
    assert text.endswith("images not looked at.")


def test_ten_things_broken(tmp_path: Path) -> None:
    root = whole_regdb(tmp_path / "RegDB")
    visible, thermal = root / "Visible", root / "Thermal"
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 128), (10, 200, 90)).save(jpeg, "JPEG")
    (visible / "1" / "male_v_00000_1.bmp").write_bytes(b"")
    (visible / "2" / "male_v_00000_2.bmp").write_bytes(encoded(".bmp")[:60])
    (visible / "3" / "extra.jpg").write_bytes(jpeg.getvalue()[:-200])
    (visible / "4" / "male_v_00000_4.bmp").write_bytes(huge_header())
    (visible / "5" / "male_v_00001_5.bmp").write_bytes(b"<html>not found</html>")
    (visible / "6" / "Thumbs.db").write_bytes(b"x")
    shutil.rmtree(thermal / "7")
    (root / "idx" / "test_visible_3.txt").unlink()
    (root / "idx" / "train_thermal_9.txt").write_bytes(b"Thermal/1/male_t_00000_1.bmp zero\n")
    picture(visible / "8" / "8" / "male_v_00000_8.bmp")
    picture(thermal / "male_t_00000_1.bmp")
    diagnosis = examine(root)
    errors = "\n".join(said(diagnosis))
    for expected in (
        "Visible/1/male_v_00000_1.bmp: expected an image, got an empty file",
        "Visible/2/male_v_00000_2.bmp: not a whole, readable image",
        "Visible/3/extra.jpg: not a whole, readable image",
        "Visible/4/male_v_00000_4.bmp: its header claims",
        "Visible/5/male_v_00001_5.bmp: not a whole, readable image",
        "Missing split lists: 1 of 40 (test_visible_3.txt).",
        "train_thermal_9.txt, line 1: expected a whole number as label, got 'zero'",
        "names Thermal/7/male_t_00000_7.bmp, which is not below",
        "8 in Visible holds folders.",
        "Images directly in Thermal: 1",
    ):
        assert expected in errors, expected
    warnings = "\n".join(said(diagnosis, "warning"))
    assert "Stray files among the images: 1 (Thumbs.db)" in warnings
    assert "thermal: expected 16, found 14." in warnings
    assert not diagnosis.usable
    severities = [finding.severity for finding in diagnosis.findings]
    assert severities == sorted(severities, key=("error", "warning", "note").index)
    assert all(
        finding.repair for finding in diagnosis.findings if "differs" not in finding.what and "line" not in finding.what
    )


@pytest.mark.parametrize("layout", ["sysu", "regdb", "llcm"])
def test_whole_twins_have_no_findings(layout: str, request: pytest.FixtureRequest) -> None:
    diagnosis = examine(request.getfixturevalue(f"tiny_{layout}"))
    assert diagnosis.findings == ()
    assert diagnosis.synthetic
    assert diagnosis.benchmark.startswith(layout)
    assert any(count.expected is not None for count in diagnosis.counts)


def test_ten_things_broken_in_a_twin_of_sysu(tiny_sysu: Path, tmp_path: Path) -> None:
    root = tmp_path / "SYSU-MM01"
    shutil.copytree(tiny_sysu, root)
    (root / "exp" / "val_id.txt").unlink()
    (root / "exp" / "val_id.mat").unlink()
    (root / "exp" / "train_id.txt").write_bytes(b"1, 2, three")
    (root / "exp" / "rand_perm_cam.mat").write_bytes(b"MATLAB 5.0")
    shutil.rmtree(root / "cam5")
    test_people = [f"{int(word):04d}" for word in (root / "exp" / "test_id.txt").read_text().split(",")]
    for camera in (3, 6):
        shutil.rmtree(root / f"cam{camera}" / test_people[0], ignore_errors=True)
    first, second, third = sorted((root / "cam4").rglob("*.jpg"))[:3]
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:300])
    third.write_bytes(huge_header())
    (first.parent / "Thumbs.db").write_bytes(b"x")
    picture(root / "cam1" / "loose.jpg")
    diagnosis = examine(root)
    everything = "\n".join(f"{f.what} {f.path}" for f in diagnosis.findings)
    for expected in (
        "val_id.txt: the split file is missing",
        "train_id.txt: expected integers parted by commas, got 'three'",
        "rand_perm_cam.mat: damaged",
        "cam5 is missing.",
        f"{first}: expected an image, got an empty file",
        f"{second}: not a whole, readable image",
        f"{third}: its header claims",
        "Stray files among the images: 1 (Thumbs.db). visir leaves them out, but published code draws",
        "Images directly in cam1: 1",
        "cam3: expected",
    ):
        assert expected in everything, expected
    assert not diagnosis.usable


def test_missing_lists_that_can_be_rebuilt_are_a_note(tmp_path: Path) -> None:
    root = whole_regdb(tmp_path / "RegDB")
    write_regdb_matrix(root / "RegDB_split.mat")
    (root / "idx" / "test_visible_3.txt").unlink()
    diagnosis = examine(root, images=False)
    assert diagnosis.usable
    (note,) = [finding for finding in diagnosis.findings if finding.severity == "note"]
    assert note.repair == "visir rebuilds them from RegDB_split.mat."


def test_one_modality_only(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine")
    shutil.rmtree(root / "infrared" / "bob")
    shutil.rmtree(root / "visible" / "dan")
    diagnosis = examine(root, images=False)
    assert diagnosis.usable
    assert said(diagnosis, "warning") == [
        "Identities with visible images only: 1 (1); as queries they match nothing. ",
        "Identities with infrared images only: 1 (3); as queries they match nothing. ",
    ]


@pytest.mark.parametrize("given", ["outer", "outer/inner"])
def test_nested_too_deep(tmp_path: Path, given: str) -> None:
    located = whole_regdb(tmp_path / "outer" / "inner" / "RegDB")
    diagnosis = examine(tmp_path / given, images=False)
    assert diagnosis.located == located
    (error,) = said(diagnosis)
    assert error.startswith(f"RegDB lies below the given folder, in {located}.")
    assert diagnosis.findings[0].repair == f"Give {located} as root."
    assert not diagnosis.usable


@pytest.mark.parametrize("given", ["Visible", "idx", "Thermal"])
def test_root_one_level_too_deep(tmp_path: Path, given: str) -> None:
    root = whole_regdb(tmp_path / "RegDB")
    diagnosis = examine(root / given, images=False)
    assert diagnosis.located == root
    assert said(diagnosis)[0].startswith("RegDB lies above the given folder")


@pytest.mark.parametrize("given", ["test_vis", "test_nir/cam4", "vis", "idx"])
def test_parts_of_llcm_are_not_taken_for_another_data_set(tmp_path: Path, given: str) -> None:
    root = write_llcm(tmp_path / "LLCM")
    diagnosis = examine(root / given, images=False)
    assert (diagnosis.benchmark, diagnosis.located) == ("llcm", root)


def test_part_of_a_plain_folder(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine")
    assert examine(root / "visible", images=False).located == root


def test_a_copy_inside_the_root(tmp_path: Path) -> None:
    root = whole_regdb(tmp_path / "RegDB")
    shutil.copytree(root, tmp_path / "copy")
    shutil.move(tmp_path / "copy", root / "RegDB")
    (error,) = said(examine(root, images=False))
    assert error.startswith("RegDB in the root looks like RegDB itself: it was unpacked one level too deep.")


def test_llcm_names_missing_cameras_lists_and_stray_files(tmp_path: Path) -> None:
    root = write_llcm(tmp_path / "LLCM")
    shutil.rmtree(root / "test_nir" / "cam6")
    (root / "idx" / "train_vis.txt").unlink()
    (root / "test_vis" / "cam1" / "0008" / ".DS_Store").write_bytes(b"x")
    diagnosis = examine(root, images=False)
    assert any("test_nir/cam6 is missing." in error for error in said(diagnosis))
    assert any("train_vis.txt: the split list is missing" in error for error in said(diagnosis))
    assert any("published code draws from the folder listing" in warning for warning in said(diagnosis, "warning"))
    assert Count("test_vis/cam1", 7, None) in diagnosis.counts
    assert Count("test_nir/cam6", 0, None) in diagnosis.counts
    assert Count("identities_train", None, 713) in diagnosis.counts


def test_table_file_with_images_elsewhere(tmp_path: Path) -> None:
    broken = tmp_path / "elsewhere" / "b.png"
    picture(tmp_path / "elsewhere" / "a.png")
    broken.write_bytes(b"")
    table = tmp_path / "people.csv"
    table.write_text("path,identity,modality\nelsewhere/a.png,1,visible\nelsewhere/b.png,1,ir\n")
    diagnosis = examine(table)
    assert diagnosis.images_checked == 2
    assert any(f"{broken}: expected an image, got an empty file" in error for error in said(diagnosis))


def test_a_table_of_one_split_can_be_used(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    (tmp_path / "index.csv").write_text("path,identity,modality,split\na.png,1,visible,test\nb.png,1,ir,test\n")
    diagnosis = examine(tmp_path)
    assert diagnosis.usable
    assert any("no image of the split 'trainval'" in warning for warning in said(diagnosis, "warning"))


def test_many_unreadable_images_are_summed_up(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine", images=30)
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    diagnosis = examine(root)
    errors = said(diagnosis)
    assert len(errors) == 51
    assert "Further images that cannot be read: 190." in errors[-1]


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_nothing_to_examine(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=name):
        examine(tmp_path / name)


def test_as_dict_is_json(tmp_path: Path) -> None:
    root = whole_regdb(tmp_path / "RegDB")
    (root / "Visible" / "1" / "Thumbs.db").write_bytes(b"x")
    content = json.loads(json.dumps(examine(root, images=False).as_dict()))
    assert content["benchmark"] == "regdb"
    assert content["usable"] is True
    assert content["counts"][0] == {"name": "identities", "found": 8, "expected": 8}
    assert [Finding(**finding).severity for finding in content["findings"]] == ["warning"]


def test_an_unfinished_twin_is_told(tmp_path: Path) -> None:
    root = whole_regdb(tmp_path / "RegDB")
    content = json.loads((root / "visir-twin.json").read_text())
    (root / "visir-twin.json").write_text(json.dumps(content | {"complete": False}))
    assert said(examine(root, images=False)) == ["This synthetic data set is unfinished: images may be missing. "]


def test_damaged_manifest_is_told(tmp_path: Path) -> None:
    root = whole_regdb(tmp_path / "RegDB")
    (root / "visir-twin.json").write_text("{")
    assert any("visir-twin.json: expected JSON" in warning for warning in said(examine(root, images=False), "warning"))
