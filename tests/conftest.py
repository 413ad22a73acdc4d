"""Shared by all tests: small thread pools, tiny twins made once, the gold data where it is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def gold() -> Path:
    """The folder with the official results; the variable VISIR_GOLD names it."""
    folder = os.environ.get("VISIR_GOLD", "")
    if not folder:
        pytest.skip("VISIR_GOLD is not set: the official results are not at hand")
    path = Path(folder) / "sysu-official"
    assert path.is_dir(), f"VISIR_GOLD={folder}: expected sysu-official/ inside"
    return path


@pytest.fixture(scope="session")
def tiny_sysu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SYSU-MM01 twin; read only."""
    from visir.twin.write import write

    return write(tmp_path_factory.mktemp("twin") / "sysu", layout="sysu_mm01", size="tiny", workers=1)


@pytest.fixture(scope="session")
def tiny_regdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny RegDB twin; read only."""
    from visir.twin.write import write

    return write(tmp_path_factory.mktemp("twin") / "regdb", layout="regdb", size="tiny", workers=1)


@pytest.fixture(scope="session")
def tiny_llcm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLCM twin; read only."""
    from visir.twin.write import write

    return write(tmp_path_factory.mktemp("twin") / "llcm", layout="llcm", size="tiny", workers=1)
