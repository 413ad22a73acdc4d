"""From plain YAML mappings to frozen dataclasses: every key checked, the nearest known one named.

Configuration classes are standard frozen dataclasses beside the code they configure; only this module knows pydantic.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from visir.core.errors import ConfigError, nearest

T = TypeVar("T")


@functools.cache
def _adapter(kind: Any) -> Any:
    import pydantic

    return pydantic.TypeAdapter(kind)


def parse(kind: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Build the dataclass ``kind`` from a mapping.

    What the mapping leaves out, at any depth, is as in ``kind()``: a method's own image width stays when only the
    height is given.

    Args:
        kind: a frozen dataclass; nested dataclasses and unions with a ``kind`` field are allowed.
        values: plain YAML values.
        where: dotted place of the mapping in its file, for messages.

    Raises:
        ConfigError: an unknown key (the nearest known one is named) or a value of the wrong type.
    """
    import pydantic

    check_keys(kind, values, where=where)
    try:
        built: T = _adapter(typing.cast(Any, kind)).validate_python(_over_defaults(kind, values))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join([where, *(str(part) for part in first["loc"])]).strip(".")
        came = "" if isinstance(first["input"], Mapping) else f", got {first['input']!r}"
        raise ConfigError(f"{place or kind.__name__}: {first['msg'].removeprefix('Value error, ')}{came}.") from error
    return built


def _over_defaults(kind: Any, values: Mapping[str, Any]) -> Any:
    return _merged(_plain_default(kind), dict(values))


def _merged(below: Any, above: Any) -> Any:
    """``above`` over ``below``; a mapping of another ``kind`` replaces the one below as a whole."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    if above.get("kind", below.get("kind")) != below.get("kind"):
        return dict(above)
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}


def check_keys(kind: Any, values: Any, *, where: str = "", default: Any = None) -> None:
    """Raise ConfigError on any key of ``values``, at any depth, that the dataclass ``kind`` lacks.

    ``default`` is the plain value that stands there when the mapping says nothing; it decides between the classes of a
    union when ``values`` names no ``kind``.
    """
    options = [k for k in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(k)]
    if not options or not isinstance(values, Mapping):
        return
    chosen = _by_kind(options, values, default)
    hints = typing.get_type_hints(chosen)
    known = [f.name for f in dataclasses.fields(chosen) if f.init]
    standard = default if default is not None else _plain_default(chosen)
    for key, value in values.items():
        place = f"{where}.{key}".strip(".")
        if key not in known:
            raise ConfigError(f"{place}: unknown key {key!r}. {nearest(str(key), known)}")
        below = standard.get(key) if isinstance(standard, Mapping) else None
        check_keys(hints[key], value, where=place, default=below)


def _plain_default(kind: Any) -> Any:
    try:
        return plain(kind())
    except TypeError:  # fields without a default
        return None


def _by_kind(options: list[Any], values: Mapping[str, Any], default: Any) -> Any:
    wanted = values.get("kind", default.get("kind") if isinstance(default, Mapping) else None)
    for option in options:
        if any(f.name == "kind" and f.default == wanted for f in dataclasses.fields(option)):
            return option
    return options[0]


def plain(value: Any) -> Any:
    """The dataclass ``value`` as mappings, lists, strings and numbers, ready for YAML or JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Path):
        return value.as_posix()
    return value


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that name a configuration: equal content, equal digest."""
    text = json.dumps(plain(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping with the safe loader.

    Raises:
        ConfigError: the file is missing, is not YAML, or does not hold a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file.") from error
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{where}: expected YAML, got: {error.problem or error.context}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: expected a readable YAML file, got: {first}.") from error
    if content is None:
        raise ConfigError(f"{path}: expected 'key: value' lines; the file is empty.")
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, got {str(content)[:40]!r}.")
    return content


def set_dotted(values: dict[str, Any], key: str, value: Any) -> None:
    """Set ``values["a"]["b"]`` for the key ``"a.b"``, making the mappings between where they are missing."""
    *parents, last = key.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{key}: '{parent}' holds a value, not a section; set it directly.")
        values = inner
    values[last] = value
