"""Making a gallery folder: for its owner only, and again after a kill at any point."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from visir.core.errors import GalleryError
from visir.engine.embedder import Embedder
from visir.experiment import enroll
from visir.gallery.folder import GalleryFolder
from visir.gallery.store import Settings, create_store, open_store

KILLED = """
import os, signal, sys
from pathlib import Path
from visir.core import files
from visir.gallery import folder, lance_table
from visir.gallery.store import Settings, create_store

def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "keys":
    files.os.fsync = die
else:
    class Package:
        connect = die
    lance_table.lancedb = lambda: Package
create_store(Path(sys.argv[1]), Settings("5eed" * 16, 24))
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_that_was_there_becomes_its_owners(tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "gallery"
    folder.mkdir()
    folder.chmod(0o755)
    create_store(folder, settings)
    assert mode(folder) == 0o700


def test_a_folder_with_other_things_stays_as_it_is(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    tmp_path.chmod(0o755)
    with pytest.raises(GalleryError, match=r"is not empty \(it holds 'notes.txt'\)"):
        create_store(tmp_path, settings)
    assert mode(tmp_path) == 0o755
    assert os.listdir(tmp_path) == ["notes.txt"]  # noqa: PTH208


@pytest.mark.parametrize("point", ["keys", "table"])
def test_a_creation_that_was_killed_is_finished(
    tmp_path: Path, point: str, embedder: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = tmp_path / "gallery"
    done = subprocess.run([sys.executable, "-c", KILLED, str(gallery), point], check=False)
    assert done.returncode == -signal.SIGKILL
    assert any(gallery.iterdir())
    with pytest.raises(GalleryError, match="not a gallery"):
        open_store(gallery)
    embedder.preprocess = {}  # type: ignore[attr-defined]
    monkeypatch.setattr(Embedder, "open", lambda *args, **options: embedder)
    monkeypatch.setattr(enroll, "plain", lambda values: values)
    service = enroll.open_service(gallery, tmp_path / "run", create=True)
    assert service.status()["pictures"] == 0
    assert enroll.open_service(gallery, tmp_path / "run", create=True).store.version() == service.store.version()


def test_a_table_without_any_version_is_begun_again(tmp_path: Path, settings: Settings) -> None:
    store = create_store(tmp_path / "gallery", settings)
    table = GalleryFolder(tmp_path / "gallery").table
    for file in (table / "_versions").iterdir():
        file.unlink()
    with pytest.raises(GalleryError, match="not a gallery"):
        open_store(store.uri)
    assert create_store(store.uri, settings).count() == 0


def test_pictures_without_a_version_are_damage_and_never_made_anew(tmp_path: Path, settings: Settings) -> None:
    store = create_store(tmp_path / "gallery", settings)
    folder = GalleryFolder(tmp_path / "gallery")
    for file in (folder.table / "_versions").iterdir():
        file.unlink()
    (folder.table / "data").mkdir()
    (folder.table / "data" / "rows.lance").write_bytes(b"rows")
    (folder.path / "keys.json").write_text('{"next": 7}')
    with pytest.raises(GalleryError, match="a gallery already"):
        create_store(store.uri, settings)
    assert json.loads((folder.path / "keys.json").read_text()) == {"next": 7}
