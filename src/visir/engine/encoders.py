"""The deployable encoder: weights, how to rebuild the network, how images are prepared, and a fingerprint of it all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from visir.core.config import parse, plain
from visir.core.errors import CheckpointError
from visir.data.images import Preprocess
from visir.engine import checkpoint, files
from visir.engine.build import describe, rebuild
from visir.engine.state import State
from visir.methods.base import Method

KIND = "encoder"
NAME = f"encoder{files.SUFFIX}"
PREFIX = "encoder."


@dataclass(frozen=True, eq=False)
class Encoder:
    """A trained encoder, ready to embed.

    Attributes:
        network: images (B, 3, H, W), modality (B,) -> (B, D), in evaluation mode.
        preprocess: how images become its input.
        fingerprint: SHA-256, hexadecimal, of weights, method, configuration and ``preprocess``.
        about: method, num_identities, config, step.
    """

    network: nn.Module
    preprocess: Preprocess
    fingerprint: str
    about: Mapping[str, Any]


def preprocess_of(method: Method[Any]) -> Preprocess:
    """Size and normalisation of the images that the method is trained with."""
    return Preprocess(method.config.stream.height, method.config.stream.width)


def fingerprint(weights: Mapping[str, Tensor], about: Mapping[str, Any], preprocess: Preprocess) -> str:
    """SHA-256 of everything that decides what an encoder makes of an image; weights on the CPU, by encoder names."""
    config = {key: value for key, value in about["config"].items() if key != "weights"}  # where they came from
    content = {"method": about["method"], "config": config, "preprocess": plain(preprocess)}
    return files.digest(weights, json.dumps(content, sort_keys=True))


def save_encoder(folder: Path, method: Method[Any], preprocess: Preprocess | None = None) -> Path:
    """Write the method's encoder to ``folder/encoder.safetensors``, atomically.

    Raises:
        StorageError: the file could not be written; an encoder that was there is untouched.
    """
    weights = files.copied(method.encoder.state_dict())
    about, prepared = describe(method), preprocess or preprocess_of(method)
    header = {
        "kind": KIND,
        "about": about,
        "preprocess": plain(prepared),
        "fingerprint": fingerprint(weights, about, prepared),
    }
    files.write(folder / NAME, weights, header)
    return folder / NAME


def load_encoder(path: Path) -> Encoder:
    """The encoder of an encoder file, of a checkpoint, or of a folder that holds either (such as a run).

    A run folder gives its finished encoder, or else its newest checkpoint.

    Raises:
        CheckpointError: nothing of the kind there, damaged, or of a method that this version cannot rebuild.
    """
    file = _find(path)
    tensors, header = files.read(file)
    if header.get("kind") == checkpoint.KIND:
        return _of_state(checkpoint.load(file), file)
    if header.get("kind") != KIND:
        raise CheckpointError(f"{file}: expected an encoder or a checkpoint, got another file.")
    preprocess = parse(Preprocess, header["preprocess"], where=str(file))
    found = _rebuilt(tensors, header["about"], preprocess, file)
    if found.fingerprint != header["fingerprint"]:
        raise CheckpointError(f"{file}: its fingerprint does not fit its content; save the encoder again.")
    return found


def _of_state(state: State, file: Path) -> Encoder:
    weights = {name.removeprefix(PREFIX): t for name, t in state.model().items() if name.startswith(PREFIX)}
    return _rebuilt(weights, state.about, None, file)


def _rebuilt(
    weights: Mapping[str, Tensor], about: Mapping[str, Any], preprocess: Preprocess | None, file: Path
) -> Encoder:
    method = rebuild(about, where=str(file))
    try:
        method.encoder.load_state_dict(dict(weights))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{file}: its weights do not fit the method {about['method']!r} ({reason}).") from error
    prepared = preprocess or preprocess_of(method)
    own = {key: about[key] for key in ("method", "num_identities", "config")}
    return Encoder(method.encoder.eval(), prepared, fingerprint(weights, own, prepared), own)


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    for place in (path / NAME, path / "encoder" / NAME):
        if place.is_file():
            return place
    for folder in (path, path / "checkpoints"):
        newest = checkpoint.latest(folder)
        if newest is not None:
            return newest
    raise CheckpointError(
        f"{path}: expected an encoder file, a checkpoint, or a run folder with either; found neither. "
        "Train one first: visir train."
    )
