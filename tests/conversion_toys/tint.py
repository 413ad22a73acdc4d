"""A toy conversion method: one matrix of colours for each direction, learnt from the mean colours of both spectra."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, Stream, Unpaired
from visir.core.types import Modality
from visir.methods.base import ConversionMethod, MethodConfig, Optim, Step
from visir.nets.routing import by_modality


@dataclass(frozen=True)
class TintConfig(MethodConfig):
    """``pause``: seconds that a batch takes; ``halved``: pictures come back at half the size, which is wrong."""

    stream: Stream = field(default_factory=lambda: Stream(Unpaired(8), 32, 16, Augment(flip=0.0)))
    pause: float = 0.0
    halved: bool = False


class Tint(nn.Module):
    """(B, 3, H, W) -> (B, 3, H, W)."""

    def __init__(self, config: TintConfig) -> None:
        super().__init__()
        self.config = config
        self.to_infrared, self.to_visible = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        time.sleep(self.config.pause)
        made = by_modality(self._grey, self.to_visible, images, modality, training=self.training)
        return made[..., ::2, ::2] if self.config.halved else made

    def _grey(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        shown = self.to_infrared(images) * std + mean
        return (shown.mean(1, keepdim=True).expand_as(shown) - mean) / std


class TintMethod(ConversionMethod[TintConfig]):
    """Mean colours of what is made against those of what is real."""

    Config = TintConfig

    def __init__(self, config: TintConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        self.encoder = Tint(config)

    def optimizers(self) -> Mapping[str, Optim]:
        return {"colours": Optim(torch.optim.SGD(self.encoder.parameters(), 0.05))}

    def train_step(self, batches: Mapping[str, Batch], step: Step) -> Mapping[str, Tensor]:
        batch = batches["main"]
        made = self.encoder(batch.images, batch.modality).mean((2, 3))
        real = batch.images.mean((2, 3))
        of = batch.modality == Modality.VISIBLE
        loss = (made[of].mean(0) - real[~of].mean(0)).square().sum()
        loss = loss + (made[~of].mean(0) - real[of].mean(0)).square().sum()
        step.minimize(loss, "colours")
        return {"colours": loss}


METHOD = TintMethod
