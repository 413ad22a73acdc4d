"""Write the images of a run's benchmark converted to the other modality, for methods that learn from them."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.manifest import read_manifest
from visir.core.config import digest
from visir.core.draws import Unpaired
from visir.core.errors import CheckpointError, ConfigError, DatasetError, EvaluationError, StorageError, nearest
from visir.core.files import write_json
from visir.core.progress import progress
from visir.core.types import ByteArray, ImageTable, IntArray, Modality
from visir.data.converted import PROVENANCE
from visir.data.images import Preprocess, decode, encode_png, normalise, resize
from visir.data.loading import ahead
from visir.engine.encoders import Encoder, load_encoder
from visir.engine.runtime import choose_device
from visir.experiment.config import Experiment
from visir.experiment.evaluate import as_split
from visir.experiment.folder import RunFolder
from visir.experiment.quality import MEASURES, WAYS, Quality, judge, plain, read_quality, true_pictures
from visir.methods import catalog
from visir.methods.base import ConversionMethod

Direction = Literal["both", "ir2v", "v2ir"]
QUALITY = "quality.json"


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        folder: where the converted pictures are.
        about: what ``conversion.json`` in it says: converter (fingerprint), method, experiment (digest), benchmark,
            split, draw, direction, cameras (none for all), images of each direction, size at which the network works,
            complete.
        quality: direction -> ``converted`` and ``unconverted`` -> likeness to the truth; empty where none is known.
    """

    folder: Path
    about: Mapping[str, Any]
    quality: Quality

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"folder": str(self.folder), **self.about, "quality": plain(self.quality)}


def convert_images(
    run: Path,
    output: Path,
    *,
    root: Path | None = None,
    split: str | None = None,
    direction: str = "both",
    device: str | None = None,
    workers: int = 2,
    batch: int = 32,
    truth: Path | None = None,
) -> Conversion:
    """Convert the training images of a run's benchmark with its network, and judge them where the truth is known.

    The picture of ``<path>`` becomes ``output/<path>`` as PNG, without loss, at the picture's own size; what becomes
    infrared has three equal channels. Whole pictures are kept, so the same call goes on where it was stopped, killed
    included, and ends in the same bytes (on one kind of device). ``conversion.json`` says what made them and whether
    they are complete. A few batches are in memory at once.

    The draw is the run's own: of RegDB another one would show the network its test people. So are the cameras: a run
    that learnt from pictures of some cameras (``with.stream.draw.cameras``) converts those of the same cameras.

    Args:
        run: trained run of a conversion method.
        output: a new or empty folder, or one of the same conversion.
        root: folder of the data set, if it is no longer where the experiment says.
        split: ``train``, ``validation``, ``trainval`` or ``test``; by default the one that was trained on.
        direction: ``ir2v``, ``v2ir`` or ``both``.
        device: None for a GPU where there is one.
        workers: threads that read ahead, and that write; 0 for none.
        batch: images at once.
        truth: folder of the true pictures, laid out as the data set; by default the counterparts of a twin. Where it is
            known, converted and unconverted pictures are compared with it, and ``quality.json`` is written.

    Raises:
        ConfigError: no run of a conversion method, no such direction or split, or a place that cannot be written to.
        CheckpointError: nothing trained in it yet.
        DatasetError: the data set or a true picture is missing, or ``output`` holds something else.
        StorageError: the disk is full; the pictures written so far are whole.
    """
    experiment = _experiment(folder := RunFolder(run))
    chosen = as_split(split or experiment.benchmark.split)
    where = root if root is not None else experiment.root()
    table = benchmarks.find(experiment.benchmark.name).read(where, chosen, experiment.benchmark.draw)
    _check_place(output, table.root)
    rows = _rows(table, experiment, direction)
    targets = _targets(table, output)
    true, place = _truth(table, np.concatenate(list(rows.values())), where, truth), choose_device(device)
    encoder = load_encoder(run)
    if not folder.encoder.is_dir():
        sys.stderr.write("warning: the training has not ended; its newest checkpoint converts\n")
    task = _task(experiment, encoder, table, rows, split=chosen, direction=direction)
    _check_same(output, task)
    parts = [part for own in rows.values() for part in _parts(own, batch)]
    missing = [part for part in parts if not all(_whole(targets[row]) for row in part.tolist())]
    if missing:
        write_json(output / PROVENANCE, {**task, "complete": False})
        _Work(table, targets, encoder, place, workers).convert(missing)
    write_json(output / PROVENANCE, {**task, "complete": True})
    likeness = _judged(output, task, lambda: judge(table, rows, targets, true, workers=workers), true)
    return Conversion(output, {**task, "complete": True}, likeness)


