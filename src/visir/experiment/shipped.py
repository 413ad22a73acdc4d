"""The configurations that come with visir: found by a short name wherever the package is installed."""

from __future__ import annotations

from pathlib import Path

import visir
from visir.core.errors import ConfigError, nearest

FOLDER = Path(visir.__file__).parent / "configs"
ABLATION = "ablation"


def find_config(name: str | Path) -> Path:
    """The file at this path or, where there is none, the shipped one of this name, such as ``dfe/sysu_mm01``.

    Raises:
        ConfigError: neither; the nearest shipped name is given.
    """
    given = Path(name)
    if given.is_file():
        return given
    if given.is_absolute() or given.suffix not in ("", ".yaml"):
        raise ConfigError(f"{name}: no such configuration file.")
    short = given.with_suffix("").as_posix().removeprefix("configs/").replace("-", "_")
    shipped = FOLDER / f"{short}.yaml"
    if not shipped.is_file():
        raise ConfigError(f"{name}: no such configuration file, and none of this name ships with visir. {_hint(short)}")
    return shipped


def names() -> list[str]:
    """Short names of all shipped files, sorted."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def _hint(short: str) -> str:
    said = nearest(short, names())
    return said if said.startswith("Did you mean") else "'visir list' shows those that do."
