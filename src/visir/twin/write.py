"""Writing a twin to disk in the layout of the real set: parallel, resumable, the same bytes every time."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from visir.core.errors import ConfigError, DatasetError, StorageError
from visir.core.files import write_bytes, write_json
from visir.core.progress import progress
from visir.twin.cameras import Layout, check_layout
from visir.twin.picture import World, encoded, picture
from visir.twin.scenes import scene
from visir.twin.world import COUNTERPARTS, Plan, Shot, Size, find_size, plan
from visir.twin.world import counterparts as plan_counterparts

MANIFEST = "visir-twin.json"
VERSION = 1  # of the pictures: another number, other bytes


def write(
    root: Path | str,
    *,
    layout: str = "sysu_mm01",
    size: str | Size = "demo",
    seed: int = 0,
    counterparts: bool = False,
    workers: int | None = None,
    show_progress: bool = True,
) -> Path:
    """Make a synthetic twin of SYSU-MM01, RegDB or LLCM under ``root``.

    Equal arguments give equal bytes whatever ``workers`` is (threads; the processor's cores by default), with equal
    versions of the libraries on one kind of processor. A run that was stopped, killed included, is taken up again by
    the same call: whole pictures are kept.

    Counterparts show what no real data set has: the moment of every training image (of RegDB all, each is one in some
    partition), by the same lens, in the other spectrum. They lie in ``counterparts/`` under the image's own path; the
    data set beside them is the same with and without. A whole twin gets them without being made again.

    Args:
        layout: ``sysu_mm01``, ``regdb`` or ``llcm``.
        size: ``tiny`` (seconds), ``demo`` (within a minute on two free cores), ``full`` (the real set's counts)
            or a :class:`Size`.
        counterparts: make them too.

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
    beside = plan_counterparts(checked, contents)
    manifest = _manifest(checked, size, chosen, seed, contents)
    state = _found(root, manifest)
    if state.whole and (state.paired or not counterparts):
        return root
    state = replace(state, paired=bool(state.paired) if counterparts else state.paired)
    _note(root, manifest, state, beside)
    world = World(seed, checked, chosen.height, chosen.width, chosen.supersampling)
    threads = workers or _cores()
    if not state.whole:
        for folder in contents.folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
        _make(root, world, contents.shots, threads, f"twin of {checked}" if show_progress else "")
        for path, content in contents.files.items():
            write_bytes(root / path, content)
        _note(root, manifest, replace(state, whole=True), beside)
    if counterparts:
        _make(root, world, beside, threads, f"counterparts of {checked}" if show_progress else "")
        _note(root, manifest, _State(True, True), beside)
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


@dataclass(frozen=True)
class _State:
    """What of a twin is there: all its files; all its counterparts, None where they were never asked for."""

    whole: bool = False
    paired: bool | None = None


def _note(root: Path, manifest: dict[str, Any], state: _State, beside: Sequence[Shot]) -> None:
    """Write down what there is to be and what of it is there."""
    section = {"folder": COUNTERPARTS, "images": len(beside), "complete": state.paired}
    extra = {} if state.paired is None else {COUNTERPARTS: section}
    write_json(root / MANIFEST, {**manifest, **extra, "complete": state.whole})


def _found(root: Path, manifest: dict[str, Any]) -> _State:
    """How much of this very twin is under ``root``, to be begun or continued.

    Raises:
        DatasetError: something else is there.
    """
    if root.exists() and not root.is_dir():
        raise DatasetError(f"{root}: expected a folder, got a file; choose another place for the twin.")
    if not root.is_dir() or not any(root.iterdir()):
        return _State()
    path = root / MANIFEST
    if not path.is_file():
        inside = ", ".join(sorted(entry.name for entry in root.iterdir())[:4])
        raise DatasetError(f"{root}: holds files that belong to no twin ({inside}); choose an empty or new folder.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        section = found.pop(COUNTERPARTS, None)
        state = _State(bool(found.pop("complete")), None if section is None else bool(section["complete"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: damaged; remove {root} or choose another folder.") from error
    if found != manifest:
        raise DatasetError(
            f"{root}: holds another twin ({_summary(found)}), asked for was {_summary(manifest)}; "
            "choose another folder."
        )
    return state


def _summary(manifest: dict[str, Any]) -> str:
    return ", ".join(f"{key} {manifest.get(key)}" for key in ("layout", "size", "seed", "version"))


def _make(root: Path, world: World, shots: Sequence[Shot], workers: int, title: str) -> None:
    """Render what is missing; with a title the progress is shown."""
    missing = [shot for shot in shots if not _whole(root / shot.path)]
    if not missing:
        return
    for camera in world.cameras.values():  # paint the places before the threads start
        scene(world.seed, camera.kind, camera.place)
    for folder in {str(Path(shot.path).parent) for shot in missing}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    with progress(title, len(missing)) if title else nullcontext() as shown:
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
    pixels = picture(world, shot.identity, shot.camera, shot.number, spectrum=shot.spectrum, optics=shot.optics)
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
