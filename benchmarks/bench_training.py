"""Speed of loading and of a training step, as ratios to floors and peers in the same run.

Loading: our batches, cold (decoding) and warm (from the cache), beside decoding alone (the floor of cold loading), one
copy of the pixels (the floor of warm loading) and the usual way (DataLoader over Pillow, resize, flip, normalise). On a
busy machine compare the CPU times; they leave out the DataLoader's worker processes.
Step: our loop beside forward, backward and SGD written out for the same network and batch.

    python benchmarks/bench_training.py [--images 600] [--size 288 144] [--backbone resnet50] [--pairs 32] [--steps 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from visir.core.draws import Augment, Pairs, Stream
from visir.core.types import ImageTable, Modality, Record
from visir.data.images import Preprocess, decode, normalise
from visir.data.loading import sources
from visir.engine.build import build
from visir.engine.fit import Stepped, fit
from visir.engine.runtime import Runtime
from visir.methods import catalog

IDENTITIES = 20


def make(root: Path, images: int) -> ImageTable:
    """JPEG files the size of SYSU-MM01's, half visible, half infrared."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(images):
        identity, modality = i // 2 % IDENTITIES, Modality(i % 2)
        coarse = rng.integers(0, 256, (24, 10, 3), np.uint8)
        name = f"{i:05d}.jpg"
        Image.fromarray(coarse).resize((150, 380), Image.Resampling.BICUBIC).save(root / name, quality=92)
        records.append(Record(name, identity, 1 + int(modality), modality))
    return ImageTable.from_records(root, records)


class UsualWay(Dataset[Tensor]):
    """Open, resize, flip, convert, normalise: a picture at a time."""

    def __init__(self, table: ImageTable, height: int, width: int) -> None:
        from torchvision import transforms

        self.table = table
        self.change = transforms.Compose(
            [
                transforms.Resize((height, width)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(Preprocess().mean, Preprocess().std),
            ]
        )

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> Tensor:
        changed: Tensor = self.change(Image.open(self.table.file(row)).convert("RGB"))
        return changed


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one run."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def loading(table: ImageTable, height: int, width: int, pairs: int) -> None:
    """Wall and CPU time of every way, and the ratios that matter."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    stream = Stream(Pairs(pairs), height, width, Augment(flip=0.5, pad=10, erase=0.5))
    count = len(table) // (2 * pairs) * 2 * pairs
    steps = count // (2 * pairs)
    pixels = np.zeros((2 * pairs, height, width, 3), np.uint8)
    ways: dict[str, Callable[[], object]] = {
        "floor of cold: decoding alone": lambda: [decode(table.file(row)) for row in range(count)],
        "floor of warm: normalising alone": lambda: [
            normalise(pixels, Preprocess(height, width)) for _ in range(steps)
        ],
    }
    for workers in (0, 2):
        usual = DataLoader(UsualWay(table, height, width), 2 * pairs, num_workers=workers, drop_last=True)
        ways[f"usual way, {workers} workers"] = lambda loader=usual: list(loader)
        for name, mib in (("without cache", 0), ("from the cache", 4096)):
            ours = sources(table, {"main": stream}, seed=0, workers=workers, cache_mib=mib)["main"]
            ways[f"ours {name}, {workers} workers"] = lambda source=ours: deque(source.batches(0, steps), maxlen=0)
    wall: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(4):  # the first round fills the caches and is not counted
        for name, work in ways.items():
            began = time.process_time()
            wall[name].append(seconds(work) / count)
            processor[name].append((time.process_time() - began) / count)
    torch.set_num_threads(threads)
    print(f"loading {count} images of 380x150 to {height}x{width}, batches of {2 * pairs}; medians of 3")
    for name in ways:
        rate = 1 / statistics.median(wall[name][1:])
        print(f"  {name:36s} {rate:7.0f} images/s {1e3 * statistics.median(processor[name][1:]):7.2f} CPU ms/image")


def stepping(table: ImageTable, height: int, width: int, pairs: int, backbone: str, steps: int) -> None:
    """The loop's seconds a step over those of the same work written out."""
    kind = catalog.find("dfe")
    stream = Stream(Pairs(pairs), height, width, Augment(flip=0.5))
    config = replace(kind.Config(), backbone=backbone, stream=stream)
    runtime = Runtime(channels_last=True)
    method = build("dfe", config, IDENTITIES)
    batches = sources(table, method.streams(), seed=0, workers=1)
    events = fit(method, batches, runtime, epochs=10**6, steps_per_epoch=10**6, log_every=1)
    optimizer = method.optimizer().optimizer  # type: ignore[attr-defined]
    batch = batches["main"].batch(0)

    class Alone:
        index, epoch = 1, 0.0

        def gather(self, tensor: Tensor) -> Tensor:
            return tensor

    def written_out() -> None:
        method.train()
        optimizer.zero_grad()
        torch.stack(list(method.losses(batch, Alone()).values())).sum().backward()  # type: ignore[attr-defined]
        optimizer.step()

    next(events)
    written_out()
    ours, floor, waited = [], [], []
    for _ in range(steps):  # interleaved, so that what else runs on the machine hits both
        floor.append(seconds(written_out))
        event = next(events)
        assert isinstance(event, Stepped)
        ours.append(event.seconds)
        waited.append(event.waited)
    events.close()  # type: ignore[attr-defined]
    step, plain = statistics.median(ours), statistics.median(floor)
    print(f"\nstep of DFE on {backbone}, {2 * pairs} images of {height}x{width}, {torch.get_num_threads()} threads")
    print(
        f"  ours {step:.3f} s, of it waiting for batches {statistics.median(waited):.3f} s; written out {plain:.3f} s"
    )
    print(f"  ratio {step / plain:.3f}, {2 * pairs / step:.1f} images/s")


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--size", type=int, nargs=2, default=(288, 144))
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = make(Path(folder), chosen.images)
        loading(table, *chosen.size, chosen.pairs)
        stepping(table, *chosen.size, chosen.pairs, chosen.backbone, chosen.steps)


if __name__ == "__main__":
    main()
