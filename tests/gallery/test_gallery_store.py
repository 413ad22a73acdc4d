"""The LanceDB store: what is added stays, what is removed leaves no trace, several processes at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filled_gallery import fill
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from visir.core.errors import GalleryError, StorageError
from visir.core.types import FloatArray, Modality
from visir.gallery import lance_store, resident
from visir.gallery.entry import Entry, Filter
from visir.gallery.lance_store import LanceStore
from visir.gallery.store import Newcomer, Settings, check_vectors, open_store

NewcomerOf = Callable[..., Newcomer]
VectorsOf = Callable[..., FloatArray]
Traces = Callable[[Path, bytes], list[str]]


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
