"""Methods by name: the files of this folder, or a dotted module name outside visir."""

from __future__ import annotations

from typing import Any

from visir.core import registry
from visir.core.errors import ConfigError
from visir.methods.base import Method

PACKAGE, SYMBOL = "visir.methods", "METHOD"


def available() -> list[str]:
    """Names of the methods that ship with visir."""
    return registry.available(PACKAGE, SYMBOL)


def find(name: str) -> type[Method[Any]]:
    """The class of method ``name``; a ConfigError names the nearest known one."""
    found = registry.find(PACKAGE, SYMBOL, name)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ConfigError(f"method {name!r}: expected {SYMBOL} to be a Method class, got {found!r}.")
    return found
