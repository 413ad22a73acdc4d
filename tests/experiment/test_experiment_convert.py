"""Conversion: what is written reads back equal; stopping, repeating, full disks and foreign folders lose nothing."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tiny_layouts import picture, write_folder, write_llcm, write_regdb
from visir.benchmarks import catalog
from visir.core.errors import ConfigError, DatasetError, StorageError
from visir.core.types import ImageTable
from visir.experiment import convert as module
from visir.experiment.convert import convert

WRITERS = {"regdb": write_regdb, "llcm": write_llcm, "folder": write_folder}


def assert_same(table: ImageTable, source: ImageTable) -> None:
    """All columns but the paths are equal, and so are the bytes of every image."""
    for name in ("identity", "camera", "modality", "exclude"):
        np.testing.assert_array_equal(getattr(table, name), getattr(source, name), err_msg=name)
    assert table.taken_at == source.taken_at
    assert table.track == source.track
    assert [table.file(i).read_bytes() for i in range(len(table))] == [
        source.file(i).read_bytes() for i in range(len(source))
    ]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def distinct(root: Path) -> Path:
    """Give every image its own bytes, so that a mix-up would show."""
    for number, path in enumerate(sorted(p for p in root.rglob("*") if p.suffix in (".bmp", ".jpg", ".png"))):
        path.write_bytes(path.read_bytes() + number.to_bytes(4))
    return root


@pytest.mark.parametrize("to", ["folder", "table", "parquet"])
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("split", ["test", "trainval"])
def test_round_trip(name: str, to: str, split: str, tmp_path: Path) -> None:
    root = distinct(WRITERS[name](tmp_path / "source"))
    before = snapshot(root)
    output = tmp_path / ("people.parquet" if to == "parquet" else "out")
    written = convert(root, output, to="table" if to == "parquet" else to, split=split)
    assert written == (output / "index.csv" if to == "table" else output)
    back, source = catalog.recognise(written), catalog.find(name)
    assert back.name == "folder"
    assert_same(back.read(written, split, 1), source.read(root, split, 1))  # type: ignore[arg-type]
    if split == "trainval":
        for part in ("train", "validation"):
            assert_same(back.read(written, part, 1), source.read(root, part, 1))  # type: ignore[arg-type]
    assert snapshot(root) == before


def test_whole_data_set_with_its_splits(tmp_path: Path) -> None:
    root = distinct(write_regdb(tmp_path / "RegDB"))
    output = convert(root, tmp_path / "out", split="all", draw=7)
    back, source = catalog.find("folder"), catalog.find("regdb")
    for split in ("train", "validation", "trainval", "test"):
        assert_same(back.read(output, split, 1), source.read(root, split, 7))  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", ["sysu", "regdb", "llcm"])
def test_twins_read_the_same_after_conversion(layout: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue(f"tiny_{layout}")
    output = convert(root, tmp_path / "out", split="all")
    source, back = catalog.recognise(root), catalog.recognise(output)
    for split in ("train", "validation", "trainval", "test"):
        assert_same(back.read(output, split, 1), source.read(root, split, 1))  # type: ignore[arg-type]


def test_a_set_without_splits_has_no_all(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no splits of its own.*convert 'test'"):
        convert(write_folder(tmp_path / "mine"), tmp_path / "out", split="all")
    assert not (tmp_path / "out").exists()


def test_times_tracks_cameras_and_exclusions_survive(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "index.csv").write_text(
        "path,identity,modality,camera,time,track,exclude\n"
        "a.png,zoe,ir,9,2024-05-31T08:15:00+02:00,t1,5\nb.png,zoe,visible,3,,,5\nc.png,ann,visible,3,,t9,\n"
    )
    source = catalog.find("folder").read(tmp_path / "in", "test", 1)
    for to in ("folder", "table"):
        back = catalog.find("folder").read(convert(tmp_path / "in", tmp_path / to, to=to), "test", 1)
        assert_same(back, source)
        assert back.row(0).taken_at == "2024-05-31T06:15:00Z"


def test_paths_of_a_table_inside_the_data_set_are_relative(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine")
    table = convert(root, root, to="table")
    assert table.read_text().splitlines()[1].startswith("visible/alice/0.png,0,1,visible,")
    shutil.move(root, tmp_path / "moved")
    assert len(catalog.find("folder").read(tmp_path / "moved", "test", 1)) == 16


def test_links_in_place_of_copies(tmp_path: Path) -> None:
    root = distinct(write_regdb(tmp_path / "RegDB"))
    output = convert(root, tmp_path / "out", link=True)
    table = catalog.find("folder").read(output, "test", 1)
    assert all(table.file(i).is_symlink() for i in range(len(table)))
    assert_same(table, catalog.find("regdb").read(root, "test", 1))


def test_again_changes_nothing(tmp_path: Path) -> None:
    root = write_regdb(tmp_path / "RegDB")
    output = convert(root, tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    assert convert(root, tmp_path / "out") == output
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == times
    table = convert(root, tmp_path / "t.csv", to="table")
    assert convert(root, tmp_path / "t.csv", to="table") == table


def test_foreign_content_is_never_overwritten(tmp_path: Path) -> None:
    root = write_regdb(tmp_path / "RegDB")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    (tmp_path / "t.csv").write_text("mine")
    (tmp_path / "t.parquet").write_text("mine")
    ours = convert(root, tmp_path / "ours")
    before = snapshot(tmp_path)
    with pytest.raises(DatasetError, match="holds something else"):
        convert(root, foreign)
    with pytest.raises(DatasetError, match="holds something else"):
        convert(root, ours, split="trainval")
    with pytest.raises(DatasetError, match="holds something else"):
        convert(root, root)
    with pytest.raises(DatasetError, match="lies inside the data set"):
        convert(root, root / "inner")
    with pytest.raises(DatasetError, match="expected a folder to write to, got a file"):
        convert(root, tmp_path / "file")
    for suffix in ("csv", "parquet"):
        with pytest.raises(DatasetError, match="exists already and is not overwritten"):
            convert(root, tmp_path / f"t.{suffix}", to="table")
    assert snapshot(tmp_path) == before


def test_full_disk_keeps_what_was_copied_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = distinct(write_regdb(tmp_path / "RegDB"))
    real, copied = shutil.copyfile, []

    def filling(source: Path, target: Path) -> None:
        if len(copied) == 5:
            Path(target).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copied.append(target)
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(module.shutil, "copyfile", filling)
        with pytest.raises(
            StorageError, match=r"could not be written \(No space left on device\); what was copied is kept"
        ):
            convert(root, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.part"))
    with pytest.raises(DatasetError, match="an unfinished conversion; run the same"):
        catalog.find("folder").read(tmp_path / "out", "test", 1)
    convert(root, tmp_path / "out")
    assert_same(catalog.find("folder").read(tmp_path / "out", "test", 1), catalog.find("regdb").read(root, "test", 1))


SLOW = """
import shutil, sys, time
from pathlib import Path
from visir.experiment import convert as module
real = shutil.copyfile
def slowly(source, target):
    content = Path(source).read_bytes()
    with open(target, "wb") as out:
        out.write(content[:30]); out.flush(); time.sleep(0.02); out.write(content[30:])
