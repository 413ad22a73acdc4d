"""Every random number is a function of (seed, purpose, step): no global state, nothing to save or restore."""

from __future__ import annotations

import hashlib

import numpy as np


def _words(seed: int, purpose: str, steps: tuple[int, ...]) -> list[int]:
    tag = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")
    return [seed & (2**64 - 1), tag, *(s & (2**64 - 1) for s in steps)]


def generator(seed: int, purpose: str, *steps: int) -> np.random.Generator:
    """A NumPy generator that depends on its arguments alone.

    >>> a, b = generator(0, "flip", 3), generator(0, "flip", 3)
    >>> float(a.random()) == float(b.random())
    True
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(_words(seed, purpose, steps))))


def derived_seed(seed: int, purpose: str, *steps: int) -> int:
    """A 63-bit seed for libraries that want a number, such as ``torch.Generator.manual_seed``."""
    return int(np.random.SeedSequence(_words(seed, purpose, steps)).generate_state(1, np.uint64)[0] >> 1)
