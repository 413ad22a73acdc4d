"""Methods made from what files say of them: name, plain configuration, number of identities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from visir.core.config import parse, plain
from visir.core.errors import CheckpointError, ConfigError
from visir.core.seeds import derived_seed
from visir.methods import catalog
from visir.methods.base import Method, MethodConfig

Description = Mapping[str, Any]


@contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Inside, PyTorch's own random numbers depend on (seed, purpose) alone; outside, they are as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, purpose))
        yield


def build(name: str, config: MethodConfig, num_identities: int, *, seed: int = 0) -> Method[Any]:
    """The method ``name`` (or dotted module) with initial weights that depend on the seed alone, on the CPU."""
    with seeded(seed, "weights"):
        return catalog.find(name)(config, num_identities)


def describe(method: Method[Any]) -> dict[str, Any]:
    """What :func:`rebuild` needs, as plain values for JSON: method, num_identities, config."""
    module = type(method).__module__.removeprefix(f"{catalog.PACKAGE}.")
    return {"method": module, "num_identities": method.num_identities, "config": plain(method.config)}


def rebuild(description: Description, *, where: str) -> Method[Any]:
    """The described method with untrained weights; nothing is downloaded.

    Raises:
        CheckpointError: this version of visir lacks the method or one of its options.
    """
    try:
        kind = catalog.find(str(description["method"]))
        config = parse(kind.Config, description["config"])
        return build(str(description["method"]), replace(config, weights="scratch"), int(description["num_identities"]))
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{where}: made by a method that this version of visir cannot rebuild ({error}). "
            "Use the version that made it, or put the method's file on PYTHONPATH."
        ) from error
