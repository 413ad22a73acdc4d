"""The one way this package compiles a kernel: cached on disk, without the interpreter lock, sums in written order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
# No reordered, fused or approximate arithmetic: a kernel compiled now and one from the cache would differ in last bits.
RELAXED = {"nnan", "ninf", "nsz"}
Scalar: TypeAlias = float | np.float32  # single precision inside kernels, whatever the caller has


def compiled(function: F) -> F:
    """``function`` as machine code that lets other threads run; typed as before."""
    return cast("F", numba.njit(cache=True, nogil=True, fastmath=RELAXED, error_model="numpy")(function))
