"""A small AlignGAN, toy batches of both its streams, and an engine that only looks."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import torch
from torch import Tensor

from visir.core.batch import Batch
from visir.core.draws import IdentityBalanced, Stream
from visir.methods.aligngan import AlignGAN, AlignGANConfig
from visir.methods.base import Recipe

sys.path.append(str(Path(__file__).parents[1] / "contract"))
from toys import PEOPLE, ToySource

SMALL = AlignGANConfig(
    backbone="tiny",
    stream=Stream(IdentityBalanced(4, 2), height=48, width=24),
    width=4,
    blocks=1,
    dim=16,
    dropout=0.0,
    feature_epochs=1.0,
    pixel_epochs=2.0,
    recipe=Recipe(backbone_rate=0.02, head_rate=0.02),
)


@dataclasses.dataclass
class Looking:
    """The engine as one rank sees it; it remembers what was to be minimized and changes nothing."""

    index: int = 0
    epoch: float = 0.0
    generator: torch.Generator = dataclasses.field(default_factory=torch.Generator)
    minimized: list[tuple[Tensor, tuple[str, ...]]] = dataclasses.field(default_factory=list)

    def minimize(self, loss: Tensor, *names: str) -> None:
        self.minimized.append((loss, names))

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor

    def share(self, tensor: Tensor) -> Tensor:
        return tensor


def made(**changes: object) -> AlignGAN:
    torch.manual_seed(0)
    return AlignGAN(dataclasses.replace(SMALL, **changes), PEOPLE)  # type: ignore[arg-type]


def batches(step: int = 0) -> dict[str, Batch]:
    source = ToySource(IdentityBalanced(4, 2), steps_per_epoch=1)
    return {"feature": source.batch(2 * step), "pixel": source.batch(2 * step + 1)}
