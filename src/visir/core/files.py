"""Writing files so that a crash, a kill or a full disk leaves either the old content or the new, never a mixture."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from visir.core.errors import StorageError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})


def is_image_name(name: str) -> bool:
    """Whether a file of this name is read as an image: a known suffix, and not hidden.

    >>> [is_image_name(name) for name in ("0001.JPG", "._0001.jpg", "Thumbs.db")]
    [True, False, False]
    """
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 (speed)


@contextlib.contextmanager
def atomic_write(path: Path, *, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path``; on success flush it to disk and put it in place in one step.

    Args:
        path: the file to replace.
        mode: permissions of the new file, less the umask.

    Raises:
        StorageError: the disk is full or the folder cannot be written; ``path`` then holds what it held before.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(mode & ~umask)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"{path} could not be written ({reason}); the previous content is untouched. "
            "Free some space or choose another folder."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder; the file itself is safe
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Replace ``path`` by ``content`` atomically; ``mode`` as in :func:`atomic_write`."""
    with atomic_write(path, mode=mode) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Replace ``path`` by UTF-8 text atomically."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Replace ``path`` by indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
