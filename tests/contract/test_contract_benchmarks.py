"""What every file in ``benchmarks/`` keeps to; a new one is found by its presence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visir.benchmarks import catalog
from visir.core.errors import DatasetError, VisirError
from visir.core.types import ImageTable, Modality

NAMES = catalog.available()
TWINS = {"sysu_mm01": "tiny_sysu", "regdb": "tiny_regdb", "llcm": "tiny_llcm"}
each = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``visible`` and ``infrared`` with ten people of three pictures each."""
    root = tmp_path_factory.mktemp("folder")
    for place in range(60):
        modality, person, number = ("visible", "infrared")[place % 2], place // 6, place % 6
        path = root / modality / f"{person:02d}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 4, 3), place * 4, np.uint8)).save(path)
    return root


@pytest.fixture
def root(name: str, request: pytest.FixtureRequest) -> Path:
    """A small data set in the layout of the benchmark; read only."""
    if name not in TWINS and name != "folder":
        pytest.skip(f"{name}: the twin has no such layout")
    found = request.getfixturevalue(TWINS.get(name, "plain_folder"))
    assert isinstance(found, Path)
    return found


def rows_of(table: ImageTable) -> list[object]:
    return [table.row(i) for i in range(len(table))]


class TestWithoutData:
    @each
    def test_is_named_as_its_file(self, name: str) -> None:
        benchmark = catalog.find(name)
        assert benchmark.name == name
        assert benchmark.title
        assert benchmark.draws >= 1

    @each
    def test_every_protocol_has_its_own_id_and_a_note(self, name: str) -> None:
        benchmark = catalog.find(name)
        seen: set[str] = set()
        for draw in range(1, benchmark.draws + 1):
            protocols = benchmark.protocols(draw)
            assert protocols
            assert all(key == protocol.name and protocol.note for key, protocol in protocols.items())
            assert seen.isdisjoint(protocols), "two partitions give scores of one name"
            assert benchmark.validation(draw).name not in protocols
            seen |= set(protocols)

    @each
    def test_a_root_that_does_not_exist_is_named(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="nowhere"):
            catalog.find(name).read(tmp_path / "nowhere", "train", 1)

    @each
    def test_an_empty_folder_is_not_recognised_and_has_findings(self, name: str, tmp_path: Path) -> None:
        benchmark = catalog.find(name)
        assert not benchmark.recognise(tmp_path)
        assert any(finding.severity == "error" for finding in benchmark.inspect(tmp_path))

    @each
    def test_a_draw_or_split_that_does_not_exist_is_refused(self, name: str, tmp_path: Path) -> None:
        benchmark = catalog.find(name)
        for draw in (0, benchmark.draws + 1):
            with pytest.raises(VisirError, match="draw"):
                benchmark.read(tmp_path, "train", draw)
            with pytest.raises(VisirError, match="draw"):
                benchmark.protocols(draw)
        with pytest.raises(VisirError, match="unknown split 'tests'"):
            benchmark.read(tmp_path, "tests", 1)  # type: ignore[arg-type]


class TestWithData:
    @each
    def test_is_recognised_and_healthy(self, name: str, root: Path) -> None:
        assert catalog.recognise(root).name == name
        assert [finding for finding in catalog.find(name).inspect(root) if finding.severity == "error"] == []

    @each
    def test_reading_twice_gives_the_same_files_that_exist(self, name: str, root: Path) -> None:
        for split in ("train", "validation", "trainval", "test"):
            table = catalog.find(name).read(root, split, 1)
            assert rows_of(table) == rows_of(catalog.find(name).read(root, split, 1))
            assert len(set(table.paths)) == len(table) > 0
            assert all(table.file(i).is_file() for i in range(len(table)))

    @each
    def test_splits_part_the_identities(self, name: str, root: Path) -> None:
        benchmark = catalog.find(name)
        tables = {split: benchmark.read(root, split, 1) for split in ("train", "validation", "trainval", "test")}
        people = {split: set(table.identities().tolist()) for split, table in tables.items()}
        assert people["train"].isdisjoint(people["validation"])
        assert people["train"] | people["validation"] == people["trainval"]
        assert len(tables["train"]) + len(tables["validation"]) == len(tables["trainval"])
        if name != "folder":  # without a split column it is all test
            assert people["trainval"].isdisjoint(people["test"])
        for split in ("train", "validation"):
            seen = [set(tables[split].of(modality).identities().tolist()) for modality in Modality]
            assert len(seen[0] & seen[1]) >= 2, f"{split}: too few people in both spectra"

    @each
    def test_trials_cross_the_spectra_and_can_be_answered(self, name: str, root: Path) -> None:
        benchmark = catalog.find(name)
        test = benchmark.read(root, "test", 1)
        validation = benchmark.read(root, "validation", 1)
        asked = [(test, protocol) for protocol in benchmark.protocols(1).values()]
        for table, protocol in [*asked, (validation, benchmark.validation(1))]:
            trials, again = protocol.trials(table), protocol.trials(table)
            assert trials
            for trial, same in zip(trials, again, strict=True):
                assert np.array_equal(trial.query, same.query)
                assert np.array_equal(trial.gallery, same.gallery)
                query, gallery = table.take(trial.query), table.take(trial.gallery)
                assert len(set(trial.query.tolist())) == len(query) > 0
                assert len(set(trial.gallery.tolist())) == len(gallery) > 0
                assert set(query.modality.tolist()).isdisjoint(gallery.modality.tolist())
                hidden = protocol.hidden(query, gallery)
                assert hidden.shape == (len(query), len(gallery))
                assert hidden.dtype == np.bool_
                right = (query.identity[:, None] == gallery.identity[None, :]) & ~hidden
                assert right.any(axis=1).mean() > 0.25, f"{protocol.name}: most queries have no answer"

    @each
    def test_a_twin_is_counted_and_what_it_lost_is_found(self, name: str, root: Path, tmp_path: Path) -> None:
        if name not in TWINS:
            pytest.skip(f"{name}: the twin has no such layout")
        benchmark = catalog.find(name)
        planned = json.loads((root / "visir-twin.json").read_text())["counts"]
        counted = benchmark.count(root)
        assert {key: counted.get(key) for key in planned} == planned
        lost = tmp_path / "lost"
        shutil.copytree(root, lost)
        table = benchmark.read(lost, "test", 1)
        table.file(0).unlink()
        assert any("expected" in finding.what and "found" in finding.what for finding in benchmark.inspect(lost))
