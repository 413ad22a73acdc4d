"""One process at a time: the same command may run twice in one output folder, and then shares the work."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

FOLDER = ".locks"


def nothing() -> None:
    """Say nothing."""


@contextlib.contextmanager
def hold(path: Path, *, wait: bool = True, waiting: Callable[[], None] = nothing) -> Iterator[bool]:
    """Hold a lock between processes while a block runs; the system frees it when the process dies, killed included.

    Args:
        path: the lock's file, made if need be; it stays.
        wait: until the lock is free.
        waiting: called once if it is not.

    Yields:
        whether it is held; without ``wait`` False when another process has it. On a file system without locks there is
        nothing to hold, and nobody is told.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        held = _lock(file, wait=False)
        if not held and wait:
            waiting()
            held = _lock(file, wait=True)
        yield held


def tidy(folder: Path) -> None:
    """Remove the unfinished files below a folder whose writers were killed; to be called by who holds its lock."""
    for left in folder.rglob(".*.tmp"):
        left.unlink(missing_ok=True)


if sys.platform == "win32":

    def _lock(file: IO[bytes], *, wait: bool) -> bool:
        return True

else:
    import fcntl

    def _lock(file: IO[bytes], *, wait: bool) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
        return True
