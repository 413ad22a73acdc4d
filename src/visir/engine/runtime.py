"""Where and how training and embedding run: device, precision, memory layout, compilation, ranks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist

from visir.core.errors import ConfigError, TrainingError
from visir.engine.ranks import JointStatistics

Precision = Literal["fp32", "bf16", "fp16"]
CPU = torch.device("cpu")
PATIENCE = timedelta(hours=12)  # of ranks that wait while the first one validates and saves
LOW: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """How this process computes.

    Attributes:
        device: where networks and batches live.
        precision: fp32 throughout (no TF32), or mixed with bf16, or with fp16 and loss scaling. fp16 makes the host
            wait for the device once an update; bf16 does not.
        channels_last: memory layout of images and convolutions.
        compile: compile the encoder with ``torch.compile``.
        rank: of this process, 0..world-1.
        world: number of processes that train as one.
    """

    device: torch.device = CPU
    precision: Precision = "fp32"
    channels_last: bool = False
    compile: bool = False
    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes files and talks."""
        return self.rank == 0

    @property
    def memory_format(self) -> torch.memory_format:
        """Layout of images and convolution weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        """The context of forward passes in this precision."""
        return torch.autocast(self.device.type, LOW.get(self.precision), enabled=self.precision in LOW)

    def joint(self) -> AbstractContextManager[object]:
        """The context in which batch statistics are those of all ranks together."""
        return JointStatistics(self.rank, self.world) if self.world > 1 else nullcontext()

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def start(
    device: str = "auto",
    *,
    precision: Precision = "fp32",
    channels_last: bool = False,
    compile: bool = False,
    deterministic: bool = True,
) -> Iterator[Runtime]:
    """Set this process up, join the other ranks if ``torchrun`` started several, and leave them at the end.

    Args:
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N". Under ``torchrun`` each process takes
            the GPU of its local rank.
        precision: see :class:`Runtime`.
        channels_last: see :class:`Runtime`.
        compile: see :class:`Runtime`.
        deterministic: on GPUs take only algorithms that give equal bits each time, as exact resuming needs; False is
            somewhat faster.

    Raises:
        ConfigError: a device that this machine or this build of PyTorch does not have.
        TrainingError: the other ranks cannot be reached.
    """
    rank, world, local = (int(os.environ.get(k, d)) for k, d in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
    chosen = choose_device(device, local if world > 1 else None)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        _set_up_gpu(precision, deterministic)
    if world > 1:
        _join("nccl" if chosen.type == "cuda" else "gloo", rank, world)
    try:
        yield Runtime(chosen, precision, channels_last, compile, rank, world)
    finally:
        torch.use_deterministic_algorithms(False)
        if world > 1:
            dist.destroy_process_group()


def _join(backend: str, rank: int, world: int) -> None:
    try:
        dist.init_process_group(backend, rank=rank, world_size=world, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"rank {rank} of {world} could not join the others ({reason}); start all ranks with torchrun."
        ) from error


def choose_device(name: str | None = None, local: int | None = None) -> torch.device:
    """The device of this name; "auto" or None for a GPU where there is one. ``local`` is the rank on this machine.

    Raises:
        ConfigError: a device that this machine or this build of PyTorch does not have.
    """
    if name is None or name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}.") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}.")
    if device.type == "cuda":
        index = local if local is not None else device.index or 0
        if index >= torch.cuda.device_count():
            raise ConfigError(
                f"device: expected a GPU number {index}, this machine shows {torch.cuda.device_count()} GPUs to "
                "PyTorch; choose 'cpu', or start fewer processes."
            )
        return torch.device("cuda", index)
    return device


def _set_up_gpu(precision: Precision, deterministic: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
