"""A small Approach 1, batches of its size, and which parts a loss teaches."""

from __future__ import annotations

import dataclasses

import torch
from one_rank import OneRank
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import IdentityBalanced, Stream
from visir.methods.approach1 import Approach1, Approach1Config

STREAM = Stream(IdentityBalanced(4, 2), height=48, width=24)
NETWORK_STREAM = dataclasses.replace(STREAM, draw=IdentityBalanced(8, 1))
SMALL = Approach1Config(
    backbone="tiny",
    stream=STREAM,
    embedding_stream=NETWORK_STREAM,
    embedding_epochs=2.0,
    embedding_dim=12,
    dim=4,
)


def drawn(identities: int = 4, images: int = 2, seed: int = 0) -> Batch:
    half = identities * images
    return Batch(
        images=torch.randn(2 * half, 3, 48, 24, generator=torch.Generator().manual_seed(seed)),
        identity=torch.arange(identities).repeat_interleave(images).repeat(2),
        camera=torch.zeros(2 * half, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(half),
    )


def made(people: int = 4, **changes: object) -> Approach1:
    """For 4 people by default, with the streams of the two-stream network told apart: they begin with equal weights."""
    torch.manual_seed(0)
    method = Approach1(dataclasses.replace(SMALL, **changes), people)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in method.encoder.network.streams.infrared.parameters():
            parameter.mul_(1 + 0.2 * torch.randn_like(parameter))
    return method


def moved(loss: Tensor, parts: dict[str, nn.Module]) -> set[str]:
    """The parts that the loss has a gradient in."""
    found = set()
    for name, part in parts.items():
        gradients = torch.autograd.grad(loss, list(part.parameters()), retain_graph=True, allow_unused=True)
        if any(g is not None and float(g.abs().sum()) > 0 for g in gradients):
            found.add(name)
    return found


class Recorder(OneRank):
    """A second rank that shows the same people, elsewhere."""

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor + 1 if tensor.is_floating_point() else tensor])
