"""Exact search against a slow loop in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from visir.core.errors import GalleryError, StorageError
from visir.core.seeds import generator
from visir.core.types import FloatArray, Modality
from visir.gallery import resident
from visir.gallery.columns import UNKNOWN, Columns, microseconds
from visir.gallery.entry import Entry, Filter
from visir.gallery.resident import Room, Segment, search
from visir.gallery.store import Scan

SCANS: tuple[Scan, ...] = ("float32", "bfloat16")


def columns(entries: list[Entry], first_key: int = 0) -> Columns:
    names = sorted({entry.identity for entry in entries if entry.identity is not None})
    return Columns(
        key=np.arange(first_key, first_key + len(entries)),
        modality=np.array([int(entry.modality) for entry in entries], np.int64),
        camera=np.array([entry.camera or 0 for entry in entries], np.int64),
        has_camera=np.array([entry.camera is not None for entry in entries], np.bool_),
        taken_at=np.array([microseconds(e.taken_at) if e.taken_at else UNKNOWN for e in entries], np.int64),
        identity=np.array([names.index(e.identity) if e.identity else -1 for e in entries], np.int64),
        names=tuple(names),
        source=np.array([entry.source for entry in entries], np.object_),
        track=np.array([entry.track for entry in entries], np.object_),
    )


def segment(
    entries: list[Entry], vectors: FloatArray, *, scan: Scan = "float32", first_key: int = 0, room: Room | None = None
) -> Segment:
    made = columns(entries, first_key)
    halves = np.array_split(np.arange(len(entries))[::-1], 3)  # batches in another order than the keys
    batches = [(made.key[rows], vectors[rows]) for rows in halves if len(rows)]
    return Segment.load(made, batches, dim=vectors.shape[1], scan=scan, room=room or Room(Path(), 2**30))


def slow(
    entries: list[Entry], vectors: FloatArray, query: FloatArray, k: int, allowed: Callable[[Entry], bool]
) -> list[int]:
    """Keys of the best k by a loop, the lower key first in a tie."""
    scored = []
    for key, entry in enumerate(entries):
        if allowed(entry):
            score = sum(float(a) * float(b) for a, b in zip(vectors[key], query, strict=True))
            scored.append((-round(score, 12), key))
    return [key for _, key in sorted(scored)[:k]]


def everyone(entry: Entry) -> bool:
    return True


def some_entries(count: int) -> list[Entry]:
    draw = generator(3, "resident-entries")
    return [
        Entry(
            f"{number}.jpg",
            Modality(int(draw.integers(2))),
            camera=None if draw.random() < 0.2 else int(draw.integers(4)),
            identity=None if draw.random() < 0.2 else str(draw.integers(9)),
            taken_at=None if draw.random() < 0.2 else f"2026-01-{draw.integers(1, 29):02d}",
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("k", [1, 7, 500])
def test_search_equals_the_slow_loop(
    scan: Scan, k: int, vectors: Callable[..., FloatArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "ROWS", 64)  # many blocks
    monkeypatch.setattr(resident, "QUERIES", 3)
    stored, queries, entries = vectors(400), vectors(5, seed=9), some_entries(400)
    parts = (
        segment(entries[:300], stored[:300], scan=scan),
        segment(entries[300:], stored[300:], scan=scan, first_key=300),
    )
    answers = search(parts, queries, k)
    for query, answer in zip(queries, answers, strict=True):
        assert [match.key for match in answer] == slow(entries, stored, query, k, everyone)
        assert [match.entry for match in answer] == [entries[match.key] for match in answer]
        expected = [float(stored[m.key].astype(np.float64) @ query.astype(np.float64)) for m in answer]
        np.testing.assert_allclose([match.score for match in answer], expected, atol=1e-12)


FILTERS: list[tuple[Filter, Callable[[Entry], bool]]] = [
    (Filter(modality=Modality.VISIBLE), lambda e: e.modality == Modality.VISIBLE),
    (Filter(cameras=frozenset({1, 3})), lambda e: e.camera in {1, 3}),
    (Filter(exclude_cameras=frozenset({0})), lambda e: e.camera != 0),
    (Filter(since="2026-01-10"), lambda e: e.taken_at is not None and e.taken_at >= "2026-01-10"),
    (Filter(until="2026-01-10"), lambda e: e.taken_at is not None and e.taken_at < "2026-01-10"),
    (Filter(identities=frozenset({"2", "absent"})), lambda e: e.identity == "2"),
    (Filter(cameras=frozenset({99})), lambda e: False),
    (
        Filter(modality=Modality.INFRARED, cameras=frozenset({2}), exclude_cameras=frozenset({1})),
        lambda e: e.modality == Modality.INFRARED and e.camera == 2,
    ),
]


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize(("where", "allowed"), FILTERS)
def test_filters_equal_the_slow_loop(
    scan: Scan, where: Filter, allowed: Callable[[Entry], bool], vectors: Callable[..., FloatArray]
) -> None:
    stored, queries, entries = vectors(500), vectors(4, seed=9), some_entries(500)
    answers = search((segment(entries, stored, scan=scan),), queries, 10, where)
    for query, answer in zip(queries, answers, strict=True):
        assert [match.key for match in answer] == slow(entries, stored, query, 10, allowed)


@pytest.mark.parametrize("scan", SCANS)
def test_the_filter_to_the_other_modality_loses_nothing(scan: Scan) -> None:
    """A wide gap between modalities, where approximate indexes lose nearly all answers."""
    draw = generator(5, "gap")
    entries = [Entry(f"{n}.jpg", Modality(n % 2), camera=n % 10) for n in range(2000)]
    gap = np.where(np.arange(2000)[:, None] % 2, 4.0, -4.0) * draw.standard_normal(32)
    stored = draw.standard_normal((2000, 32)) + gap
    stored = (stored / np.linalg.norm(stored, axis=1, keepdims=True)).astype(np.float32)
    queries = stored[1:20:2]
    assert all(m.entry.modality == Modality.INFRARED for m in search((segment(entries, stored),), queries, 20)[0])
    answers = search((segment(entries, stored, scan=scan),), queries, 20, Filter(modality=Modality.VISIBLE))
    for query, answer in zip(queries, answers, strict=True):
        scores = stored.astype(np.float64) @ query.astype(np.float64)
        visible = np.arange(0, 2000, 2)
        expected = visible[np.argsort(-scores[visible], kind="stable")[:20]]
        assert [match.key for match in answer] == expected.tolist()


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 10**6), st.sampled_from(SCANS))
@hypothesis_settings(max_examples=40, deadline=None)
def test_ties_go_to_the_lower_key(count: int, k: int, seed: int, scan: Scan) -> None:
    draw = generator(seed, "ties")
    distinct = draw.standard_normal((3, 8))
    distinct = (distinct / np.linalg.norm(distinct, axis=1, keepdims=True)).astype(np.float32)
    choice = draw.integers(0, 3, count)
    entries = [Entry(f"{n}.jpg", Modality(int(draw.integers(2))), camera=int(draw.integers(3))) for n in range(count)]
    (answer,) = search((segment(entries, distinct[choice], scan=scan),), distinct[:1], k)
    scores = distinct.astype(np.float64) @ distinct[0].astype(np.float64)
    expected = np.lexsort((np.arange(count), -scores[choice]))[:k]
    assert [match.key for match in answer] == expected.tolist()


@pytest.mark.parametrize("scan", SCANS)
def test_ten_thousand_equal_vectors_do_not_hide_each_other(scan: Scan, vectors: Callable[..., FloatArray]) -> None:
    """More candidates within rounding than any short list holds."""
    base = vectors(1)
    stored = np.repeat(base, 10_000, axis=0)
    entries = [Entry("a.jpg", Modality.VISIBLE, camera=9 - n % 10) for n in range(10_000)]
    (answer,) = search((segment(entries, stored, scan=scan),), base, 5)
    assert [match.key for match in answer] == [0, 1, 2, 3, 4]


def test_bfloat16_is_exact_where_rounding_reverses_the_order() -> None:
    """Scores closer than bfloat16 tells apart."""
    draw = generator(8, "close")
    base = draw.standard_normal(64)
    stored = base + 1e-3 * draw.standard_normal((3000, 64))
    stored = (stored / np.linalg.norm(stored, axis=1, keepdims=True)).astype(np.float32)
    query = (base / np.linalg.norm(base)).astype(np.float32)[None]
    rounded = (torch.from_numpy(query).bfloat16() @ torch.from_numpy(stored).bfloat16().T).float()[0].numpy()
    exact = stored.astype(np.float64) @ query[0].astype(np.float64)
    assert set(np.argsort(-rounded)[:20]) != set(np.argsort(-exact)[:20])
    entries = [Entry("a.jpg", Modality.VISIBLE)] * 3000
    (answer,) = search((segment(entries, stored, scan="bfloat16"),), query, 20)
    assert [match.key for match in answer] == np.argsort(-exact)[:20].tolist()


def test_lower_precision_products_stay_exact(vectors: Callable[..., FloatArray]) -> None:
    """A program may have allowed torch to make float32 products in bfloat16."""
    stored, queries, entries = vectors(2000), vectors(3, seed=4), some_entries(2000)
    before = torch.get_float32_matmul_precision()
    expected = search((segment(entries, stored),), queries, 20)
    torch.set_float32_matmul_precision("medium")
    try:
        assert search((segment(entries, stored),), queries, 20) == expected
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("scan", SCANS)
def test_vectors_beyond_the_memory_limit_are_mapped_from_an_unnamed_file(
    scan: Scan, vectors: Callable[..., FloatArray], tmp_path: Path
) -> None:
    stored, queries, entries = vectors(700), vectors(3, seed=2), some_entries(700)
    spilled = segment(entries, stored, scan=scan, room=Room(tmp_path, limit=1000))
    assert isinstance(spilled.vectors, np.memmap)
    assert list(tmp_path.iterdir()) == []
    assert search((spilled,), queries, 9) == search((segment(entries, stored),), queries, 9)


def test_no_room_on_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="searching needs"):
        Room(tmp_path, limit=0).array((2**50, 8), np.float32)


def test_nothing_stored_nothing_found(vectors: Callable[..., FloatArray]) -> None:
    assert search((), vectors(2), 5) == [[], []]
    assert search((segment([], vectors(1)[:0]),), vectors(2), 5) == [[], []]


def test_damaged_vectors_speak_up(vectors: Callable[..., FloatArray]) -> None:
    stored, entries = vectors(5), some_entries(5)
    stored[3, 0] = np.nan
    with pytest.raises(GalleryError, match="vector of key 3 is not of unit length"):
        segment(entries, stored)
    made, room = columns(entries), Room(Path(), 2**30)
    with pytest.raises(GalleryError, match="expected 5 vectors, got 2"):
        Segment.load(made, [(made.key[:2], stored[:2])], dim=stored.shape[1], scan="float32", room=room)
    with pytest.raises(GalleryError, match="do not belong together"):
        Segment.load(made, [(made.key[:2] + 90, stored[:2])], dim=stored.shape[1], scan="float32", room=room)
