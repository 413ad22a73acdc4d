"""Filling a gallery for a test."""

from __future__ import annotations

from collections.abc import Callable

from visir.core.types import FloatArray
from visir.gallery.store import Newcomer, VectorStore


def fill(store: VectorStore, vectors: FloatArray, newcomer: Callable[..., Newcomer], first: int = 0) -> list[int]:
    added = store.add(vectors, [newcomer(first + n) for n in range(len(vectors))], by="tester")
    assert added.new.all()
    return [int(key) for key in added.keys]