module.shutil.copyfile = slowly
print("ready", flush=True)
module.convert(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("images", [0, 1, 6])
def test_killed_in_the_middle(tmp_path: Path, images: int) -> None:
    root, output = distinct(write_regdb(tmp_path / "RegDB")), tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(root), str(output)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(output.rglob("*.bmp"))) < images:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    whole = {path.read_bytes() for path in root.rglob("*.bmp")}
    assert all(path.read_bytes() in whole for path in output.rglob("*.bmp")), "a half-written image has its final name"
    assert not (output / "index.csv").exists()
    convert(root, output)
    assert_same(catalog.find("folder").read(output, "test", 1), catalog.find("regdb").read(root, "test", 1))
    assert not list(output.rglob("*.part"))


def test_unknown_words(tmp_path: Path) -> None:
    root = write_regdb(tmp_path / "RegDB")
    with pytest.raises(ConfigError, match="Did you mean 'folder'"):
        convert(root, tmp_path / "out", to="foldr")
    with pytest.raises(ConfigError, match="Did you mean 'trainval'"):
        convert(root, tmp_path / "out", split="trainvall")
    with pytest.raises(DatasetError, match="no such folder"):
        convert(tmp_path / "absent", tmp_path / "out")
    assert not (tmp_path / "out").exists()
