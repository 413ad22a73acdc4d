"""The LanceDB store: what is added stays, what is removed leaves no trace, several processes, damaged files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from visir.core.errors import GalleryError, StorageError
from visir.core.types import FloatArray, Modality
from visir.gallery import lance_store, lance_table, resident
from visir.gallery.entry import Entry, Filter
from visir.gallery.lance_store import LanceStore
from visir.gallery.store import Newcomer, Settings, VectorStore, check_vectors, create_store, open_store

NewcomerOf = Callable[..., Newcomer]
VectorsOf = Callable[..., FloatArray]
Traces = Callable[[Path, bytes], list[str]]


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> LanceStore:
    return LanceStore.create(tmp_path / "gallery", settings)


def fill(store: VectorStore, vectors: FloatArray, newcomer: NewcomerOf, first: int = 0) -> list[int]:
    added = store.add(vectors, [newcomer(first + n) for n in range(len(vectors))], by="tester")
    assert added.new.all()
    return [int(key) for key in added.keys]


def test_what_was_added_is_there_after_opening_again(
    store: LanceStore, settings: Settings, newcomer: NewcomerOf, vectors: VectorsOf
) -> None:
    assert fill(store, vectors(30), newcomer) == list(range(30))
    again = open_store(store.uri)
    assert again.settings == settings
    assert again.count() == 30
    found = list(again.select())
    assert [one.entry for one in found] == [newcomer(n).entry for n in range(30)]
    assert {one.enrolled_by for one in found} == {"tester"}
    assert again.thumbnail(7) == newcomer(7).thumbnail
    assert again.thumbnail(99) is None
    assert again.search(vectors(30)[7:8], 1)[0][0].key == 7


def test_thumbnails_are_kept_only_where_asked_for(tmp_path: Path, newcomer: NewcomerOf, vectors: VectorsOf) -> None:
    plain = LanceStore.create(tmp_path / "plain", Settings("f", 24))
    fill(plain, vectors(3), newcomer)
    assert plain.thumbnail(1) is None


def test_a_search_sees_every_write(store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf) -> None:
    rows = vectors(90)
    other = LanceStore.open(Path(store.uri))
    for start in range(0, 90, 30):
        fill(other, rows[start : start + 30], newcomer, start)
        assert store.search(rows[start : start + 1], 1)[0][0].key == start
    assert len(store._segments) == 3  # only what was added was read
    other.remove([60])
    assert store.search(rows[60:61], 1)[0][0].key != 60
    assert sum(len(segment) for segment in store._segments) == 89


def test_many_small_additions_are_merged(
    store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance_store, "FILES", 4)
    monkeypatch.setattr(lance_store, "MANY_FILES", 8)
    monkeypatch.setattr(lance_store, "SEGMENTS", 4)
    rows = vectors(40)
    for n in range(40):
        fill(store, rows[n : n + 1], newcomer, n)
        assert store.search(rows[n : n + 1], 1)[0][0].key == n
        assert len(store._segments) <= 4
    with store._newest("testing") as table:
        assert table.stats()["fragment_stats"]["num_fragments"] <= 8


def test_the_same_pixels_are_stored_once(store: LanceStore, vectors: VectorsOf) -> None:
    def one(digest: str, modality: Modality = Modality.VISIBLE) -> Newcomer:
        return Newcomer(Entry("a.jpg", modality), digest)

    added = store.add(vectors(4), [one("a"), one("b"), one("a"), one("a", Modality.INFRARED)], by="tester")
    assert added.keys.tolist() == [0, 1, 0, 2]
    assert added.new.tolist() == [True, True, False, True]
    again = LanceStore.open(Path(store.uri)).add(vectors(2), [one("b"), one("c")], by="tester")
    assert again.keys.tolist() == [1, 3]
    assert again.new.tolist() == [False, True]
    store.remove([1])
    assert store.add(vectors(1), [one("b")], by="tester").keys.tolist() == [4]


def test_keys_never_come_back(store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf) -> None:
    fill(store, vectors(5), newcomer)
    assert store.remove(range(5)) == 5
    assert store.count() == 0
    assert fill(LanceStore.open(Path(store.uri)), vectors(2), newcomer) == [5, 6]


def test_removing_what_is_not_there_changes_nothing(
    store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf
) -> None:
    fill(store, vectors(5), newcomer)
    version = store.version()
    assert store.remove([77]) == 0
    assert store.version() == version


def secrets(one: Newcomer, vector: FloatArray) -> list[bytes]:
    assert one.thumbnail is not None
    return [vector.tobytes(), one.thumbnail, one.entry.source.encode(), one.digest.encode()]


@pytest.mark.parametrize("batches", [1, 5])
def test_a_removal_leaves_no_trace_on_disk(
    store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf, traces: Traces, batches: int
) -> None:
    """One of 200 rows: LanceDB by itself keeps such a row's bytes for ever."""
    rows, folder = vectors(200), Path(store.uri)
    stored = check_vectors(rows, store.settings.dim, what="test")
    for part in np.array_split(np.arange(200), batches):
        fill(store, rows[part], newcomer, int(part[0]))
    for secret in secrets(newcomer(123), stored[123]):
        assert traces(folder, secret), "the test must be able to see what it looks for"
    assert store.remove([123]) == 1
    for secret in secrets(newcomer(123), stored[123]):
        assert traces(folder, secret) == []
    assert store.count() == 199
    kept = secrets(newcomer(122), stored[122])
    assert all(traces(folder, secret) for secret in kept)
    assert [one.key for one in store.select()] == [key for key in range(200) if key != 123]


