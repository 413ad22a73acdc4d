"""From rows to batches: decode in threads, cache what fits a bound, change, stack, normalise on the device.

Threads, not processes: decoding, resizing and copying let go of the interpreter lock, all share one cache, they start
at once, cannot be left behind and are safe beside CUDA and OpenMP. What is loaded is a function of the step alone, so
the number of workers changes the speed and nothing else.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from visir.core.batch import Batch
from visir.core.draws import Stream
from visir.core.errors import ConfigError
from visir.core.seeds import derived_seed
from visir.core.types import ByteArray, ImageTable, IntArray, Modality
from visir.data.images import Preprocess, decode, normalise, resize
from visir.data.sampling import sampler
from visir.data.transforms import check, draw_changes

K = TypeVar("K")
V = TypeVar("V")

CPU = torch.device("cpu")


class Pictures:
    """The pictures of a table at one size, decoded at most once each as far as the bound of the cache allows.

    The cache is one packed array. Its memory is claimed by the operating system as it fills, first come, first kept;
    what does not fit is decoded each time it is wanted. Safe to use from many threads.

    Args:
        table: whose rows are asked for.
        height: pixels.
        width: pixels.
        cache_mib: bound of the cache in MiB; 0 for none.
    """

    def __init__(self, table: ImageTable, height: int, width: int, cache_mib: float = 0) -> None:
        self.table, self.height, self.width = table, height, width
        slots = min(len(table), int(cache_mib * 2**20 / (height * width * 3)))
        self._packed: ByteArray = np.empty((slots, height, width, 3), np.uint8)
        self._slot: dict[int, int] = {}
        self._lock = threading.Lock()

    @property
    def cached(self) -> int:
        """Number of pictures in the cache."""
        return len(self._slot)

    def read(self, row: int) -> ByteArray:
        """(height, width, 3) uint8 RGB, not to be written to.

        Raises:
            ImageError: the file cannot be decoded; it is named.
        """
        slot = self._slot.get(row)
        if slot is not None:
            kept: ByteArray = self._packed[slot]
            return kept
        picture = resize(decode(self.table.file(row)), self.height, self.width)
        self._keep(row, picture)
        return picture

    def _keep(self, row: int, picture: ByteArray) -> None:
        with self._lock:
            slot = len(self._slot)
            if slot < len(self._packed) and row not in self._slot:
                self._packed[slot] = picture
                self._slot[row] = slot  # only now is it found


@dataclass(frozen=True, eq=False)
class _Packed:
    """A batch as the threads hand it over: (B, H, W, 3) uint8 and its labels; a quarter of the bytes to move."""

    pixels: Tensor
    identity: Tensor
    camera: Tensor
    modality: Tensor
    converted: Tensor | None = None

    def pinned(self) -> _Packed:
        return self._each(Tensor.pin_memory)

    def on(self, device: torch.device, preprocess: Preprocess) -> Batch:
        moved = self._each(lambda tensor: tensor.to(device, non_blocking=True))
        converted = None if moved.converted is None else normalise(moved.converted, preprocess)
        return Batch(normalise(moved.pixels, preprocess), moved.identity, moved.camera, moved.modality, converted)

    def _each(self, change: Callable[[Tensor], Tensor]) -> _Packed:
        converted = None if self.converted is None else change(self.converted)
        labels = (change(self.identity), change(self.camera), change(self.modality))
        return _Packed(change(self.pixels), *labels, converted)


class Source:
    """The batches of one stream; see :func:`sources`.

    Attributes:
        steps_per_epoch: as the sampler counts.
        preprocess: size and normalisation of the images.
    """

    def __init__(
        self,
        pictures: Pictures,
        stream: Stream,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        pin: bool = False,
        converted: Pictures | None = None,
    ) -> None:
        self._converted = converted
        self._pictures, self._stream, self._seed, self._workers, self._pin = pictures, stream, seed, workers, pin
        self._rows = sampler(stream.draw, pictures.table, seed=seed, rank=rank, world=world)
        self._labels = torch.from_numpy(pictures.table.labels())
        self._camera, self._modality = (torch.tensor(a) for a in (pictures.table.camera, pictures.table.modality))
        self.steps_per_epoch = self._rows.steps_per_epoch
        self.preprocess = Preprocess(stream.height, stream.width)

    def batch(self, step: int, device: torch.device = CPU) -> Batch:
        """This rank's batch of the given step, counted from 0 over all epochs.

        Raises:
            ImageError: a file cannot be decoded; it is named.
        """
        return self._pack(step).on(device, self.preprocess)

    def batches(self, first: int, last: int, device: torch.device = CPU) -> Generator[Batch, None, None]:
        """The batches of the steps ``first`` to ``last - 1`` in order, loaded ahead by the worker threads.

        Raises:
            ImageError: as :meth:`batch`; the threads have ended when it arrives.
        """
        with closing(ahead(self._pack, range(first, last), workers=self._workers)) as packed:
            for one in packed:
                yield one.on(device, self.preprocess)

    def _pack(self, step: int) -> _Packed:
        stream, places = self._stream, self._rows.places
        rows = self._rows.rows(step)
        modality = np.repeat(np.array([0, 1], np.int64), self._rows.joint // 2)

        def changed(pictures: Pictures, modality: IntArray, seed: int, wanted: Sequence[int]) -> Tensor:
            changes = draw_changes(stream.augment, modality, stream.height, stream.width, seed=seed, step=step)
            pixels = np.zeros((len(rows), stream.height, stream.width, 3), np.uint8)
            for out, row, place in zip(pixels, rows.tolist(), places.tolist(), strict=True):
                if modality[place] in wanted:
                    changes.apply(place, pictures.read(row), out)
            return torch.from_numpy(pixels)

        index = torch.from_numpy(rows)
        labels = (self._labels[index], self._camera[index], self._modality[index])
        converted = None
        if self._converted is not None:
            made = [1 - source for source in stream.converts]  # converted pictures have the other modality
            converted = changed(self._converted, 1 - modality, derived_seed(self._seed, "converted"), made)
        packed = _Packed(changed(self._pictures, modality, self._seed, tuple(Modality)), *labels, converted)
        return packed.pinned() if self._pin else packed


def sources(
    table: ImageTable,
    streams: Mapping[str, Stream],
    *,
    seed: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    cache_mib: float = 2048,
    pin: bool = False,
    converted: ImageTable | None = None,
) -> dict[str, Source]:
    """The batches of every stream that a method asks for.

    Streams of one size share a cache; several sizes share its bound equally. Different streams draw differently.

    Args:
        table: the training images; identities are relabelled 0..C-1 in ascending order.
        streams: by name, as ``Method.streams`` gives them; sizes of batches are those over all ranks.
        seed: of the run.
        rank: of this process, 0..world-1.
        world: number of processes.
        workers: threads that load ahead, for each stream; 0 loads when asked.
        cache_mib: bound of the decoded cache of this process, in MiB.
        pin: put batches into page-locked memory, for copies to a GPU that do not block.
        converted: images of ``table`` in the same rows, as :func:`visir.data.converted.converted_images` gives them,
            for streams that ask; where a stream asks for one direction, the other half of its converted ones is black.

    Raises:
        ConfigError, DatasetError: as :func:`visir.data.sampling.sampler`; a stream asks for converted images and there
            are none.
    """
    if any(min(stream.height, stream.width) < 1 for stream in streams.values()):
        wrong = sorted({(stream.height, stream.width) for stream in streams.values()})
        raise ConfigError(f"stream.height, stream.width: expected at least 1 pixel, got {wrong}.")
    for stream in streams.values():
        check(stream.augment)
    sizes = {_read_size(stream) for stream in streams.values()}
    asking = [name for name, stream in streams.items() if stream.converts]
    if asking and converted is None:
        raise ConfigError(
            f"stream {asking[0]}: learns from images converted to the other modality, and none were given. Name their "
            "folder: --set benchmark.converted=DIR, or switch the conversion off."
        )
    sets = len(sizes) * (2 if asking else 1)
    pictures = {size: Pictures(table, *size, cache_mib=cache_mib / sets) for size in sizes}
    made = {size: Pictures(converted, *size, cache_mib=cache_mib / sets) for size in sizes if converted is not None}
    return {
        name: Source(
            pictures[_read_size(stream)],
            stream,
            seed=derived_seed(seed, f"stream {name}"),
            rank=rank,
            world=world,
            workers=workers,
            pin=pin,
            converted=made[_read_size(stream)] if stream.converts else None,
        )
        for name, stream in streams.items()
    }


def _read_size(stream: Stream) -> tuple[int, int]:
    """Height and width that pictures of the stream are read with."""
    return stream.height + stream.augment.enlarge, stream.width + stream.augment.enlarge


def images(
    table: ImageTable, preprocess: Preprocess, *, rows: IntArray | None = None, batch: int = 64, workers: int = 2
) -> Iterator[tuple[IntArray, Tensor]]:
    """Decode the pictures of a table in order, without any change but the resizing.

    Yields:
        (b,) int64 row numbers and their (b, H, W, 3) uint8 pictures; b is ``batch``, less at the end.

    Raises:
        ImageError: a file cannot be decoded; it is named.
    """
    wanted = np.arange(len(table)) if rows is None else np.asarray(rows, np.int64)
    pictures = Pictures(table, preprocess.height, preprocess.width)
    parts = [wanted[first : first + batch] for first in range(0, len(wanted), batch)]

    def stacked(part: IntArray) -> tuple[IntArray, Tensor]:
        return part, torch.from_numpy(np.stack([pictures.read(row) for row in part.tolist()]))

    return ahead(stacked, parts, workers=workers)


def ahead(work: Callable[[K], V], items: Iterable[K], *, workers: int) -> Generator[V, None, None]:
    """``map(work, items)`` by threads that run at most ``2 * workers`` items ahead; 0 workers do without threads.

    The first error is raised in its place in the order, and the threads have ended whenever this iterator has, also
    when it is closed early.
    """
    if not workers:
        yield from map(work, items)
        return
    waiting: deque[Future[V]] = deque()
    left = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="visir-loading") as pool:
        try:
            for item in itertools.islice(left, 2 * workers):
                waiting.append(pool.submit(work, item))
            while waiting:
                done = waiting.popleft().result()
                for item in itertools.islice(left, 1):
                    waiting.append(pool.submit(work, item))
                yield done
        finally:
            for future in waiting:
                future.cancel()
