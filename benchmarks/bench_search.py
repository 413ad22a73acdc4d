"""Exact gallery search against NumPy's product and top-k, and against one read of the vectors, in the same run.

Run ``OMP_NUM_THREADS=1 python benchmarks/bench_search.py`` (two minutes; ``--rows 20000`` for a glance). Times are CPU
milliseconds, the best of interleaved runs, so that other work on the machine hardly matters; with one thread they are
the time a search takes. Quote the ratios, not the milliseconds. Vectors are seeded Gaussian identity clusters of unit
length, 2,048 values, ten cameras of which six are visible; queries are infrared.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from visir.core.seeds import generator
from visir.core.types import FloatArray, Modality
from visir.gallery.columns import UNKNOWN, Columns
from visir.gallery.entry import Filter
from visir.gallery.resident import Room, Segment, search
from visir.gallery.store import Scan

DIM = 2048
K = 20
CAMERAS = 10
VISIBLE = 6
PER_IDENTITY = 50


def pictures(rows: int) -> tuple[Columns, FloatArray]:
    """Columns and (rows, DIM) unit vectors."""
    draw = generator(0, "bench-search", rows)
    identity = draw.permutation(np.arange(rows) // PER_IDENTITY)
    camera = draw.integers(0, CAMERAS, rows)
    modality = (camera >= VISIBLE).astype(np.int64)
    centres = draw.standard_normal((rows // PER_IDENTITY + 1, DIM), np.float32)
    shift = 0.6 * draw.standard_normal(DIM, np.float32)
    vectors = np.empty((rows, DIM), np.float32)
    for start in range(0, rows, 8192):
        part = slice(start, min(start + 8192, rows))
        noise = draw.standard_normal((part.stop - start, DIM), np.float32)
        vectors[part] = centres[identity[part]] + modality[part, None] * shift + noise
        vectors[part] /= np.linalg.norm(vectors[part], axis=1, keepdims=True)
    unknown = np.array(["a"] * rows, np.object_)
    columns = Columns(
        key=np.arange(rows),
        modality=modality,
        camera=camera,
        has_camera=np.ones(rows, np.bool_),
        taken_at=np.full(rows, UNKNOWN),
        identity=identity,
        names=tuple(str(name) for name in range(len(centres))),
        source=unknown,
        track=unknown,
    )
    return columns, vectors


def numpy_search(vectors: FloatArray, queries: FloatArray) -> np.ndarray:
    """The peer: product, argpartition, sort of the best."""
    scores = queries @ vectors.T
    best = np.argpartition(scores, len(vectors) - K, axis=1)[:, -K:]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


def interleaved(tasks: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Least CPU milliseconds of each task, the tasks taking turns."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            started = time.process_time()
            task()
            if turn:  # the first turn warms up
                times[name].append(1e3 * (time.process_time() - started))
    return {name: min(values) for name, values in times.items()}


def compare(rows: int, repeats: int) -> dict[str, float]:
    """Print the table of one size; the milliseconds by name."""
    columns, vectors = pictures(rows)
    queries = np.ascontiguousarray(vectors[columns.modality == Modality.INFRARED][:64])
    segments: dict[Scan, tuple[Segment, ...]] = {}
    for scan in ("float32", "bfloat16"):
        room = Room(Path.cwd(), limit=2**40)
        segments[scan] = (Segment.load(columns, [(columns.key, vectors)], dim=DIM, scan=scan, room=room),)
    tensor = torch.from_numpy(vectors)
    filters = {
        "one camera": Filter(cameras=frozenset({3})),
        "visible": Filter(modality=Modality.VISIBLE),
        "scattered": Filter(identities=frozenset(columns.names[::10])),
    }
    tasks: dict[str, Callable[[], object]] = {"one read (floor)": tensor.sum}
    for count in (1, 64):
        some = queries[:count]
        tasks[f"numpy product + argpartition, {count}"] = partial(numpy_search, vectors, some)
        tasks[f"torch product alone, {count}"] = partial(torch.mm, torch.from_numpy(some), tensor.T)
        for scan, held in segments.items():
            tasks[f"visir {scan}, {count}"] = partial(search, held, some, K)
            for name, where in filters.items():
                tasks[f"visir {scan}, {count}, {name}"] = partial(search, held, some, K, where)
    took = interleaved(tasks, repeats)
    _check(columns, vectors, queries, segments)
    shares = {name: float(columns.mask(where).mean()) for name, where in filters.items()}
    _print(rows, took, shares)
    return took


def _check(
    columns: Columns, vectors: FloatArray, queries: FloatArray, segments: dict[Scan, tuple[Segment, ...]]
) -> None:
    expected = columns.key[numpy_search(vectors, queries)]
    for held in segments.values():
        found = [[match.key for match in answer] for answer in search(held, queries, K)]
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found, expected.tolist(), strict=True)])
        assert recall > 0.999, recall  # float32 may exchange two neighbours at the end


def _print(rows: int, took: dict[str, float], shares: dict[str, float]) -> None:
    floor = took["one read (floor)"]
    print(f"\n{rows:,} x {DIM}, top {K}: one read {floor:.1f} ms")
    print(f"{'':44s}{'CPU ms':>9s}{'/ read':>9s}{'/ product':>11s}{'/ numpy':>9s}{'cost / unfiltered (share)':>28s}")
    for name, milliseconds in took.items():
        parts = name.split(", ")
        if len(parts) < 2:
            continue
        product = took[f"torch product alone, {parts[1]}"]
        peer = took[f"numpy product + argpartition, {parts[1]}"]
        line = f"{name:44s}{milliseconds:9.1f}{milliseconds / floor:9.2f}{milliseconds / product:11.2f}"
        line += f"{milliseconds / peer:9.2f}"
        if len(parts) == 3:
            whole = took[f"{parts[0]}, {parts[1]}"]
            line += f"{milliseconds / whole:20.2f} ({shares[parts[2]]:.2f})"
        print(line)


def main() -> None:
    """Three sizes and the slope between the first and the last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="largest gallery; the others are a quarter and half")
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    sizes = [given.rows // 4, given.rows // 2, given.rows]
    results = [compare(rows, given.repeats) for rows in sizes]
    print("\nslope of time over rows (1.00 is linear):")
    for name in results[0]:
        print(f"{name:44s}{math.log(results[-1][name] / results[0][name]) / math.log(sizes[-1] / sizes[0]):9.2f}")


if __name__ == "__main__":
    main()
