"""The doctor: which data set lies in a folder, whether it is whole, what is wrong with it, and what mends it."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from visir.benchmarks import catalog
from visir.benchmarks.base import Benchmark, Finding, Severity, Split
from visir.benchmarks.manifest import Manifest, read_manifest
from visir.core.errors import DatasetError, ImageError
from visir.core.progress import track
from visir.core.types import ImageTable, Modality
from visir.data.images import decode, is_image

PART = re.compile(r"cam\d+|exp|idx|vis|nir|test_vis|test_nir|visible|infrared|thermal", re.IGNORECASE)
LOOKED_INTO = 64  # sub-folders looked into when the root itself is like nothing
UNREADABLE_SHOWN = 50
ORDER: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True)
class Count:
    """One line of the table; ``found`` or ``expected`` is None where it cannot be counted or was never published."""

    name: str
    found: int | None
    expected: int | None


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says.

    Attributes:
        root: as asked.
        located: where the data set really lies; another folder than ``root`` when it is nested wrongly.
        benchmark: its name, such as ``regdb``.
        title: as the literature writes it.
        synthetic: whether it is a twin with a manifest of its own, which then gives the expected counts.
        counts: what was counted beside what was published.
        findings: errors first, then warnings, then notes.
        images_checked: how many image files were decoded; None when that was not asked for.
    """

    root: Path
    located: Path
    benchmark: str
    title: str
    synthetic: bool
    counts: tuple[Count, ...]
    findings: tuple[Finding, ...]
    images_checked: int | None

    @property
    def usable(self) -> bool:
        """Whether there is no error; warnings and notes do not keep a data set from being used."""
        return not any(finding.severity == "error" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Mappings, lists, strings and numbers, for JSON."""
        content = asdict(self) | {"root": str(self.root), "located": str(self.located), "usable": self.usable}
        return content | {"counts": list(content["counts"]), "findings": list(content["findings"])}


def examine(root: Path, *, images: bool = True, workers: int | None = None) -> Diagnosis:
    """Recognise the data set in ``root``, count it, and look for everything that would spoil a result.

    Args:
        root: its folder, the folder around it, one of its own parts, or a table file of images.
        images: decode every image, with progress on the error stream.
        workers: threads that decode; by default one for each core.

    Raises:
        DatasetError: no such folder, or nothing in it or directly around it is like a known data set.
    """
    located, benchmark = _locate(root)
    manifest, findings = _manifest(located)
    findings += [*_nesting(root, located, benchmark, manifest), *benchmark.inspect(located)]
    tables, unread = _read_all(benchmark, located)
    if not any(finding.severity == "error" for finding in findings):
        findings += unread  # else they repeat what was found
    findings += _one_sided(tables)
    checked = None
    if images:
        files = _image_files(located, tables)
        findings += _unreadable(files, workers)
        checked = len(files)
    return Diagnosis(
        root,
        located,
        benchmark.name,
        benchmark.title,
        synthetic=manifest is not None,
        counts=_counts(benchmark, located, manifest),
        findings=tuple(sorted(dict.fromkeys(findings), key=lambda finding: ORDER.index(finding.severity))),
        images_checked=checked,
    )


def _locate(root: Path) -> tuple[Path, Benchmark]:
    """The data set around ``root`` when it is one of its parts, else at ``root``, else up to two levels below it."""
    whole = root.absolute()
    while root.is_dir() and PART.fullmatch(whole.name):
        whole = whole.parent
    around = _recognised([whole]) if whole != root.absolute() else None
    if around is not None and around[1].name != "folder":
        return around  # before the root: test_vis of LLCM alone has the cameras of SYSU-MM01
    try:
        return root, catalog.recognise(root)
    except DatasetError:
        below = (inner for folder in _folders(root) for inner in (folder, *_folders(folder)))
        elsewhere = _recognised(below) or around
        if elsewhere is None:
            raise
        return elsewhere


def _recognised(folders: Iterable[Path]) -> tuple[Path, Benchmark] | None:
    for folder in folders:
        with contextlib.suppress(DatasetError):
            return folder, catalog.recognise(folder)
    return None


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))[:LOOKED_INTO]


def _nesting(root: Path, located: Path, benchmark: Benchmark, manifest: Manifest | None) -> list[Finding]:
    if located != root:
        level = "below" if located.is_relative_to(root) else "above"
        what = f"{benchmark.title} lies {level} the given folder, in {located}."
        return [Finding("error", what, f"Give {located} as root.", str(located))]
    if not root.is_dir():
        return []
    beside = manifest.counterparts.folder if manifest and manifest.counterparts else ""  # laid out alike, on purpose
    inside = [folder for folder in _folders(root) if folder.name != beside and benchmark.recognise(folder)]
    return [
        Finding(
            "error",
            f"{folder.name} in the root looks like {benchmark.title} itself: it was unpacked one level too deep.",
            f"Move the content of {folder} up one level, or give that folder as root if it is a whole copy.",
            str(folder),
        )
        for folder in inside
    ]


def _read_all(benchmark: Benchmark, located: Path) -> tuple[list[ImageTable], list[Finding]]:
    """The training and test tables of the first draw, and what kept one from being read.

    A data set of which one half can be read is of use for that half.
    """
    tables: list[ImageTable] = []
    failed: list[str] = []
    parts: tuple[Split, ...] = ("trainval", "test")
    for split in parts:
        try:
            tables.append(benchmark.read(located, split, 1))
        except DatasetError as error:
            failed.append(str(error))
    severity: Severity = "warning" if tables else "error"
    return tables, [Finding(severity, what) for what in failed]


def _one_sided(tables: Iterable[ImageTable]) -> list[Finding]:
    """People who can neither be matched nor paired, because only one modality saw them."""
    people = {modality: set[int]() for modality in Modality}
    for table in tables:
        for modality in Modality:
            people[modality] |= set(table.of(modality).identities().tolist())
    found: list[Finding] = []
    for modality in Modality:
        alone = sorted(people[modality] - people[modality.other])
        if alone:
            shown = ", ".join(str(identity) for identity in alone[:5]) + (" ..." if len(alone) > 5 else "")
            kind, other = modality.name.lower(), modality.other.name.lower()
            what = f"Identities with {kind} images only: {len(alone)} ({shown}); as queries they match nothing."
            found.append(Finding("warning", what, f"Add their {other} images, or leave them out."))
    return found


def _counts(benchmark: Benchmark, located: Path, manifest: Manifest | None) -> tuple[Count, ...]:
    expected = benchmark.published if manifest is None else manifest.counts
    found = benchmark.count(located)
    return tuple(Count(name, found.get(name), expected.get(name)) for name in dict.fromkeys([*found, *expected]))


def _manifest(located: Path) -> tuple[Manifest | None, list[Finding]]:
    try:
        manifest = read_manifest(located)
    except DatasetError as error:
        return Manifest("", {}), [Finding("warning", str(error))]
    repair = "Run the same 'visir data make' again; it goes on where it stopped."
    if manifest is not None and not manifest.complete:
        return manifest, [Finding("error", "This synthetic data set is unfinished: images may be missing.", repair)]
    if manifest is not None and manifest.counterparts and not manifest.counterparts.complete:
        return manifest, [Finding("note", "The counterparts of its training images are unfinished.", repair)]
    return manifest, []


def _image_files(located: Path, tables: Iterable[ImageTable]) -> list[Path]:
    """Every image below the data set's folder, and those of its tables that lie elsewhere."""
    files = {table.file(i) for table in tables for i in range(len(table))}
    if located.is_dir():
        files |= set(_walk(located))
    return sorted(files)


def _walk(folder: Path) -> Iterator[Path]:
    for place, _, inside in os.walk(folder):
        for name in inside:
            path = Path(place) / name
            if is_image(path):
                yield path


def _unreadable(files: Sequence[Path], workers: int | None) -> list[Finding]:
    found: list[Finding] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # the decoder changes this process-wide state too; restored when all are done
        reasons = pool.map(_reason, files)  # Pillow decodes without the interpreter's lock
        for path, reason in track(zip(files, reasons, strict=True), "reading images", len(files)):
            if reason:
                found.append(Finding("error", reason, "Copy it again from the archive, or leave it out.", str(path)))
    more = len(found) - UNREADABLE_SHOWN
    if more > 0:
        what = f"Further images that cannot be read: {more:,}."
        found[UNREADABLE_SHOWN:] = [Finding("error", what, "The archive itself may be damaged; fetch it again.")]
    return found


def _reason(path: Path) -> str:
    try:
        decode(path)
    except ImageError as error:
        return str(error)
    return ""


def format_diagnosis(diagnosis: Diagnosis) -> str:
    """The diagnosis as text: what it is, the table of counts, then each finding with its repair."""
    kind = "a synthetic twin of " if diagnosis.synthetic else ""
    lines = [f"{diagnosis.located}: {kind}{diagnosis.title}", ""]
    source = "written" if diagnosis.synthetic else "published"
    if diagnosis.counts:
        width = max(len(count.name) for count in diagnosis.counts)
        lines.append(f"{'':{width}}  {'found':>9}  {source:>9}")
        lines += [_line(count, width) for count in diagnosis.counts]
        lines.append("")
    for finding in diagnosis.findings:
        place = "" if not finding.path or finding.path in finding.what else f" [{finding.path}]"
        lines.append(f"{finding.severity}: {finding.what}{place}")
        if finding.repair:
            lines.append(f"    repair: {finding.repair}")
    lines.append(_verdict(diagnosis))
    return "\n".join(lines)


def _line(count: Count, width: int) -> str:
    numbers = ("-" if value is None else f"{value:,}" for value in (count.found, count.expected))
    found, expected = numbers
    differs = count.found is not None and count.expected is not None and count.found != count.expected
    return f"{count.name:{width}}  {found:>9}  {expected:>9}{'  differs' if differs else ''}"


def _verdict(diagnosis: Diagnosis) -> str:
    tally = ", ".join(
        f"{n} {severity}{'' if n == 1 else 's'}"
        for severity in ORDER
        if (n := sum(finding.severity == severity for finding in diagnosis.findings))
    )
    looked = "images not looked at" if diagnosis.images_checked is None else f"{diagnosis.images_checked:,} images read"
    state = "ready to use" if diagnosis.usable else "must be mended before use"
    return f"{state}: {tally or 'nothing wrong'}, {looked}."