def _experiment(folder: RunFolder) -> Experiment:
    """The experiment of a run that converts."""
    experiment = folder.read_experiment()
    if not issubclass(catalog.find(experiment.method), ConversionMethod):
        raise ConfigError(
            f"{folder.path}: expected the run of a method that converts images, got one of {experiment.method!r}, "
            "which gives vectors; 'visir embed' writes those."
        )
    return experiment


def _cameras(experiment: Experiment) -> tuple[int, ...]:
    """The cameras whose pictures the network learnt from; empty for all."""
    draws = [stream.draw for stream in experiment.streams().values()]
    return tuple(sorted({camera for draw in draws if isinstance(draw, Unpaired) for camera in draw.cameras}))


def _judged(output: Path, task: Mapping[str, Any], judged: Callable[[], Quality], truth: Mapping[int, Path]) -> Quality:
    """The quality of whole conversions, computed once for one truth; none without truth."""
    if not truth:
        return {}
    of = {**task, "measures": MEASURES, "truth": digest([[str(path), path.stat().st_size] for path in truth.values()])}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        known = json.loads((output / QUALITY).read_text(encoding="utf-8"))
        if known["of"] == of:
            return read_quality(known["likeness"])
    quality = judged()
    write_json(output / QUALITY, {"of": of, "likeness": plain(quality)})
    return quality


def _rows(table: ImageTable, experiment: Experiment, direction: str) -> dict[str, IntArray]:
    """The rows to convert, by way; raise ConfigError for an unknown direction."""
    if direction not in get_args(Direction):
        raise ConfigError(f"direction: unknown direction {direction!r}. {nearest(direction, get_args(Direction))}")
    cameras = _cameras(experiment)
    known = np.isin(table.camera, cameras) if cameras else np.ones(len(table), np.bool_)
    ways = tuple(WAYS) if direction == "both" else (direction,)
    return {way: np.flatnonzero(known & (table.modality == WAYS[way])) for way in ways}


def _check_place(output: Path, root: Path) -> None:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: expected a folder for the converted pictures, got a file.")
    if output.resolve() == root.resolve() or root.resolve() in output.resolve().parents:
        raise ConfigError(f"{output}: lies inside the data set {root}; give a folder outside of it.")


def _targets(table: ImageTable, output: Path) -> tuple[Path, ...]:
    """Where each converted picture goes."""
    names = [PurePosixPath(path) for path in table.paths]
    for name in names:
        if name.is_absolute() or ".." in name.parts:
            raise DatasetError(
                f"{table.root}: its image {name} lies outside of it, so there is no place for a converted one; "
                "'visir data convert' first copies such a data set into one folder."
            )
    targets = tuple(output / name.with_suffix(".png") for name in names)
    if len(set(targets)) < len(targets):
        twice = Counter(targets).most_common(1)[0][0].relative_to(output).with_suffix("")
        raise DatasetError(f"{table.root}: two images are called {twice}, with different endings; rename one.")
    return targets


def _truth(table: ImageTable, rows: IntArray, root: Path, truth: Path | None) -> dict[int, Path]:
    """The true pictures by row: those asked for, or those of a twin that has them for these images; else none."""
    if truth is not None:
        return true_pictures(table, rows, truth)
    manifest = read_manifest(root)
    if manifest is None or manifest.counterparts is None or not manifest.counterparts.complete:
        return {}
    try:
        return true_pictures(table, rows, root / manifest.counterparts.folder)
    except DatasetError:  # of test images
        return {}


def _task(
    experiment: Experiment,
    encoder: Encoder,
    table: ImageTable,
    rows: Mapping[str, IntArray],
    *,
    split: str,
    direction: str,
) -> dict[str, Any]:
    """Everything that decides about the pictures; the root may move."""
    sizes = [table.file(i).stat().st_size for i in range(len(table))]
    return {
        "converter": encoder.fingerprint,
        "method": experiment.method,
        "experiment": experiment.digest(),
        "benchmark": experiment.benchmark.name,
        "split": split,
        "draw": experiment.benchmark.draw,
        "direction": direction,
        "cameras": list(_cameras(experiment)),
        "images": {way: len(own) for way, own in rows.items()},
        "size": [encoder.preprocess.height, encoder.preprocess.width],
        "originals": digest([list(table.paths), sizes]),
    }


def _check_same(output: Path, task: Mapping[str, Any]) -> None:
    """See that ``output`` is new, empty, or the same conversion, begun or whole."""
    marker = output / PROVENANCE
    unfinished = f".{PROVENANCE}."  # being written when the process was killed
    if not output.is_dir() or all(path.name.startswith(unfinished) for path in output.iterdir()):
        return
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        other = [name for name in task if found[name] != task[name]]
    except FileNotFoundError:
        raise DatasetError(f"{output}: holds files that are no conversion's; choose a new or empty folder.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{marker}: damaged; remove {output} or choose another folder.") from error
    if other:
        what = "of another converter" if "converter" in other else f"of another {' and '.join(other)}"
        raise DatasetError(f"{output}: holds conversions {what}; choose another folder.")


