"""A small D2RL, its parts, pictures for it, and a step that only watches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from one_rank import OneRank
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import IdentityBalanced, Stream
from visir.methods.base import Recipe
from visir.methods.d2rl import D2RL, D2RLConfig

SMALL = D2RLConfig(
    backbone="tiny",
    width=2,
    stream=Stream(IdentityBalanced(2, 2), height=48, width=24),
    translation_epochs=2.0,
    warmup_epochs=1.0,
    recipe=Recipe(backbone_rate=0.01, head_rate=0.01),
)
TRANSLATION, WARMUP, JOINT = 0.0, 2.0, 3.0  # epochs in which the phases begin
TRANSLATORS = {"visible encoder", "infrared encoder", "visible decoder", "infrared decoder"}
NETWORK = {"network", "classifier"}
JUDGES = {"visible judge", "infrared judge"}
WITHOUT_VAE: dict[str, Any] = {"divergence": 0.0, "reconstruction": 0.0, "noise": False}


def made(**changes: Any) -> D2RL:
    torch.manual_seed(0)
    return D2RL(dataclasses.replace(SMALL, **changes), 3)


def images(count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(count, 3, 48, 24, generator=generator)
    greys = torch.rand(count, 1, 48, 24, generator=generator).expand(-1, 3, -1, -1)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = torch.cat([colours, greys])
    return Batch(
        images=(pixels - mean.view(3, 1, 1)) / deviation.view(3, 1, 1),
        identity=torch.arange(2).repeat_interleave(count // 2).repeat(2),
        camera=torch.zeros(2 * count, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(count),
    )


def parts(method: D2RL) -> dict[str, nn.Module]:
    translators = method.translators
    found: dict[str, nn.Module] = {
        "visible encoder": translators["infrared"].encoder,
        "infrared encoder": translators["visible"].encoder,
        "visible decoder": translators["visible"].decoder,
        "infrared decoder": translators["infrared"].decoder,
        "network": method.encoder.backbone,
    }
    found |= {f"{name} judge": judge for name, judge in method.discriminators.items()}
    return found if method.classifier is None else {**found, "classifier": method.classifier}


def reached(method: D2RL, loss: Tensor) -> set[str]:
    """The parts that get a gradient from a loss, whoever is updated with it."""
    named = [(name, p) for name, module in parts(method).items() for p in module.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, [p for _, p in named], retain_graph=True, allow_unused=True)
    return {name for (name, _), g in zip(named, gradients, strict=True) if g is not None and bool((g != 0).any())}


class Watcher(OneRank):
    """Updates nothing; notes what each update would have lowered, and with which optimizers."""

    def __init__(self, method: D2RL, epoch: float) -> None:
        super().__init__(index=0, epoch=epoch)
        self.method = method
        self.updates: list[tuple[tuple[str, ...], Tensor]] = []

    def minimize(self, loss: Tensor, *names: str) -> None:
        self.updates.append((names, loss))


def watched(epoch: float, **changes: Any) -> tuple[D2RL, Watcher, Mapping[str, Tensor]]:
    method = made(**changes)
    step = Watcher(method, epoch)
    return method, step, method.train_step({"main": images()}, step)
