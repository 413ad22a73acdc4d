"""Where a command reads and writes: data sets, synthetic twins, the common start, tables; and what lies there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.base import Benchmark
from visir.benchmarks.manifest import FILE, Manifest, read_manifest
from visir.core.config import digest
from visir.core.errors import ConfigError, DatasetError
from visir.reproduce.budget import Budget
from visir.reproduce.locks import FOLDER as LOCKS
from visir.reproduce.locks import hold, tidy
from visir.reproduce.pretraining import pretrained
from visir.reproduce.render import FILES, is_ours
from visir.reproduce.request import Request
from visir.twin import write as write_twin
from visir.twin.cameras import LAYOUTS

TWIN = "synthetic twin"
TWIN_SEED = 1
ROOTS = {"sysu_mm01": "SYSU_MM01", "regdb": "REGDB", "llcm": "LLCM"}  # the environment variables of the shipped files


def check_places(output: Path, document: Path | None) -> None:
    """Raise ConfigError where results could not be written, or would replace what visir did not write."""
    _check_folder("--output", output)
    for path in (output / name for name in FILES):
        if path.exists() and not is_ours(path):
            raise ConfigError(
                f"--output {output}: its {path.name} was not written by visir and would be replaced; give another "
                "folder."
            )
    if document is None:
        return
    if not document.name or document.is_dir():
        raise ConfigError(f"--document {document}: expected the name of a file to write, got a folder.")
    _check_folder("--document", document.parent)
    if document.exists() and not is_ours(document, ".md"):
        raise ConfigError(
            f"--document {document}: was not written by visir and would be replaced; give another name, or move it "
            "away."
        )


def _check_folder(option: str, folder: Path) -> None:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists() or place.is_symlink())
    if not there.is_dir():
        raise ConfigError(f"{option}: expected a folder, {there} is a file; give another place.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{option}: {there} cannot be written; give another place.")


def find_roots(request: Request, needed: set[str], named: Mapping[str, Path], output: Path) -> dict[str, Path]:
    """Benchmark -> the folder of its data set, of those that are needed and at hand; a twin need not be made yet.

    Args:
        request: its roots or twin.
        needed: benchmarks of the rows.
        named: benchmark -> the folder that a file of the user's own gives.
        output: twins lie below it.

    Raises:
        ConfigError: two folders of one data set, or none at all.
        DatasetError: a folder that is no data set, or the wrong one.
    """
    if request.twin:
        return {layout: output / "twins" / layout for layout in LAYOUTS if layout in needed}
    found: dict[str, Path] = {}
    for root in request.roots:
        name = benchmarks.recognise(root).name
        if name in found:
            raise ConfigError(
                f"--root: {found[name]} and {root} are both {benchmarks.find(name).title}; give one of them."
            )
        found[name] = root
    given = list(found)
    for name, root in named.items():
        found.setdefault(name, root)
    for name, variable in ROOTS.items():
        if name in needed and name not in found and os.environ.get(variable):
            found[name] = _recognised(variable, Path(os.environ[variable]), name)
    usable = {name: root for name, root in found.items() if name in needed}
    if not usable and not request.finished:
        other = f", --root gave {_titles(given)}" if given else ""
        raise ConfigError(
            f"no data set at hand: these rows need {_titles(needed)}{other}. Their authors give them on request "
            "(docs/data.md tells how to get them and where the files go); then give --root DIR. Without them, --twin "
            "demo runs every row on a synthetic twin."
        )
    return usable


def _recognised(variable: str, root: Path, name: str) -> Path:
    try:
        found = benchmarks.recognise(root).name
    except DatasetError as error:
        raise DatasetError(f"environment variable {variable}: {error}") from error
    if found != name:
        raise DatasetError(
            f"environment variable {variable}: expected a folder of {benchmarks.find(name).title}, {root} is one of "
            f"{benchmarks.find(found).title}."
        )
    return root


def _titles(names: Iterable[str]) -> str:
    return ", ".join(sorted(benchmarks.find(name).title for name in names))


def make_twin(request: Request, layout: str, output: Path, *, counterparts: bool = False) -> None:
    """Make the synthetic twin of one data set, or what of it is missing; with its counterparts if they are wanted."""
    assert request.twin is not None
    root = output / "twins" / layout
    with hold(output / LOCKS / f"twin-{layout}"):
        if not _is_complete(root):
            tidy(root)
        write_twin(root, layout=layout, size=request.twin, seed=TWIN_SEED, counterparts=counterparts)


def _is_complete(root: Path) -> bool:
    try:
        manifest = read_manifest(root)
    except DatasetError:  # told by who needs it
        return True
    return manifest is not None and manifest.complete


def start_file(budget: Budget | None, output: Path) -> Path | None:
    """The weights that rows start from within a budget, which need not be there yet; None for none."""
    if budget is None or not budget.pretraining or budget.others is None:
        return None
    return output / "pretrained" / f"{budget.backbone}.safetensors"


def make_start(budget: Budget, output: Path) -> None:
    """Make the file of :func:`start_file` if it is missing or damaged."""
    assert budget.others is not None
    with hold(output / LOCKS / "pretrained"):
        tidy(output / "pretrained")
        pretrained(
            output / "pretrained",
            name=budget.backbone,
            height=budget.height,
            width=budget.width,
            images=2 * budget.images,
            steps=budget.pretraining,
            size=budget.others,
        )


def name_data(benchmark: Benchmark, root: Path, draws: int) -> str:
    """What tells one copy of a data set from another: the twin it is, or a digest of its lists, labels and file sizes.

    Raises:
        DatasetError: a part of it is missing or damaged.
    """
    manifest = read_manifest(root)
    twin = None if manifest is None else _twin_name(benchmark, root, manifest)
    tables = [
        benchmark.read(root, split, draw)
        for draw in range(1, min(draws, benchmark.draws) + 1)
        for split in ("trainval", "test")
    ]
    parts = []
    for table in () if twin else tables[:2]:
        sizes = [table.file(i).stat().st_size for i in range(len(table))]
        parts.append([list(table.paths), table.identity.tolist(), table.camera.tolist(), sizes])
    return twin or f"images {digest(parts)}"


def _twin_name(benchmark: Benchmark, root: Path, manifest: Manifest) -> str:
    found = benchmark.count(root)
    wrong = [f"{name}: expected {n:,}, found {found[name]:,}" for name, n in manifest.counts.items()
             if found.get(name, n) != n]  # fmt: skip
    if wrong or not manifest.complete:
        raise DatasetError(
            f"{root}: the synthetic twin is not whole ({wrong[0] if wrong else 'its making was interrupted'}). Remove "
            "the folder, and make it again: 'visir data make', or the same command where it makes its own."
        )
    content = json.loads((root / FILE).read_text(encoding="utf-8"))
    described = [content.get(key) for key in ("layout", "size_details", "version")]
    return f"{TWIN} {content.get('size')}, seed {content.get('seed')}, {digest(described)}"
