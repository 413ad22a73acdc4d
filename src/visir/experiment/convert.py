"""Any known data set in the plain form of the ``folder`` benchmark: copied images, or only a table that names them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from visir.benchmarks import catalog
from visir.benchmarks.base import Benchmark, Split
from visir.benchmarks.folder import CONVERSION, FOLDERS
from visir.core.config import digest
from visir.core.errors import ConfigError, DatasetError, StorageError, nearest
from visir.core.files import atomic_write, write_json, write_text
from visir.core.progress import track
from visir.core.types import ImageTable, Modality

Form = Literal["folder", "table"]
COLUMNS = ("path", "identity", "camera", "modality", "time", "track", "exclude", "split")


def convert(
    root: Path, output: Path, *, to: str = "folder", split: str = "test", draw: int = 1, link: bool = False
) -> Path:
    """Write one split of a known data set so that the ``folder`` benchmark reads the same table from it.

    ``folder`` makes ``visible/<identity>/*``, ``infrared/<identity>/*`` and, last, an ``index.csv`` that keeps cameras,
    times, order and splits. Stopped at any moment, the same call goes on where it was. ``table`` copies no image and
    writes only the table; its paths are relative where the images lie below it, else absolute.

    Args:
        root: folder of the data set.
        output: a new or empty folder, or an unfinished one of the same conversion; for ``table`` also the name of a
            ``.csv`` or ``.parquet`` file.
        to: ``folder`` or ``table``.
        split: ``train``, ``validation``, ``trainval``, ``test``, or ``all`` for the whole data set with its splits.
        draw: train/test partition, for RegDB 1 to 10.
        link: make symbolic links in place of copies.

    Returns:
        the folder or file that was written.

    Raises:
        ConfigError: an unknown form or split.
        DatasetError: the data set cannot be read, or ``output`` holds something else.
        StorageError: the disk is full or cannot be written; nothing of the data set was touched.
    """
    if to not in get_args(Form):
        raise ConfigError(f"to: unknown form {to!r}. {nearest(to, get_args(Form))}")
    benchmark = catalog.recognise(root)
    if to == "folder" and root.resolve() in output.resolve().parents:
        raise DatasetError(f"{output}: lies inside the data set {root}; give a folder outside of it.")
    table, splits = _read(benchmark, root, split, draw)
    if to == "table":
        return _write_table(table, splits, output)
    task = {
        "benchmark": benchmark.name,
        "source": str(root.resolve()),
        "split": split,
        "draw": draw,
        "link": link,
        "images": len(table),
        "rows": digest(table.paths),
    }
    return _write_folder(table, splits, output, task)


def _read(benchmark: Benchmark, root: Path, split: str, draw: int) -> tuple[ImageTable, list[str]]:
    """The rows to write, and the split that each belongs to."""
    known = (*get_args(Split), "all")
    if split not in known:
        raise ConfigError(f"split: unknown split {split!r}. {nearest(split, known)}")
    wanted = ["trainval", "test"] if split == "all" else [split]
    tables = [benchmark.read(root, cast(Split, part), draw) for part in wanted]
    splits: list[str] = []
    for part, table in zip(wanted, tables, strict=True):
        if part == "trainval":
            held = set(benchmark.read(root, "validation", draw).paths)
            splits += ["validation" if path in held else "train" for path in table.paths]
        else:
            splits += [part] * len(table)
    if len(tables) == 2 and not set(tables[0].paths).isdisjoint(tables[1].paths):
        raise DatasetError(f"{root}: has no splits of its own, so 'all' would hold images twice; convert 'test'.")
    return _joined(tables), splits


def _joined(tables: Sequence[ImageTable]) -> ImageTable:
    return ImageTable.from_records(tables[0].root, [table.row(i) for table in tables for i in range(len(table))])


def _write_table(table: ImageTable, splits: Sequence[str], output: Path) -> Path:
    suffix = output.suffix.lower()
    file = output if suffix in (".csv", ".parquet") and not output.is_dir() else output / "index.csv"
    home, base = file.parent.resolve(), table.root.resolve()
    sources = [base / path for path in table.paths]
    paths = [(path.relative_to(home) if path.is_relative_to(home) else path).as_posix() for path in sources]
    if file.suffix.lower() == ".parquet":
        _write_parquet(table, paths, splits, _unused(file))
        return file
    text = _csv(table, paths, splits)
    if file.is_file() and file.read_bytes() == text.encode():
        return file
    write_text(_unused(file), text)
    return file


def _unused(file: Path) -> Path:
    if file.exists():
        raise DatasetError(f"{file}: exists already and is not overwritten; remove it or choose another name.")
    return file


def _csv(table: ImageTable, paths: Sequence[str], splits: Sequence[str], **more: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *more])
    writer.writerows(zip(*_columns(table, paths, splits), *more.values(), strict=True))
    return out.getvalue()


def _columns(table: ImageTable, paths: Sequence[str], splits: Sequence[str]) -> list[Iterable[object]]:
    modality = [FOLDERS[Modality(value)] for value in table.modality.tolist()]
    identity, camera, exclude = (column.tolist() for column in (table.identity, table.camera, table.exclude))
    return [paths, identity, camera, modality, table.taken_at, table.track, exclude, splits]


def _write_parquet(table: ImageTable, paths: Sequence[str], splits: Sequence[str], file: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DatasetError(f"{file}: writing Parquet needs pyarrow: pip install 'visir[search]'.") from error
    columns = zip(COLUMNS, _columns(table, paths, splits), strict=True)
    with atomic_write(file) as handle:
        pq.write_table(pa.table({name: list(values) for name, values in columns}), handle)


def _write_folder(table: ImageTable, splits: Sequence[str], output: Path, task: dict[str, object]) -> Path:
    paths = _plain_paths(table)
    text = _csv(table, paths, splits, source=table.paths)
    _claim(output, task)
    if (output / "index.csv").is_file() and (output / "index.csv").read_bytes() == text.encode():
        return output
    for i in track(range(len(table)), "copying", len(table)):
        _place(table.file(i), output / paths[i], link=bool(task["link"]))
    write_text(output / "index.csv", text)
    return output


def _plain_paths(table: ImageTable) -> list[str]:
    """``visible/0006/0006_c1_000123.jpg``: identity, camera and row, so no two share a name and sorting keeps order."""
    paths: list[str] = []
    for i in range(len(table)):
        row = table.row(i)
        name = f"{row.identity:04d}_c{row.camera}_{i:06d}{Path(row.path).suffix.lower()}"
        paths.append(f"{FOLDERS[row.modality]}/{row.identity:04d}/{name}")
    return paths


def _claim(output: Path, task: dict[str, object]) -> None:
    """Make ``output`` ours, or see that it is already the same unfinished or finished conversion."""
    marker = output / CONVERSION
    if output.exists() and not output.is_dir():
        raise DatasetError(f"{output}: expected a folder to write to, got a file.")
    unfinished = f".{CONVERSION}."  # a marker that was being written when the process was killed
    if not output.is_dir() or all(path.name.startswith(unfinished) for path in output.iterdir()):
        write_json(marker, task)
        return
    try:
        same = json.loads(marker.read_text(encoding="utf-8")) == task
    except (OSError, ValueError):
        same = False
    if not same:
        raise DatasetError(f"{output}: holds something else, which is not overwritten; choose a new or empty folder.")


def _place(source: Path, target: Path, *, link: bool) -> None:
    """Copy or link one image, whole or not at all; one that is already there is left as it is."""
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return
    temporary = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        if link:
            temporary.symlink_to(source.resolve())
        else:
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"{target} could not be written ({error.strerror or error}); what was copied is kept. "
            "Free some space and run the same command again."
        ) from error
