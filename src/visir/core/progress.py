"""Progress of long work: a bar on a terminal, plain lines elsewhere, on the error stream in both cases."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

PLAIN_LINE_EVERY = 10.0  # seconds


def _say(line: str) -> None:
    sys.stderr.write(line.rstrip() + "\n")
    sys.stderr.flush()


class Progress:
    """Told how far the work is; made by :func:`progress`."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done, self.note = title, total, 0, ""
        self._started = self._last = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count ``steps`` more; ``note`` is a short text such as the current loss."""
        self.done += steps
        self.note = note or self.note
        now = time.monotonic()
        if now - self._last >= PLAIN_LINE_EVERY:
            self._last = now
            self._line()

    def _line(self) -> None:
        rate = self.done / max(time.monotonic() - self._started, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        _say(f"{self.title}: {self.done}/{self.total}, {rate:.1f}/s, {left:.0f} s left {self.note}")

    def finish(self) -> None:
        """Say how long it took."""
        took = time.monotonic() - self._started
        _say(f"{self.title}: {self.done}/{self.total} in {took:.1f} s {self.note}")


class _Bar(Progress):
    def __init__(self, title: str, total: int) -> None:
        super().__init__(title, total)
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._rich = RichProgress(*columns, console=Console(stderr=True))
        self._task = self._rich.add_task(title, total=total, note="")
        self._rich.start()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        self.note = note or self.note
        self._rich.update(self._task, advance=steps, note=self.note)

    def finish(self) -> None:
        self._rich.stop()


@contextmanager
def progress(title: str, total: int) -> Iterator[Progress]:
    """Show the progress of ``total`` steps while the block runs."""
    shown = _Bar(title, total) if sys.stderr.isatty() else Progress(title, total)
    try:
        yield shown
    finally:
        shown.finish()


def track(items: Iterable[T], title: str, total: int) -> Iterator[T]:
    """Yield the items and count them."""
    with progress(title, total) as shown:
        for item in items:
            yield item
            shown.advance()
