"""Checkpoints: one file each, put in place in one step, so that a kill or a full disk never costs the one before."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from visir.core.errors import CheckpointError
from visir.engine import files
from visir.engine.state import State

KIND = "checkpoint"


def save(folder: Path, state: State, *, keep: int = 2) -> Path:
    """Write ``folder/step-NNNNNNNN.safetensors`` and remove all but the newest ``keep`` up to it.

    Raises:
        StorageError: a full disk or a folder that cannot be written; what was there is untouched.
    """
    path = folder / f"step-{state.step:08d}{files.SUFFIX}"
    header = {"kind": KIND, "step": state.step, "about": dict(state.about), "values": dict(state.values)}
    files.write(path, state.tensors, header)
    for left_behind in folder.glob(f".step-*{files.SUFFIX}.*.tmp"):  # by a kill while writing
        left_behind.unlink(missing_ok=True)
    for old in [p for p in found(folder) if p <= path][:-keep]:
        old.unlink(missing_ok=True)
    return path


def load(path: Path) -> State:
    """Read a checkpoint.

    Raises:
        CheckpointError: missing, damaged, or another kind of file.
    """
    tensors, header = files.read(path)
    if header.get("kind") != KIND:
        raise CheckpointError(f"{path}: expected a training checkpoint, got {header.get('kind', 'another file')!r}.")
    return State(int(header["step"]), header["about"], tensors, header["values"])


def latest(folder: Path) -> Path | None:
    """The newest undamaged checkpoint of a folder, None if there is none; a warning names each damaged one."""
    for path in reversed(found(folder)):
        try:
            load(path)
        except CheckpointError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
        else:
            return path
    return None


def found(folder: Path) -> list[Path]:
    """The checkpoint files of a folder, whether whole or damaged, oldest first."""
    pattern = re.compile(rf"step-\d{{8,}}{re.escape(files.SUFFIX)}")
    files_there = [p for p in folder.glob(f"step-*{files.SUFFIX}") if pattern.fullmatch(p.name)]
    return sorted(files_there, key=lambda p: (len(p.name), p.name))
