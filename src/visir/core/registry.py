"""The folder is the list: one file, one symbol, no registration. Any dotted module name works for outside code."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from typing import Any

from visir.core.errors import ConfigError, nearest


def available(package: str, symbol: str) -> list[str]:
    """Names of the modules of ``package`` that define ``symbol`` at top level, sorted. Nothing is imported but the
    package itself.
    """
    folder = importlib.import_module(package)
    names = []
    for module in pkgutil.iter_modules(folder.__path__):
        spec = importlib.util.find_spec(f"{package}.{module.name}")
        if spec is None or spec.origin is None or module.ispkg:
            continue
        with open(spec.origin, encoding="utf-8") as source:  # noqa: PTH123 - spec.origin is a plain string
            if any(line.startswith((f"{symbol} =", f"{symbol}:")) for line in source):
                names.append(module.name)
    return sorted(names)


def find(package: str, symbol: str, name: str) -> Any:
    """The ``symbol`` of module ``name`` of ``package``, or of the dotted module ``name`` outside visir.

    Raises:
        ConfigError: no such module, or one without the symbol; the nearest known name is given.
    """
    plain = name.replace("-", "_")
    known = available(package, symbol)
    if plain in known:
        return getattr(importlib.import_module(f"{package}.{plain}"), symbol)
    kind = symbol.lower()
    if "." in name:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ConfigError(f"{kind} {name!r}: no such module ({error}). Is its folder on PYTHONPATH?") from error
        if hasattr(module, symbol):
            return getattr(module, symbol)
        raise ConfigError(f"{kind} {name!r}: the module defines no {symbol}; end it with '{symbol} = ...'.")
    raise ConfigError(f"unknown {kind} {name!r}. {nearest(plain, known)}")
