"""What a run says while it trains: JSON lines and TensorBoard, the same values in both."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from visir.core.errors import StorageError
from visir.core.types import ByteArray
from visir.experiment.folder import RunFolder


class RunLog:
    """Appends whole lines to ``log.jsonl`` and mirrors the numbers into TensorBoard where it is installed."""

    def __init__(self, folder: RunFolder, *, first: int = 0) -> None:
        """``first`` is the step at which this process goes on; what TensorBoard has beyond it is superseded."""
        folder.path.mkdir(parents=True, exist_ok=True)
        self._path = folder.log
        self._lines = folder.log.open("a", encoding="utf-8")
        self._board = _board(folder, first)

    def write(self, kind: str, *, step: int, **values: Any) -> None:
        """One line of the log; numbers, and mappings of numbers, also become TensorBoard curves."""
        line = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
        try:
            self._lines.write(json.dumps(line) + "\n")
            self._lines.flush()
        except OSError as error:
            raise StorageError(
                f"{self._path} could not be written ({error.strerror or error}); checkpoints are untouched. "
                "Free some space and give the same command again."
            ) from error
        if self._board is not None:
            for name, value in _numbers(kind, values):
                self._board.add_scalar(name, value, step)

    def picture(self, name: str, pixels: ByteArray, *, step: int) -> None:
        """Show (H, W, 3) uint8 in TensorBoard, where it is installed."""
        if self._board is not None:
            self._board.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close both."""
        self._lines.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _board(folder: RunFolder, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra visir[train] brings it
        return None
    return SummaryWriter(str(folder.tensorboard), purge_step=first or None)


def _numbers(kind: str, values: Mapping[str, Any]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _numbers(f"{kind}/{name}", value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((f"{kind}/{name}", float(value)))
    return found
