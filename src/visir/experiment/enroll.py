"""From data sets, folders and single pictures to what a gallery stores of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.base import Split
from visir.core.config import plain
from visir.core.errors import DatasetError, GalleryError
from visir.core.types import ImageTable, Modality
from visir.data.images import is_image
from visir.engine.embedder import Embedder
from visir.engine.runtime import choose_device
from visir.gallery.entry import Entry
from visir.gallery.folder import GalleryFolder
from visir.gallery.service import SearchService
from visir.gallery.store import Settings, create_store, open_store


@dataclass(frozen=True)
class Known:
    """What is known of pictures that no data set describes.

    Attributes:
        modality: the spectrum of all of them; needed.
        camera, identity, taken_at, track: as in :class:`visir.gallery.entry.Entry`.
    """

    modality: Modality | None = None
    camera: int | None = None
    identity: str | None = None
    taken_at: str | None = None
    track: str | None = None


@dataclass
class Pictures:
    """Files with their entries, in step."""

    paths: list[Path] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    def add(self, path: Path, entry: Entry) -> None:
        """One more."""
        self.paths.append(path)
        self.entries.append(entry)


def collect(sources: Sequence[Path], known: Known, *, split: Split = "test", draw: int = 1) -> Pictures:
    """The pictures of data sets (their own labels), folders and files (what ``known`` says).

    With ``known.modality`` a folder is taken as plain pictures, whatever it looks like; without it, it must be a data
    set that visir recognises, of which ``known.camera`` then picks one camera.

    Raises:
        DatasetError: nothing there, pictures of an unknown modality, or labels given for a data set that has its own.
    """
    found = Pictures()
    for source in sources:
        if not source.exists():
            raise DatasetError(f"{source}: no such file or folder.")
        if known.modality is None and (source.is_dir() or not is_image(source)):
            _of_data_set(benchmarks.recognise(source).read(source, split, draw), known, found)
            continue
        if known.modality is None:
            raise DatasetError(f"{source}: is it visible or infrared? Give --modality.")
        files = sorted(p for p in source.rglob("*") if p.is_file() and is_image(p)) if source.is_dir() else [source]
        if not files:
            raise DatasetError(f"{source}: expected pictures, found none.")
        for file in files:
            place = str(file.absolute())
            found.add(file, Entry(place, known.modality, known.camera, known.identity, known.taken_at, known.track))
    return found


def _of_data_set(table: ImageTable, known: Known, found: Pictures) -> None:
    given = [name for name in ("identity", "taken_at", "track") if getattr(known, name) is not None]
    if given:
        raise DatasetError(
            f"{table.root}: a data set has its own labels, so {', '.join(given)} cannot be given; with --modality it "
            "is taken as plain pictures."
        )
    rows = [i for i in range(len(table)) if known.camera in (None, int(table.camera[i]))]
    if not rows:
        cameras = ", ".join(str(camera) for camera in sorted(set(table.camera.tolist())))
        raise DatasetError(f"{table.root}: expected pictures of camera {known.camera}, it has cameras {cameras}.")
    for i in rows:
        found.add(table.file(i), Entry.of(table.row(i), str(table.file(i).absolute())))


def open_service(
    gallery: Path,
    encoder: Path | None,
    *,
    device: str | None = None,
    user: str | None = None,
    create: bool = False,
    thumbnails: bool = False,
) -> SearchService:
    """The search service of a gallery folder and a trained encoder.

    Args:
        gallery: folder of the gallery.
        encoder: run folder or encoder file; None to list, count and remove only.
        device: None for a GPU where there is one.
        user: name for the log of accesses.
        create: make the gallery if there is none, or only what a creation left that was cut short.
        thumbnails: a new gallery keeps small pictures.

    Raises:
        GalleryError: no gallery there, or one of another encoder; or, with ``create``, something else is there.
        CheckpointError: no encoder there.
    """
    embedder = Embedder.open(encoder, device=choose_device(device)) if encoder else None
    if create and not GalleryFolder(gallery).exists():
        if embedder is None:
            raise GalleryError(f"{gallery}: a new gallery needs the encoder that fills it; give --encoder RUN.")
        settings = Settings(embedder.fingerprint, embedder.dim, plain(embedder.preprocess), thumbnails)
        try:
            return SearchService(embedder, create_store(gallery, settings), user=user)
        except GalleryError:
            if not GalleryFolder(gallery).exists():
                raise  # else another process made it meanwhile, and this one adds to it
    return SearchService(embedder, open_store(gallery), user=user)
