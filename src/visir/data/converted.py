"""Which converted image belongs to which training image."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from visir.core.errors import DatasetError
from visir.core.types import ImageTable, Modality

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
PROVENANCE = "conversion.json"  # what says of a folder that one network converted what is in it


def converted_images(table: ImageTable, folder: Path, modalities: Sequence[Modality] = tuple(Modality)) -> ImageTable:
    """The table whose row i is image i converted to the other modality.

    Converted images lie below ``folder`` as the real ones below the table's root, with any image suffix. A folder may
    also hold several conversions, each in a folder of its own with a ``conversion.json``, such as one for each pair of
    cameras: an image has one of its conversions there then, chosen by its path, about as many from each.

    Args:
        table: the training images.
        folder: of their conversions.
        modalities: of the images that are wanted converted; the rows of others have an empty path.

    Raises:
        DatasetError: an image without a converted one (the first is named and all are counted), or one that lies
            outside of the data set, so that no place below ``folder`` is its own.
    """
    folders = _folders(folder)
    paths, missing = [], []
    for path, modality in zip(table.paths, table.modality.tolist(), strict=True):
        if modality not in modalities:
            paths.append("")
            continue
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise DatasetError(
                f"{table.root}: its image {path} lies outside of it, so there is no place for a converted one below "
                f"{folder}; 'visir data convert' first copies such a data set into one folder."
            )
        found = _found(path, folder, folders)
        if found is None:
            missing.append(path)
        else:
            paths.append(found)
    if missing:
        wanted = sum(modality in modalities for modality in table.modality.tolist())
        raise DatasetError(
            f"{folder}: expected a converted image for each of the {wanted:,} training images; {len(missing):,} "
            f"are missing, the first is that of {missing[0]}. Convert the same split of the same data set again."
        )
    return replace(table, root=folder, paths=tuple(paths), modality=1 - table.modality)


def _folders(folder: Path) -> tuple[str, ...]:
    """The folders of conversions below ``folder``, which is one itself if it has none."""
    if (folder / PROVENANCE).is_file() or not folder.is_dir():
        return (".",)
    return tuple(sorted(path.parent.name for path in folder.glob(f"*/{PROVENANCE}"))) or (".",)


def _found(path: str, folder: Path, folders: Sequence[str]) -> str | None:
    """The conversion of an image, relative to ``folder``."""
    named = (Path(path), *(Path(path).with_suffix(suffix) for suffix in SUFFIXES))
    found = []
    for part in folders:
        one = next((Path(part) / name for name in named if (folder / part / name).is_file()), None)
        if one is not None:
            found.append(one.as_posix())
    return found[zlib.crc32(path.encode()) % len(found)] if found else None
