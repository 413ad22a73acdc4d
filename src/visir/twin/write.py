"""Writing a twin to disk in the layout of the real set: parallel, resumable, the same bytes every time."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from visir.core.errors import ConfigError, DatasetError, StorageError
from visir.core.files import write_bytes, write_json
from visir.core.progress import progress
from visir.twin.cameras import Layout, check_layout
from visir.twin.picture import World, encoded, picture
from visir.twin.scenes import scene
from visir.twin.world import Plan, Shot, Size, find_size, plan

MANIFEST = "visir-twin.json"
VERSION = 1  # of the pictures: another number, other bytes


def write(
    root: Path | str,
    *,
    layout: str = "sysu_mm01",
    size: str | Size = "demo",
    seed: int = 0,
    workers: int | None = None,
    show_progress: bool = True,
) -> Path:
    """Make a synthetic twin of SYSU-MM01, RegDB or LLCM under ``root``.

    Equal arguments give equal bytes whatever ``workers`` is (threads; the processor's cores by default), with equal
    versions of the libraries on one kind of processor. A run that was stopped, killed included, is taken up again by
    the same call: whole pictures are kept.

    Args:
        layout: ``sysu_mm01``, ``regdb`` or ``llcm``.
        size: ``tiny`` (seconds), ``demo`` (within a minute on two free cores), ``full`` (the real set's counts)
            or a :class:`Size`.

    Returns:
        ``root``.

    Raises:
        DatasetError: ``root`` holds another twin or files that no twin has; nothing was touched.
        ConfigError: no such layout or size.
        StorageError: a file could not be written.
    """
    root, checked = Path(root), check_layout(layout)
    chosen = find_size(checked, size)
    if workers is not None and workers < 1:
        raise ConfigError(f"workers: expected at least 1, got {workers}.")
    contents = plan(seed, checked, chosen)
    manifest = _manifest(checked, size, chosen, seed, contents)
    if _finished(root, manifest):
        return root
    write_json(root / MANIFEST, {**manifest, "complete": False})
    for folder in contents.folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
    world = World(seed, checked, chosen.height, chosen.width, chosen.supersampling)
    _make(root, world, contents, workers or _cores(), show_progress)
    for path, content in contents.files.items():
        write_bytes(root / path, content)
    write_json(root / MANIFEST, {**manifest, "complete": True})
    return root


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _manifest(layout: Layout, size: str | Size, chosen: Size, seed: int, contents: Plan) -> dict[str, Any]:
    name = size if isinstance(size, str) else "custom"
    details = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(chosen).items()}
    details["images"] = [list(limits) for limits in chosen.images]
    return {
        "layout": layout,
        "size": name,
        "size_details": details,
        "seed": seed,
        "version": VERSION,
        "counts": dict(contents.counts),
    }


def _finished(root: Path, manifest: dict[str, Any]) -> bool:
    """Whether this very twin is whole under ``root``; False if it may be begun or continued.

    Raises:
        DatasetError: something else is there.
    """
    if root.exists() and not root.is_dir():
        raise DatasetError(f"{root}: expected a folder, got a file; choose another place for the twin.")
    if not root.is_dir() or not any(root.iterdir()):
        return False
    path = root / MANIFEST
    if not path.is_file():
        inside = ", ".join(sorted(entry.name for entry in root.iterdir())[:4])
        raise DatasetError(f"{root}: holds files that belong to no twin ({inside}); choose an empty or new folder.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        complete = bool(found.pop("complete"))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DatasetError(f"{path}: damaged; remove {root} or choose another folder.") from error
    if found != manifest:
        raise DatasetError(
            f"{root}: holds another twin ({_summary(found)}), asked for was {_summary(manifest)}; "
            "choose another folder."
        )
    return complete


def _summary(manifest: dict[str, Any]) -> str:
    return ", ".join(f"{key} {manifest.get(key)}" for key in ("layout", "size", "seed", "version"))


def _make(root: Path, world: World, contents: Plan, workers: int, show_progress: bool) -> None:
    """Render what is missing."""
    missing = [shot for shot in contents.shots if not _whole(root / shot.path)]
    if not missing:
        return
    for camera in world.cameras.values():  # paint the places before the threads start
        scene(world.seed, camera.kind, camera.place)
    for folder in {str(Path(shot.path).parent) for shot in missing}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    title = f"twin of {world.layout}"
    with progress(title, len(missing)) if show_progress else nullcontext() as shown:
        pool = ThreadPoolExecutor(workers)
        try:
            for _ in pool.map(lambda shot: _render(root, world, shot), missing):
                if shown:
                    shown.advance()
        finally:
            pool.shutdown(cancel_futures=True)


def _whole(path: Path) -> bool:
    """A picture is put in place in one step, so it is whole if it is there; empty after a power failure at worst."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _render(root: Path, world: World, shot: Shot) -> None:
    """Make one picture and put it in place. Not flushed to disk one by one: a lost one is made again."""
    pixels = picture(world, shot.identity, shot.camera, shot.number, spectrum=shot.spectrum)
    path = root / shot.path
    content = encoded(pixels, path.suffix[1:], world.cameras[shot.camera].quality)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"{path} could not be written ({error.strerror or error}); the pictures made so far are whole. "
            "Free some space and run the same command again."
        ) from error
