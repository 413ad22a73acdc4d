"""A small translation method: three optimizers, generated images, a discriminator, a random decision, a phase."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from engine_toys.plain import TinyEncoder
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, Pairs, Stream, Unpaired
from visir.methods.base import Method, MethodConfig, Optim, Step


@dataclass(frozen=True)
class GanConfig(MethodConfig):
    stream: Stream = field(default_factory=lambda: Stream(Pairs(4), 16, 8, Augment(flip=0.5)))
    translation: Stream = field(default_factory=lambda: Stream(Unpaired(4), 16, 8, Augment(flip=0.5)))
    width: int = 4
    warmup: float = 0.5
    double: bool = False


class Gan(Method[GanConfig]):
    Config = GanConfig

    def __init__(self, config: GanConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        width = config.width
        self.encoder = TinyEncoder(width, 0.0)
        self.classifier = nn.Linear(self.encoder.dim, num_identities)
        self.generator = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 3, 3, 1, 1)
        )
        self.discriminator = nn.Sequential(nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 1, 1))
        if config.double:
            self.double()

    def streams(self) -> Mapping[str, Stream]:
        return {"main": self.config.stream, "translation": self.config.translation}

    def optimizers(self) -> Mapping[str, Optim]:
        named = [*self.encoder.parameters(), *self.classifier.parameters()]
        return {
            "generator": Optim(torch.optim.Adam(self.generator.parameters(), 1e-3, betas=(0.5, 0.999))),
            "discriminator": Optim(torch.optim.Adam(self.discriminator.parameters(), 1e-3), clip_norm=1.0),
            "embedding": Optim(torch.optim.SGD(named, 0.01, momentum=0.9)),
        }

    def train_step(self, batches: Mapping[str, Batch], step: Step) -> Mapping[str, Tensor]:
        visible, infrared = batches["translation"].images.to(self.classifier.weight.dtype).chunk(2)
        fake = self.generator(visible)
        judged = (self.discriminator(fake).square() + (self.discriminator(infrared) - 1).square()).mean()
        real = infrared.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator(real).sum(), real, create_graph=True)
        judged = judged + 0.01 * slope.square().mean()
        step.minimize(judged, "discriminator")  # the fakes are not detached: only the discriminator may move
        fooled = (self.discriminator(fake) - 1).square().mean() + (fake - visible).abs().mean()
        terms = {"discriminator": judged, "generator": fooled}
        if step.epoch < self.config.warmup:
            step.minimize(fooled, "generator")
            return terms
        main = batches["main"]
        images = main.images.to(fake.dtype)
        if torch.rand((), generator=step.generator) < 0.5:
            images = torch.cat([self.generator(images[: len(images) // 2]), images[len(images) // 2 :]])
        named = F.cross_entropy(self.classifier(self.encoder(images, main.modality)), main.identity)
        step.minimize(fooled + named, "generator", "embedding")
        return {**terms, "identity": named}


METHOD = Gan
