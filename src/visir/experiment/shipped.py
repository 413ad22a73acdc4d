"""The configurations that come with visir: found by a short name wherever the package is installed."""

from __future__ import annotations

from pathlib import Path

import visir
from visir.core.config import read_yaml
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
    if not given.name:
        raise ConfigError(
            f"{name}: expected a configuration file, or the short name of one that ships with visir, such as "
            "dfe/sysu_mm01."
        )
    if given.is_absolute() or ".." in given.parts or given.suffix not in ("", ".yaml"):
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
    """The likely name: of the same method, where there is one of this name."""
    listed = "'visir list' shows those that do."
    method, _, rest = short.partition("/")
    own = [name for name in names() if name.startswith(f"{method.lower()}/")]
    if not own:
        known = names() if rest else {name.partition("/")[0] for name in names()}
        return nearest(short, known, otherwise=listed)
    if rest in _rows(method):
        return f"It is a row: visir ablate {method}/{ABLATION} --row {rest}"
    there = f"Of {method.lower()} there are {', '.join(own)}; {listed}"
    return nearest(short, own, otherwise=there) if rest else there


def _rows(method: str) -> list[str]:
    """Names of the rows of a method's ablation file."""
    file = FOLDER / method / f"{ABLATION}.yaml"
    return [row["name"] for row in read_yaml(file)["rows"]] if file.is_file() else []
