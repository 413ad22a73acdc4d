"""A small embedding method with everything that ranks, precision and resuming can get wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, Pairs, Stream
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Step, step_decay


@dataclass(frozen=True)
class PlainConfig(MethodConfig):
    stream: Stream = field(default_factory=lambda: Stream(Pairs(4), 16, 8, Augment(flip=0.5, pad=1, jitter=0.2)))
    width: int = 6
    dropout: float = 0.0
    rate: float = 0.05
    explode_at: int = -1
    double: bool = False


class TinyEncoder(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.AdaptiveAvgPool2d((2, 1)),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        self.dim = 2 * width

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        return self.body(images.to(self.body[0].weight.dtype))


class Plain(EmbeddingMethod[PlainConfig]):
    Config = PlainConfig

    def __init__(self, config: PlainConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        self.encoder = TinyEncoder(config.width, config.dropout)
        self.classifier = nn.Linear(self.encoder.dim, num_identities, bias=False)
        if config.double:
            self.double()

    def optimizer(self) -> Optim:
        groups = [
            {"params": list(self.encoder.parameters()), "lr": 0.1 * self.config.rate},
            {"params": list(self.classifier.parameters()), "lr": self.config.rate},
        ]
        sgd = torch.optim.SGD(groups, momentum=0.9, weight_decay=5e-4, nesterov=True)
        return Optim(sgd, step_decay(1.0), clip_norm=2.0)

    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        features = self.encoder(batch.images, batch.modality)
        visible, infrared = (F.normalize(step.gather(half)) for half in features.chunk(2))
        named = F.cross_entropy(self.classifier(features), batch.identity)
        if step.index == self.config.explode_at:
            named = named * torch.inf
        return {"identity": named, "resemblance": (visible @ visible.T - infrared @ infrared.T).square().mean()}


METHOD = Plain