@pytest.mark.parametrize("where", ["delete", "update", "optimize"])
def test_a_removal_cut_short_is_finished_at_the_next_opening(
    store: LanceStore,
    newcomer: NewcomerOf,
    vectors: VectorsOf,
    traces: Traces,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, folder = vectors(50), Path(store.uri)
    fill(store, rows, newcomer)
    stored = check_vectors(rows, store.settings.dim, what="test")
    with store._newest("testing") as table:
        kind = type(table)

    def no_space(*args: Any, **kwargs: Any) -> None:
        raise OSError("LanceError(IO): No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(kind, where, no_space)
        with pytest.raises(StorageError, match="removing failed"):
            store.remove([13])
    assert traces(folder, stored[13].tobytes())
    again = LanceStore.open(folder)
    assert again.count() == 49
    for secret in secrets(newcomer(13), stored[13]):
        assert traces(folder, secret) == []
    assert not (folder / "removal.json").exists()


TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=8)
TIMES = st.datetimes().map(lambda when: when.isoformat())


@given(
    names=st.lists(TEXTS, min_size=1, max_size=3),
    since=TIMES,
    camera=st.integers(0, 2**63 - 1),
    infrared=st.booleans(),
)
@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sql_and_masks_agree(
    store: LanceStore, vectors: VectorsOf, names: list[str], since: str, camera: int, infrared: bool
) -> None:
    """Names with quotes, percent signs and worse, the edges of numbers and times."""
    held = store.count()
    entries = [Entry(names[0], Modality.VISIBLE, camera=camera, identity=name, taken_at=since) for name in names]
    entries += [Entry("x' OR '1'='1", Modality.INFRARED)]
    newcomers = [Newcomer(entry, digest=f"{held}-{n}") for n, entry in enumerate(entries)]
    store.add(vectors(len(entries), seed=held), newcomers, by="tester")
    filters = [
        Filter(identities=frozenset(names[:1])),
        Filter(cameras=frozenset({camera, 0})),
        Filter(exclude_cameras=frozenset({camera})),
        Filter(since=since),
        Filter(until=since),
        Filter(modality=Modality(int(infrared)), exclude_cameras=frozenset({0})),
    ]
    store.search(vectors(1), 1)
    for where in filters:
        by_mask = {int(key) for part in store._segments for key in part.columns.key[part.columns.mask(where)]}
        assert {one.key for one in store.select(where)} == by_mask
        assert store.count(where) == len(by_mask)
    by_source = {one.key for one in store.select(source=names[0])}
    assert by_source == {one.key for one in store.select() if one.entry.source == names[0]}


WRITER = """
import sys
import threading
import numpy as np
from pathlib import Path
from visir.core.types import Modality
from visir.gallery.entry import Entry
from visir.gallery.lance_store import LanceStore
from visir.gallery.store import Newcomer

folder, name, batches, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = LanceStore.open(Path(folder))
draw = np.random.default_rng(sum(map(ord, name)))
print("ready", flush=True)
sys.stdin.readline()
for batch in range(batches):
    vectors = draw.standard_normal((size, store.settings.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [Newcomer(Entry(f"{name}/{batch}/{n}", Modality.VISIBLE), f"{name}-{batch}-{n}") for n in range(size)]
    added = store.add(vectors, rows, by=name)
    print(*added.keys, flush=True)
"""


def writer(folder: str, name: str, batches: int, size: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, folder, name, str(batches), str(size)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_processes_writing_at_once_share_no_key(store: LanceStore) -> None:
    writers = [writer(store.uri, name, batches=15, size=7) for name in ("ann", "bob")]
    for process in writers:
        go(process)
    keys: list[int] = []
    for process in writers:
        printed, complaints = process.communicate(timeout=120)
        assert process.returncode == 0, complaints
        keys += [int(word) for word in printed.split()]
    assert sorted(keys) == list(range(210))
    found = list(store.select())
    assert [one.key for one in found] == list(range(210))
    assert len({one.entry.source for one in found}) == 210


def test_a_kill_while_adding_keeps_whole_acknowledged_batches(
    store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf
) -> None:
    acknowledged: set[int] = set()
    for round_, lines in enumerate((3, 17)):
        process = writer(store.uri, f"killed-{round_}", batches=10_000, size=50)
        go(process)
        assert process.stdout is not None
        for _ in range(lines):
            acknowledged |= {int(word) for word in process.stdout.readline().split()}
        process.kill()
        printed, _ = process.communicate(timeout=60)
        whole = printed.splitlines()[:-1] if not printed.endswith("\n") else printed.splitlines()
        acknowledged |= {int(word) for line in whole for word in line.split()}
    again = LanceStore.open(Path(store.uri))
    stored = [one.key for one in again.select()]
    assert acknowledged <= set(stored)
    assert len(stored) == len(set(stored))
    assert len(stored) % 50 == 0
    assert len(stored) - len(acknowledged) <= 100  # at most the batch in hand of each round was not acknowledged
    assert min(fill(again, vectors(3), newcomer)) > max(stored)
    assert again.search(vectors(1), 1)[0][0].key > max(stored)


FULL_DISK = """
import resource
from visir.core.errors import StorageError

resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
rows = [Newcomer(Entry(f"big/{n}", Modality.VISIBLE), f"big-{n}") for n in range(5000)]
try:
    store.add(np.repeat(vectors[:1], 5000, axis=0), rows, by="tester")
except StorageError as error:
    print("said:", error)
"""


def test_a_full_disk_is_one_sentence_and_loses_nothing(store: LanceStore) -> None:
    """The limit on file sizes stands for the disk: the system refuses the write in the same place."""
    command = [sys.executable, "-c", WRITER + FULL_DISK, store.uri, "full", "2", "7"]
    run = subprocess.run(command, input="go\n", capture_output=True, text=True, timeout=120, check=False)
    assert "said:" in run.stdout, run.stdout + run.stderr
    assert "what was stored before is untouched" in run.stdout
    assert LanceStore.open(Path(store.uri)).count() == 14


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


def test_both_scans_answer_alike(store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf) -> None:
    fill(store, vectors(300), newcomer)
    where = Filter(modality=Modality.INFRARED)
    fast = open_store(store.uri, scan="bfloat16", memory_limit=0)
    assert fast.search(vectors(9, seed=3), 12, where) == store.search(vectors(9, seed=3), 12, where)


def test_readers_never_notice_the_removals_of_others(
    store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf
) -> None:
    """The files of the version that a reader is loading may vanish at any moment."""
    rows, folder, stop = vectors(400), Path(store.uri), threading.Event()
    fill(store, rows, newcomer)

    def read() -> int:
        rounds = 0
        while not stop.is_set():
            reader = LanceStore.open(folder)
            assert reader.search(rows[399:], 1)[0][0].key == 399
            assert len(list(reader.select(keys=[399]))) == 1
            rounds += 1
        return rounds

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for key in range(12):
                store.remove([key])
        finally:
            stop.set()
        assert all(reader.result() > 0 for reader in readers)
    assert store.count() == 388


def test_opening_while_somebody_else_removes_does_not_wait(
    store: LanceStore, newcomer: NewcomerOf, vectors: VectorsOf
) -> None:
    fill(store, vectors(4), newcomer)
    with store.folder.writing():
        store.folder.begin_removal([2])
        assert LanceStore.open(Path(store.uri)).count() == 4
    assert LanceStore.open(Path(store.uri)).count() == 3


@pytest.mark.parametrize("filled", [0, 10])
def test_a_load_that_fails_gives_its_memory_back(
    tmp_path: Path,
    settings: Settings,
    vectors: Callable[..., Any],
    newcomer: Callable[..., Newcomer],
    monkeypatch: pytest.MonkeyPatch,
    filled: int,
) -> None:
    store = LanceStore.create(tmp_path / "gallery", settings)
    if filled:
        store.add(vectors(filled), [newcomer(n) for n in range(filled)], by="ann")
        store.search(vectors(1), 1)
    store.add(vectors(20, seed=1), [newcomer(100 + n) for n in range(20)], by="ann")
    with monkeypatch.context() as broken:
        broken.setattr(resident, "_check_lengths", lambda *args: (_ for _ in ()).throw(GalleryError("broken")))
        for _ in range(3):
            with pytest.raises(GalleryError, match="broken"):
                store.search(vectors(1), 1)
            assert store._room is not None
            assert store._room.used == filled * settings.dim * 4
    assert len(store.search(vectors(1), 50)[0]) == filled + 20
    assert store._room is not None
    assert store._room.used == (filled + 20) * settings.dim * 4
