"""Processes to run rows in: one for each place, none outlives the command, and one that dies takes no other along."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from types import TracebackType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """A process for each place, started when it is first needed. Left by an exception, its work is broken off."""

    def __init__(self) -> None:
        self._pools: dict[int, ProcessPoolExecutor] = {}
        self._others = set(multiprocessing.active_children())

    def submit(self, place: int, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> Future[T]:
        """Do some work in the process of a place, which has nothing else to do."""
        if place not in self._pools:
            context = multiprocessing.get_context("spawn")
            self._pools[place] = ProcessPoolExecutor(1, mp_context=context, initializer=_follow)
        return self._pools[place].submit(work, *args, **options)

    def error(self, place: int, future: Future[T]) -> str | None:
        """Why work that has ended gave nothing, None when it did; a process that died is put aside."""
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            self._pools.pop(place).shutdown()
            return "its process died; the system may have killed it for lack of memory: try fewer rows at a time"
        return None if error is None else f"{type(error).__name__}: {error}"

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # a row may take hours, and can be taken up again
            for child in set(multiprocessing.active_children()) - self._others:
                child.terminate()
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)


def _follow() -> None:
    """End when the command ends, however it does; the interrupt key is the command's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)  # nothing can be half-written: every file is put in place in one step
