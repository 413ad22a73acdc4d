"""The gallery folder beside the table: who may write, which key is next, which removal is not finished."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from visir.core.errors import GalleryError, StorageError
from visir.core.files import write_json

PATIENCE = 120.0  # seconds to wait for another writer; it holds the lock for one batch or one removal


class BusyError(GalleryError):
    """Another process is writing."""


@contextlib.contextmanager
def locked(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold a lock between processes; the system frees it if the process dies.

    Raises:
        BusyError: another process held it for too long.
        StorageError: the lock file cannot be made.
    """
    lock = filelock.FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=patience)
    except filelock.Timeout as error:
        raise BusyError(
            f"{path.parent}: another process has been writing for {patience:.0f} s; wait for it and try again."
        ) from error
    except OSError as error:
        raise StorageError(
            f"{path.parent} cannot be written ({error.strerror or error}); a gallery needs a folder that can be "
            "written, for its search log too."
        ) from error
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class GalleryFolder:
    """A gallery on a file system: ``entries.lance/`` (the table), ``keys.json``, and marks of unfinished work."""

    path: Path

    @property
    def table(self) -> Path:
        """Where the table's files are."""
        return self.path / "entries.lance"

    @property
    def audit(self) -> Path:
        """The log of who enrolled, searched and removed."""
        return self.path / "audit.jsonl"

    @property
    def _keys(self) -> Path:
        return self.path / "keys.json"

    @property
    def _removal(self) -> Path:
        return self.path / "removal.json"

    def exists(self) -> bool:
        """Whether there is a table; what a killed creation leaves, which holds no picture and no version, is none."""
        return any(self.table.glob("_versions/*.manifest")) or any(self.table.glob("data/*"))

    @contextlib.contextmanager
    def making(self) -> Iterator[None]:
        """Make the folder, for its owner only, start the keys at 0, and keep others off until the table is made.

        A creation that was cut short is begun again.

        Raises:
            GalleryError: there is a gallery, a file, or a folder with other things in it.
            StorageError: it cannot be made.
        """
        self._prepare()
        with self.writing():
            self._check_new()  # another process may have made it meanwhile
            write_json(self._keys, {"next": 0})
            yield

    def _check_new(self) -> None:
        if self.exists():
            raise GalleryError(f"{self.path} is a gallery already; add to it, or choose another folder.")

    def _prepare(self) -> None:
        self._check_new()
        ours = {self._keys.name, "writer.lock", self.table.name}
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            names = [file.name for file in self.path.iterdir()]
            foreign = [n for n in names if n not in ours and not n.startswith(f".{self._keys.name}.")]
            if not foreign:
                self.path.chmod(0o700)  # it may have been there, open to others
        except (FileExistsError, NotADirectoryError) as error:
            raise GalleryError(f"{self.path} is a file; give a new or empty folder for the gallery.") from error
        except OSError as error:
            raise StorageError(f"{self.path} cannot be made ({error.strerror or error}).") from error
        if foreign:
            raise GalleryError(
                f"{self.path} is not empty (it holds {min(foreign)!r}); give a new or empty folder for the gallery."
            )

    def check(self) -> None:
        """Raise GalleryError unless this is a gallery."""
        if not self.path.exists():
            raise GalleryError(f"{self.path}: no such gallery; make one with 'visir gallery add'.")
        if not self.exists():
            raise GalleryError(
                f"{self.path} is not a gallery: it has no {self.table.name}/ folder, or one whose making was cut "
                "short; then make it once more."
            )

    def writing(self, patience: float = PATIENCE) -> contextlib.AbstractContextManager[None]:
        """The lock that every writer holds for one batch or one removal."""
        return locked(self.path / "writer.lock", patience)

    def take_keys(self, count: int) -> int:
        """The first of ``count`` keys that were never used and never will be again; call it while writing."""
        try:
            first = json.loads(self._keys.read_text(encoding="utf-8"))["next"]
            if not isinstance(first, int) or first < 0:
                raise ValueError(first)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GalleryError(
                f'{self._keys} is missing or damaged; restore it, or write {{"next": N}} into it with N above every '
                "key this gallery ever gave out."
            ) from error
        write_json(self._keys, {"next": first + count})
        return int(first)

    def begin_removal(self, keys: list[int]) -> None:
        """Note which keys are about to go, so that a removal cut short is finished when the gallery is next opened."""
        write_json(self._removal, {"keys": sorted({*keys, *self.unfinished_removal()})})

    def unfinished_removal(self) -> list[int]:
        """Keys of a removal that was cut short."""
        if not self._removal.exists():
            return []
        try:
            return [int(key) for key in json.loads(self._removal.read_text(encoding="utf-8"))["keys"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GalleryError(f"{self._removal} is damaged; delete it and repeat the last removal.") from error

    def end_removal(self) -> None:
        """Nothing of the noted keys is left."""
        self._removal.unlink(missing_ok=True)

    def bytes_used(self) -> int:
        """Size of all files of the gallery."""
        total = 0
        for file in self.path.rglob("*"):
            with contextlib.suppress(OSError):  # another process may tidy up meanwhile
                total += file.stat().st_size if file.is_file() else 0
        return total
