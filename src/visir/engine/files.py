"""One file for weights and what must be known of them: safetensors with a JSON header and a checksum. No pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from visir.core.errors import CheckpointError
from visir.core.files import write_bytes

HEADER = "visir"
SUFFIX = ".safetensors"


def digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256, hexadecimal, of names, types, shapes and bits of CPU tensors, and of ``text``."""
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU that later steps do not change."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format).contiguous()
        for name, tensor in tensors.items()
    }


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Replace ``path`` atomically: a crash, a kill or a full disk leaves the old file whole.

    Raises:
        StorageError: the file could not be written.
    """
    text = json.dumps({**header, "sha256": digest(tensors)}, sort_keys=True)
    write_bytes(path, save(dict(tensors), metadata={HEADER: text}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file made by :func:`write`, its checksum verified.

    Raises:
        CheckpointError: the file is missing, cut short, changed, or not of visir.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            text = (opened.metadata() or {}).get(HEADER)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        if text is None:
            raise CheckpointError(f"{path}: expected a file that visir wrote, got other safetensors.")
        header = dict(json.loads(text))
        checksum = header.pop("sha256")
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: missing or damaged ({reason}); use an older checkpoint.") from error
    if digest(tensors) != checksum:
        raise CheckpointError(f"{path}: damaged, its content is not what was written; use an older checkpoint.")
    return tensors, header