def _parts(rows: IntArray, batch: int) -> list[IntArray]:
    """Batches that depend on the rows alone, so that a conversion that is taken up again computes the same."""
    return [rows[first : first + batch] for first in range(0, len(rows), batch)]


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A batch of originals: their rows and sizes, and (b, H, W, 3) uint8 at the network's size."""

    rows: Sequence[int]
    sizes: Sequence[tuple[int, int]]
    pixels: Tensor


class _Work:
    """Reads, converts and writes, each batch while others are read and written."""

    def __init__(
        self, table: ImageTable, targets: Sequence[Path], encoder: Encoder, device: torch.device, workers: int
    ) -> None:
        self._table, self._targets, self._preprocess = table, targets, encoder.preprocess
        self._network, self._device, self._workers = encoder.network.to(device), device, workers

    def convert(self, parts: Sequence[IntArray]) -> None:
        """Make what is missing of these batches."""
        with progress("converting", sum(len(part) for part in parts)) as shown:
            made = self._made(parts)
            with closing(made), closing(ahead(self._write, made, workers=self._workers)) as written:
                for count in written:
                    shown.advance(count)

    def _load(self, part: IntArray) -> _Loaded:
        rows, size = part.tolist(), (self._preprocess.height, self._preprocess.width)
        sizes, resized = [], np.empty((len(rows), *size, 3), np.uint8)
        for out, row in zip(resized, rows, strict=True):
            picture = decode(self._table.file(row))
            sizes.append(cast(tuple[int, int], picture.shape[:2]))
            out[:] = resize(picture, *size)
        return _Loaded(rows, sizes, torch.from_numpy(resized))

    def _made(self, parts: Sequence[IntArray]) -> Generator[tuple[_Loaded, ByteArray], None, None]:
        with closing(ahead(self._load, parts, workers=self._workers)) as batches:
            for batch in batches:
                yield batch, self._converted(batch)

    @torch.inference_mode()
    def _converted(self, batch: _Loaded) -> ByteArray:
        """(b, H, W, 3) uint8 of the other modality."""
        images = normalise(batch.pixels.to(self._device, non_blocking=True), self._preprocess)
        own = torch.from_numpy(self._table.modality[list(batch.rows)])
        made: Tensor = self._network(images, own.to(self._device))
        if made.shape != images.shape:
            raise CheckpointError(
                f"the converter: expected pictures of the shape of its input, {tuple(images.shape)}, it gave "
                f"{tuple(made.shape)}; a ConversionMethod's encoder returns the other modality's pictures."
            )
        pixels = shown(made.float(), self._preprocess)
        pixels = torch.where((own == Modality.VISIBLE).to(self._device).view(-1, 1, 1, 1), _one_channel(pixels), pixels)
        wrong = (~pixels.isfinite()).flatten(1).any(1).cpu().numpy()
        if wrong.any():
            raise EvaluationError(
                f"{self._table.paths[batch.rows[int(wrong.argmax())]]}: the converter gave a picture with NaN or "
                "infinite values; its weights are damaged."
            )
        found: ByteArray = pixels.mul(255).round().clamp(0, 255).byte().cpu().numpy()
        return found

    def _write(self, item: tuple[_Loaded, ByteArray]) -> int:
        batch, pictures = item
        for row, size, picture in zip(batch.rows, batch.sizes, pictures, strict=True):
            if not _whole(self._targets[row]):
                _place(self._targets[row], encode_png(resize(picture, *size)))
        return len(pictures)


def shown(images: Tensor, preprocess: Preprocess) -> Tensor:
    """(B, 3, H, W) network input -> (B, H, W, 3) in 0..1, back from what ``normalise`` did."""
    mean, std = (torch.tensor(values, device=images.device) for values in (preprocess.mean, preprocess.std))
    return images.permute(0, 2, 3, 1) * std + mean


def _one_channel(pixels: Tensor) -> Tensor:
    return pixels.mean(3, keepdim=True).expand_as(pixels)


def _whole(path: Path) -> bool:
    """A picture is put in place in one step, so it is whole if it is there; empty after a power failure at worst."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _place(path: Path, content: bytes) -> None:
    """Not flushed to disk one by one: a lost picture is made again."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"{path} could not be written ({error.strerror or error}); the pictures converted so far are whole. "
            "Free some space and run the same command again."
        ) from error
