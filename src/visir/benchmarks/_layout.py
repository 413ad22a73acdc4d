"""What the readers share: exact folder names, the hold-out of training identities, findings about folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from visir.benchmarks._files import list_images
from visir.benchmarks.base import Finding, Split
from visir.core.errors import ConfigError, DatasetError, nearest
from visir.core.seeds import generator
from visir.core.types import BoolArray, ImageTable, Modality

HELD_OUT = 0.15  # share of the training identities that become the validation split
Strays = list[Path]


def names(folder: Path) -> frozenset[str]:
    """The exact names inside ``folder``, also where the file system ignores case; empty for a file or nothing."""
    try:
        return frozenset(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in ``folder``, hidden ones left out, sorted by name; empty where there is no such folder."""
    return sorted(folder / name for name in names(folder) if not name.startswith(".") and (folder / name).is_dir())


def require_folders(root: Path, title: str, needed: Sequence[str]) -> None:
    """Raise a DatasetError that tells what the root holds instead, unless all ``needed`` folders are there."""
    missing = [name for name in needed if not (root / name).is_dir()]
    if not missing:
        return
    inside = ", ".join(sorted(names(root))[:8]) or "nothing"
    raise DatasetError(
        f"{root / missing[0]}: no such folder. The root of {title} must hold {', '.join(needed)}; it holds {inside}. "
        f"Is the root one level too high or too low? Try 'visir data doctor {root}'."
    )


def check_request(title: str, split: str, draw: int, draws: int) -> None:
    """Raise a ConfigError for a split or a draw that does not exist."""
    if split not in get_args(Split):
        raise ConfigError(f"{title}: unknown split {split!r}. {nearest(split, get_args(Split))}")
    if not 1 <= draw <= draws:
        raise ConfigError(f"{title}: expected a draw from 1 to {draws}, got {draw}.")


def both_modalities(table: ImageTable) -> list[int]:
    """The identities that have visible and infrared images, ascending."""
    visible, infrared = (set(table.identity[table.modality == modality].tolist()) for modality in Modality)
    return sorted(visible & infrared)


def hold_out(table: ImageTable, split: Split, *, name: str, draw: int = 1) -> ImageTable:
    """Part the training images ``table`` by identity into ``train`` and ``validation``; ``trainval`` is all of it.

    The data set has no validation split of its own, so :data:`HELD_OUT` of the identities seen in both modalities (at
    least two, never all) are drawn by a generator that depends on ``name`` and ``draw`` alone.

    Raises:
        DatasetError: fewer than three identities have images in both modalities.
    """
    if split == "trainval":
        return table
    able = both_modalities(table)
    if len(able) < 3:
        raise DatasetError(
            f"{table.root}: holding out a validation split needs at least 3 identities with visible and infrared "
            f"images, got {len(able)}. Use the split 'trainval'."
        )
    count = max(2, round(HELD_OUT * len(able)))
    held = generator(0, f"{name} validation identities", draw).permutation(able)[:count]
    mask: BoolArray = np.isin(table.identity, held)
    return table.take(mask if split == "validation" else ~mask)


def stray_findings(strays: Sequence[Path], *, drawn: bool) -> list[Finding]:
    """One finding for files that are no images; ``drawn``: published code draws from listings of these folders."""
    if not strays:
        return []
    shown = ", ".join(sorted({path.name for path in strays})[:5])
    what = f"Stray files among the images: {len(strays):,} ({shown})."
    if drawn:
        what += " visir leaves them out, but published code draws from the folder listing: its galleries then differ."
    return [Finding("warning", what, "Delete them; file browsers and archivers leave them behind.", str(strays[0]))]


def nesting_findings(folder: Path, *, depth: int = 1) -> list[Finding]:
    """Images that lie above or below ``folder``/<identity>/, or below further levels when ``depth`` is more than 1."""
    loose, strays = list_images(folder)
    found = stray_findings(strays, drawn=False)
    if loose:
        found.append(
            Finding(
                "error",
                f"Images directly in {folder.name}: {len(loose):,}; expected one folder for each identity.",
                f"Move them to {folder.name}/<identity>/.",
                str(loose[0]),
            )
        )
    for inner in subfolders(folder):
        if depth > 1:
            found += nesting_findings(inner, depth=depth - 1)
            continue
        deep = subfolders(inner)
        if deep:
            repair = f"Move its content up one level; the data set has {folder.name}/<identity>/<image>."
            found.append(Finding("error", f"{inner.name} in {folder.name} holds folders.", repair, str(deep[0])))
    return found


def count_images(folders: Iterable[Path]) -> tuple[int, Strays]:
    """The number of images directly in the given folders, and their stray files."""
    total, strays = 0, Strays()
    for folder in folders:
        images, odd = list_images(folder)
        total += len(images)
        strays += odd
    return total, strays
