"""Split lists of RegDB and LLCM: one line is a path below the root, a space and a label."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from visir.benchmarks._files import list_images
from visir.core.errors import DatasetError

AGAIN = "Copy the list again from where the data set came from."


@dataclass(frozen=True, slots=True)
class Listed:
    """One line: ``path`` as it lies on disk ("/" separated), and the number of its identity folder."""

    path: str
    identity: int


@dataclass
class Labels:
    """Which identity folder each label stands for. Labels are local to a pair of lists, so each pair has its own."""

    folder_of: dict[int, int] = field(default_factory=dict)
    label_of: dict[int, int] = field(default_factory=dict)

    def agree(self, label: int, identity: int) -> bool:
        """Note that ``label`` stands for folder ``identity``; False if either already stands for another."""
        return (
            self.folder_of.setdefault(label, identity) == identity
            and self.label_of.setdefault(identity, label) == label
        )


@dataclass
class Shelf:
    """Which images exist below ``root``, one folder listing for each folder asked about.

    A list may name ``a.bmp`` where the folder has ``a.png``: a converted copy of the same picture.
    """

    root: Path
    _seen: dict[str, dict[str, str]] = field(default_factory=dict)

    def find(self, path: str) -> str | None:
        """``path``, or its sibling with another image suffix, or None."""
        folder, _, name = path.rpartition("/")
        if folder not in self._seen:
            images, _ = list_images(self.root / folder)
            stems = {image.stem: image.name for image in images}
            self._seen[folder] = stems | {image.name: image.name for image in images}
        known = self._seen[folder]
        found = known.get(name) or known.get(Path(name).stem)
        return f"{folder}/{found}" if found else None


def read_list(shelf: Shelf, file: Path, top: str, labels: Labels) -> list[Listed]:
    """Read one list of lines ``<top>/<identity>/<image> <label>``, in its order; empty lines are passed over.

    Args:
        shelf: tells which images exist.
        file: the list.
        top: the folder that every path starts with, such as ``Visible``.
        labels: filled with what each label stands for; give both modalities of a split the same one.

    Raises:
        DatasetError: the list is missing, empty or not UTF-8, or a line has another form, names no image, or gives a
            label to a second identity; file and line are named.
    """
    try:
        lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except FileNotFoundError as error:
        raise DatasetError(f"{file}: the split list is missing. {AGAIN}") from error
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror or error}).") from error
    rows: list[Listed] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            path, identity, label = _parse(line, f"{file}, line {number}", top)
            rows.append(Listed(_existing(shelf, path, f"{file}, line {number}"), identity))
            _check_label(labels, label, identity, f"{file}, line {number}")
    if not rows:
        raise DatasetError(f"{file}: expected lines '{top}/<identity>/<image> <label>', got an empty file. {AGAIN}")
    return rows


def _parse(line: bytes, place: str, top: str) -> tuple[str, int, int]:
    form = f"'{top}/<identity>/<image> <label>'"
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{place}: expected UTF-8 text {form}, got other bytes. {AGAIN}") from error
    path, _, label = text.rpartition(" ")
    parts = path.strip().replace("\\", "/").removeprefix("./").split("/")
    if len(parts) != 3 or parts[0] != top or not parts[1].isdecimal():
        raise DatasetError(f"{place}: expected {form}, got {text[:80]!r}. {AGAIN}")
    if not label.isdecimal():
        raise DatasetError(f"{place}: expected a whole number as label, got {label[:40]!r}. {AGAIN}")
    return "/".join(parts), int(parts[1]), int(label)


def _existing(shelf: Shelf, path: str, place: str) -> str:
    found = shelf.find(path)
    if found is None:
        raise DatasetError(f"{place}: names {path}, which is not below {shelf.root}; unpack the archive again.")
    return found


def _check_label(labels: Labels, label: int, identity: int, place: str) -> None:
    if not labels.agree(label, identity):
        raise DatasetError(
            f"{place}: label {label} and folder {identity} do not belong together; elsewhere in this split label "
            f"{label} is folder {labels.folder_of[label]}. {AGAIN}"
        )
