"""What a data set should hold: the published counts, or those that a synthetic twin wrote down about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from visir.benchmarks.base import Finding
from visir.core.errors import DatasetError

FILE = "visir-twin.json"


@dataclass(frozen=True)
class Counterparts:
    """What a twin says of the images it has of training images' moments in the other spectrum.

    Attributes:
        folder: below the root, no part of the data set; inside, an image has its original's path.
        complete: whether all of them were written.
    """

    folder: str
    complete: bool = True


@dataclass(frozen=True)
class Manifest:
    """The file ``visir-twin.json`` in the root of a synthetic data set.

    Attributes:
        layout: the benchmark that it imitates.
        counts: what was to be written, by name.
        complete: whether all of it was written.
        counterparts: None where it has none.
    """

    layout: str
    counts: Mapping[str, int]
    complete: bool = True
    counterparts: Counterparts | None = None


def read_manifest(root: Path) -> Manifest | None:
    """The manifest of a synthetic data set; None where there is none, so for every real one.

    Raises:
        DatasetError: the file is there but damaged.
    """
    path = root / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        counts = {str(name): int(value) for name, value in content["counts"].items()}
        beside = content.get("counterparts")
        counterparts = None if beside is None else Counterparts(str(beside["folder"]), bool(beside["complete"]))
        return Manifest(str(content["layout"]), counts, bool(content.get("complete", True)), counterparts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DatasetError(
            f"{path}: expected JSON with 'layout' and 'counts', it is damaged; make the synthetic data set again."
        ) from error


def differences(root: Path, found: Mapping[str, int], published: Mapping[str, int]) -> list[Finding]:
    """A warning for every name whose count differs from the manifest's or, without a manifest, the published one."""
    try:
        manifest = read_manifest(root)
    except DatasetError as error:
        return [Finding("warning", str(error))]
    expected = published if manifest is None else manifest.counts
    repair = "Unpack the archive again; scores on other images are not comparable with published ones."
    if manifest is not None:
        repair = "Run 'visir data make' again for an empty folder."
    return [
        Finding("warning", f"{name}: expected {expected[name]:,}, found {count:,}.", repair)
        for name, count in found.items()
        if name in expected and expected[name] != count
    ]
