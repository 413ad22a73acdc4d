"""The LanceDB store: what is refused, what is damaged and what is missing, in one sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filled_gallery import fill

from visir.core.errors import GalleryError, StorageError
from visir.core.types import FloatArray
from visir.gallery import lance_table
from visir.gallery.lance_store import LanceStore
from visir.gallery.store import Newcomer, Settings, create_store, open_store

NewcomerOf = Callable[..., Newcomer]
VectorsOf = Callable[..., FloatArray]
Traces = Callable[[Path, bytes], list[str]]


def test_importing_the_gallery_does_not_import_lancedb() -> None:
    code = "import sys, visir.gallery.service, visir.gallery.store; print('lancedb' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == "False\n"


def test_a_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(GalleryError, match=r'pip install "visir\[search\]"'):
        open_store(tmp_path)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://localhost:19530", "need the Milvus adapter"),
        ("https://example.org", "need the Milvus adapter"),
        ("s3://bucket/gallery", "address of kind 's3'"),
    ],
)
def test_addresses_of_other_kinds(uri: str, said: str, settings: Settings) -> None:
    with pytest.raises(GalleryError, match=said):
        open_store(uri)
    with pytest.raises(GalleryError, match=said):
        create_store(uri, settings)


def test_opening_what_is_no_gallery(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="no such gallery"):
        open_store(tmp_path / "absent")
    with pytest.raises(GalleryError, match="is not a gallery"):
        open_store(tmp_path)
    (tmp_path / "entries.lance").mkdir()
    with pytest.raises(GalleryError, match="making was cut short"):
        open_store(tmp_path)
    (tmp_path / "entries.lance" / "data").mkdir()
    (tmp_path / "entries.lance" / "data" / "rows.lance").write_bytes(b"rows")
    with pytest.raises(GalleryError, match="opening the gallery failed"):
        open_store(tmp_path)


def test_creating_refuses_what_is_in_use(tmp_path: Path, settings: Settings, store: LanceStore) -> None:
    with pytest.raises(GalleryError, match="is a gallery already"):
        create_store(store.uri, settings)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("mine")
    with pytest.raises(GalleryError, match=r"holds 'thesis\.tex'"):
        create_store(tmp_path / "foreign", settings)
    assert [p.name for p in (tmp_path / "foreign").iterdir()] == ["thesis.tex"]
    with pytest.raises(GalleryError, match="is a file"):
        create_store(tmp_path / "foreign" / "thesis.tex", settings)
    (tmp_path / "empty").mkdir()
    assert create_store(f"file://{tmp_path / 'empty'}", settings).count() == 0


def test_a_newer_format_asks_for_an_upgrade(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        later.setattr(lance_table, "FORMAT", 2)
        LanceStore.create(tmp_path / "later", settings)
    with pytest.raises(GalleryError, match="made by a newer visir .* upgrade visir"):
        open_store(tmp_path / "later")


def test_a_table_of_somebody_else(tmp_path: Path) -> None:
    lance_table.lancedb().connect(tmp_path).create_table("entries", [{"vector": [1.0, 2.0]}])
    with pytest.raises(GalleryError, match="was not made by visir"):
        open_store(tmp_path)


@pytest.mark.parametrize("damage", ["lose", "truncate", "scramble"])
@pytest.mark.parametrize("part", ["data", "_versions"])
def test_damaged_files_are_one_sentence(
    store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf, part: str, damage: str
) -> None:
    fill(store, vectors(40), newcomer)
    folder = Path(store.uri)
    for file in [p for p in (folder / "entries.lance" / part).rglob("*") if p.is_file()]:
        content = file.read_bytes()
        if damage == "lose":
            file.unlink()
        else:
            half = len(content) // 2
            file.write_bytes(content[:half] if damage == "truncate" else content[:half] + bytes(len(content) - half))
    with pytest.raises(GalleryError) as caught:
        LanceStore.open(folder).search(vectors(1), 5)
    assert "damaged" in str(caught.value) or "is not a gallery" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_single_damaged_file_speaks_up_or_does_no_harm(
    tmp_path: Path, store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf
) -> None:
    fill(store, vectors(40), newcomer)
    expected = store.search(vectors(2), 5)
    folder = Path(store.uri)
    files = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    for number, name in enumerate(files):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(folder, copy)
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[: len(content) // 2])
        try:
            found = LanceStore.open(copy).search(vectors(2), 5)
        except GalleryError:  # a sentence; any other error fails the test
            continue
        assert found == expected, name


def test_a_lost_key_file_stops_adding_not_searching(
    store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf
) -> None:
    fill(store, vectors(4), newcomer)
    counter = Path(store.uri) / "keys.json"
    counter.unlink()
    assert store.search(vectors(1), 1)[0][0].key == 0
    with pytest.raises(GalleryError, match=r"keys\.json is missing or damaged"):
        fill(store, vectors(1, seed=5), newcomer, 50)
    assert store.count() == 4
    counter.write_text(json.dumps({"next": 100}))
    assert fill(store, vectors(1, seed=5), newcomer, 50) == [100]


def test_a_folder_that_cannot_be_written(store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf) -> None:
    lock = Path(store.uri) / "writer.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        fill(store, vectors(1), newcomer)


def test_waiting_for_another_writer_has_an_end(store: LanceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from visir.gallery import folder

    again = folder.locked(Path(store.uri) / "writer.lock", patience=0.05)
    with store.folder.writing(), pytest.raises(GalleryError, match="another process has been writing"), again:
        pytest.fail("the lock was given twice")


@pytest.mark.parametrize("k", [0, -1, 2.0])
def test_k_below_one(store: LanceStore, vectors: VectorsOf, k: Any) -> None:
    with pytest.raises(GalleryError, match="k: expected a whole number of at least 1"):
        store.search(vectors(1), k)


def test_bad_vectors_are_refused_before_anything_is_written(
    store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf
) -> None:
    version = store.version()
    not_a_number = vectors(2)
    not_a_number[1, 3] = np.nan
    for bad, said in (
        (not_a_number, "expected finite values"),
        (vectors(2) * 2, "expected vectors of unit length"),
        (vectors(2) * 0, "expected vectors of unit length"),
        (vectors(2, dim=8), r"expected vectors of shape \(n, 24\), got \(2, 8\)"),
        (vectors(3), "as many entries as vectors"),
    ):
        with pytest.raises(GalleryError, match=said):
            store.add(bad, [newcomer(0), newcomer(1)], by="tester")
    with pytest.raises(GalleryError, match="searching: expected finite values"):
        store.search(not_a_number, 3)
    assert store.version() == version
    assert store.search(vectors(2), 3) == [[], []]


def test_an_unknown_scan_is_named(store: LanceStore) -> None:
    with pytest.raises(GalleryError, match="scan: expected one of float32, bfloat16"):
        open_store(store.uri, scan="int8")  # type: ignore[arg-type]
