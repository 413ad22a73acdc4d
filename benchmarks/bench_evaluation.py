"""CPU time of official evaluations, as ratios to the one matrix product that none can avoid.

    python benchmarks/bench_evaluation.py            # SYSU-MM01, RegDB, three sizes with the slope, a small large case
    python benchmarks/bench_evaluation.py --large    # 20,000 queries x 200,000 gallery images, and the peak of memory

``product`` is torch.mm of the queries with every gallery image that any trial uses; ``argsort`` is numpy.argsort of all
trials' distance matrices, which a scorer that sorts would have to pay at least. Lowest of several interleaved runs.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from visir.benchmarks import regdb, sysu_mm01
from visir.core.seeds import generator
from visir.core.types import FloatArray, ImageTable, IntArray
from visir.evaluation.evaluate import evaluate_many
from visir.evaluation.protocol import Protocol, Trial

DIMENSIONS = 2048
SYSU_TEST = {1: (56, 1374), 2: (56, 1565), 3: (93, 1883), 4: (94, 1918), 5: (95, 1918), 6: (96, 1920)}


def cpu(*works: Callable[[], object], runs: int) -> list[float]:
    """The lowest CPU seconds of each piece of work, over interleaved runs."""
    best = [math.inf] * len(works)
    for _ in range(runs):
        for number, work in enumerate(works):
            before = time.process_time()
            work()
            best[number] = min(best[number], time.process_time() - before)
    return best


def table_of(identity: Sequence[int], camera: Sequence[int], infrared: Sequence[bool]) -> ImageTable:
    """A table without images."""
    n = len(identity)
    names = tuple(f"{i:07d}.jpg" for i in range(n))
    return ImageTable(Path(), names, np.array(identity), np.array(camera), np.array(infrared, np.int64))


def features_of(table: ImageTable) -> FloatArray:
    """Identity clusters with noise, so hard that rank-1 is neither 0 nor 1."""
    people = int(table.identity.max()) + 1
    centres = generator(0, "bench centres").standard_normal((people, DIMENSIONS), dtype=np.float32)
    features: FloatArray = generator(0, "bench noise").standard_normal((len(table), DIMENSIONS), dtype=np.float32)
    features *= 6
    for start in range(0, len(table), 4096):
        features[start : start + 4096] += centres[table.identity[start : start + 4096]]
    return features


def sysu_table() -> ImageTable:
    """The published number of test people and images of each camera."""
    rows = []
    for camera, (people, images) in SYSU_TEST.items():
        present = np.sort(generator(0, "bench people", camera).permutation(96)[:people]) + 1
        sizes = np.full(people, images // people) + (np.arange(people) < images % people)
        rows += [(int(who), camera) for who, size in zip(present, sizes, strict=True) for _ in range(size)]
    return table_of([r[0] for r in rows], [r[1] for r in rows], [r[1] in (3, 6) for r in rows])


def crossed_table(people: int, queries: int, gallery: int) -> ImageTable:
    """Infrared queries first, then the visible gallery."""
    identity = np.concatenate([np.arange(queries) % people, np.arange(gallery) % people])
    infrared = np.arange(queries + gallery) < queries
    return table_of(identity.tolist(), np.where(infrared, 2, 1).tolist(), infrared.tolist())


def crossed(table: ImageTable) -> list[Trial]:
    """Infrared against visible."""
    return [Trial("1", np.flatnonzero(table.modality == 1), np.flatnonzero(table.modality == 0))]


def part(features: FloatArray, rows: IntArray) -> FloatArray:
    """The features of ``rows``, without a copy when they follow each other."""
    consecutive = rows[-1] - rows[0] + 1 == len(rows)
    return features[rows[0] : rows[-1] + 1] if consecutive else features[rows]


def compare(name: str, table: ImageTable, protocols: Sequence[Protocol], runs: int, *, sort: bool = True) -> float:
    """Print one row; return the evaluation's CPU seconds."""
    features = features_of(table)
    trials = [trial for protocol in protocols for trial in protocol.trials(table)]
    rows = np.unique(trials[0].query)
    columns = np.unique(np.concatenate([trial.gallery for trial in trials if trial.query[0] == trials[0].query[0]]))
    left, right = torch.from_numpy(part(features, rows)), torch.from_numpy(part(features, columns))
    distances = (left @ right.T).numpy() if sort else np.empty((0, 0), np.float32)

    def product() -> None:
        step = max(1, (1 << 26) // len(columns))
        for start in range(0, len(left), step):
            torch.mm(left[start : start + step], right.T)

    def argsort() -> None:
        for trial in trials if sort else ():
            np.argsort(distances[:, : len(trial.gallery)], axis=1)

    whole, floor, sorting = cpu(
        lambda: evaluate_many(features, table, protocols, device="cpu"), product, argsort, runs=runs
    )
    order = f"{sorting:9.3f} {(whole - floor) / sorting:9.2f}" if sort else f"{'-':>9} {'-':>9}"
    print(f"{name:<34} {len(trials):6} {floor:9.3f} {whole:9.3f} {whole / floor:9.2f} {order}", flush=True)
    return whole


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="20,000 x 200,000 (2 GB of features, minutes)")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    head = ("product", "evaluate", "ratio", "argsort", "score/argsort")
    print(f"{'CPU seconds':<34} {'trials':>6} " + " ".join(f"{word:>9}" for word in head))
    matrix = Protocol("crossed", crossed)
    if options.large:
        compare("20,000 x 200,000", crossed_table(5000, 20_000, 200_000), [matrix], 1, sort=False)
        kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
        print(f"peak of memory {kibibytes / 2**20:.2f} GiB, features {220_000 * DIMENSIONS * 4 / 2**30:.2f} GiB of it")
        return
    seeded = [p for name, p in sysu_mm01.protocols(1).items() if name.endswith("seeded")]
    sysu = sysu_table()
    for protocol in seeded:
        compare(protocol.name, sysu, [protocol], options.runs)
    compare("SYSU-MM01, all four of them", sysu, seeded, options.runs)
    directions = [p for name, p in regdb.protocols(1).items() if name.endswith("img")]
    compare("RegDB, both directions", crossed_table(206, 2060, 2060), directions, options.runs)
    sizes = [(1000, 10_000), (2000, 20_000), (4000, 40_000)]
    times = [compare(f"{q:,} x {g:,}", crossed_table(g // 40, q, g), [matrix], 2) for q, g in sizes]
    slope = math.log(times[-1] / times[0]) / math.log(sizes[-1][0] * sizes[-1][1] / (sizes[0][0] * sizes[0][1]))
    print(f"time grows as (queries x gallery) to the power {slope:.2f}")


if __name__ == "__main__":
    main()
