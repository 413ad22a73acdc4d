"""Benchmarks are found by their files, and data sets by their folders, also when parts are missing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from tiny_layouts import write_folder, write_llcm, write_regdb
from visir.benchmarks import catalog
from visir.benchmarks.manifest import FILE, differences, read_manifest
from visir.core.errors import ConfigError, DatasetError
from visir.evaluation.protocol import Protocol

WRITERS = {"regdb": write_regdb, "llcm": write_llcm, "folder": write_folder}


@pytest.mark.parametrize("name", catalog.available())
def test_every_benchmark_keeps_the_contract(name: str) -> None:
    benchmark = catalog.find(name)
    assert benchmark.name == name
    assert benchmark.draws >= 1
    protocols = [p for draw in range(1, benchmark.draws + 1) for p in benchmark.protocols(draw).items()]
    assert len({key for key, _ in protocols}) == len(protocols), "protocol ids of different draws must differ"
    for key, protocol in protocols:
        assert isinstance(protocol, Protocol)
        assert key == protocol.name
        assert protocol.note
    assert isinstance(benchmark.validation(1), Protocol)
    with pytest.raises(dataclasses.FrozenInstanceError):
        benchmark.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", catalog.available())
def test_no_benchmark_fails_with_a_traceback_on_an_empty_or_missing_root(name: str, tmp_path: Path) -> None:
    benchmark = catalog.find(name)
    for root in (tmp_path, tmp_path / "missing"):
        assert not benchmark.recognise(root)
        assert any(finding.severity == "error" for finding in benchmark.inspect(root))
        assert isinstance(dict(benchmark.count(root)), dict)
        for split in ("train", "validation", "trainval", "test"):
            with pytest.raises(DatasetError, match=tmp_path.name):
                benchmark.read(root, split, 1)  # type: ignore[arg-type]


def test_names() -> None:
    assert {"folder", "llcm", "regdb", "sysu_mm01"} <= set(catalog.available())
    with pytest.raises(ConfigError, match="Did you mean 'regdb'"):
        catalog.find("regbd")


@pytest.mark.parametrize("name", WRITERS)
def test_layouts_are_told_apart(name: str, tmp_path: Path) -> None:
    root = WRITERS[name](tmp_path / "cam1" / "set")
    assert catalog.recognise(root).name == name
    others = [other for other in catalog.available() if other != name and catalog.find(other).recognise(root)]
    assert others == []


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("regdb", ["Visible"]),
        ("regdb", ["Thermal", "idx"]),
        ("regdb", ["Visible", "Thermal"]),
        ("llcm", ["idx", "vis"]),
        ("llcm", ["test_vis", "test_nir", "vis"]),
        ("llcm", ["test_vis", "test_nir", "idx"]),
        ("folder", ["infrared"]),
        ("folder", ["visible"]),
    ],
)
def test_a_data_set_is_recognised_when_parts_are_missing(name: str, gone: list[str], tmp_path: Path) -> None:
    root = WRITERS[name](tmp_path / "set")
    for part in gone:
        shutil.rmtree(root / part)
    assert catalog.recognise(root).name == name


def test_table_files_are_data_sets(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("path,identity,modality\n")
    assert catalog.recognise(tmp_path / "people.csv").name == "folder"


def test_unknown_folders_tell_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(DatasetError, match=r"like none of .*; it holds holiday"):
        catalog.recognise(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        catalog.recognise(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DatasetError, match=r"notes\.txt: like none of"):
        catalog.recognise(tmp_path / "notes.txt")


def test_counts_are_compared_with_the_manifest_where_there_is_one(tmp_path: Path) -> None:
    found = {"identities": 8, "visible images": 15, "weather": 3}
    published = {"identities": 412, "visible images": 4120}
    assert read_manifest(tmp_path) is None
    assert [f.what for f in differences(tmp_path, found, published)] == [
        "identities: expected 412, found 8.",
        "visible images: expected 4,120, found 15.",
    ]
    (tmp_path / FILE).write_text(json.dumps({"layout": "regdb", "counts": {"identities": 8, "visible images": 16}}))
    assert [f.what for f in differences(tmp_path, found, published)] == ["visible images: expected 16, found 15."]
    for damaged in ("{", "[]", '{"layout": "regdb"}', '{"layout": "regdb", "counts": {"a": "many"}}', '{"counts": 3}'):
        (tmp_path / FILE).write_text(damaged)
        with pytest.raises(DatasetError, match=r"visir-twin\.json: expected JSON"):
            read_manifest(tmp_path)
        assert [f.severity for f in differences(tmp_path, found, published)] == ["warning"]
