"""CycleGAN: images of one spectrum converted to the other, learnt without pairs.

Zhu, Park, Isola and Efros, Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, ICCV 2017.
Two generators convert in both directions. Each makes pictures that a discriminator takes for real ones of its spectrum;
a picture that was converted and converted back is the picture it was; a picture that is already of the wanted spectrum
stays as it is. CE2L (Dai et al., ICPR 2020) learns from what it makes of the training images, after the shorter
schedule of Zhong et al., Camera Style Adaptation for Person Re-identification, CVPR 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, Stream, Unpaired
from visir.core.errors import ConfigError, TrainingError
from visir.core.grid import Grid
from visir.core.types import Modality
from visir.losses.adversarial import discriminator_loss, generator_loss
from visir.losses.precision import full
from visir.losses.reconstruction import absolute_error
from visir.methods.base import ConversionMethod, MethodConfig, Optim, Recipe, Step
from visir.nets.cyclegan import PatchDiscriminator, ResidualGenerator
from visir.nets.image_pool import ImagePool
from visir.nets.ranges import normalised, shown, signed
from visir.nets.routing import by_modality

ROWS = 8  # most pictures of each spectrum that are shown
OTHER = {"visible": "infrared", "infrared": "visible"}  # in the order of the halves of a batch


@dataclass(frozen=True)
class CycleGANConfig(MethodConfig):
    """The numbers of the paper's code with the shorter schedule; ``backbone`` and ``weights`` have no meaning here.

    Attributes:
        stream: read 30 pixels larger and cropped back; height and width are multiples of 4.
        width: channels of the first layer of every network.
        blocks: residual blocks of each generator; 9 for pictures of 256 pixels, 6 for 128.
        cycle: weight of the pictures that are converted and converted back; 0 leaves them out.
        mapping: weight of the pictures of the wanted spectrum, which should stay as they are; 0 leaves them out.
        pool: number of made pictures of each spectrum that are kept to train the discriminators with; 0 for none.
        constant_epochs: how long both rates stay.
        decay_epochs: how long they then take to fall to 0 in a straight line; the training ends there. 0: they stay.
        translation: of generators and discriminators alike; all of them are new, so ``head_rate`` counts.
    """

    stream: Stream = field(
        default_factory=lambda: Stream(Unpaired(1), height=256, width=256, augment=Augment(flip=0.5, enlarge=30))
    )
    width: int = 64
    blocks: int = 9
    cycle: float = 10.0
    mapping: float = 5.0
    pool: int = 50
    constant_epochs: float = 30.0
    decay_epochs: float = 20.0
    translation: Recipe = field(
        default_factory=lambda: Recipe(
            optimizer="adam", backbone_rate=2e-4, head_rate=2e-4, momentum=0.5, weight_decay=0.0, nesterov=False
        )
    )

    def __post_init__(self) -> None:
        for name in ("width", "blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.pool < 0:
            raise ValueError("pool must be at least 0")
        for name in ("cycle", "mapping", "constant_epochs", "decay_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0")


class Converter(nn.Module):
    """Images of either spectrum -> the same images as the other spectrum would show them.

    Attributes:
        to_infrared: (B, 3, H, W) visible images in [-1, 1] -> the same as infrared ones.
        to_visible: the reverse.
    """

    def __init__(self, *, width: int, blocks: int) -> None:
        super().__init__()
        self.to_infrared = ResidualGenerator(width=width, blocks=blocks)
        self.to_visible = ResidualGenerator(width=width, blocks=blocks)

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) and their (B,) modalities -> (B, 3, H, W), ImageNet-normalised as they came.

        What is made infrared is the mean of the generator's three channels, three times: real infrared pictures have
        one channel, and what was learnt of them is nearly grey.
        """
        made = by_modality(self._grey, self.to_visible, signed(images), modality, training=self.training)
        return normalised(full(made))

    def _grey(self, images: Tensor) -> Tensor:
        made: Tensor = self.to_infrared(images)
        return made.mean(1, keepdim=True).expand_as(made)


class CycleGAN(ConversionMethod[CycleGANConfig]):
    """Cycle-consistent adversarial conversion; see :class:`CycleGANConfig` for its switches.

    The generators are updated first, then the discriminators on what the generators had made before, as published.

    Raises:
        ConfigError: pictures whose height or width is no multiple of 4, or below 8 pixels.
    """

    Config = CycleGANConfig
    encoder: Converter

    def __init__(self, config: CycleGANConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        height, width = size = (config.stream.height, config.stream.width)
        if height % 4 or width % 4 or min(size) < 8:
            raise ConfigError(
                "with.stream: CycleGAN needs pictures whose height and width are multiples of 4 of at least 8 pixels, "
                f"got {height}x{width}."
            )
        self.encoder = Converter(width=config.width, blocks=config.blocks)
        self.discriminators = nn.ModuleDict({to: PatchDiscriminator(size, width=config.width) for to in OTHER})
        kept = {to: ImagePool(config.pool, (3, height, width)) for to in OTHER} if config.pool else {}
        self.pools = nn.ModuleDict(kept)

    def optimizers(self) -> Mapping[str, Optim]:
        """One Adam for both generators, one for both discriminators."""
        recipe, fall = self.config.translation, linear_decay(self.config.constant_epochs, self.config.decay_epochs)

        def optim(networks: nn.Module) -> Optim:
            made = recipe.optim(head=networks.parameters())
            own = made.schedule
            return replace(made, schedule=lambda epoch: own(epoch) * fall(epoch))

        return {"generators": optim(self.encoder), "discriminators": optim(self.discriminators)}

    def train_step(self, batches: Mapping[str, Batch], step: Step) -> Mapping[str, Tensor]:
        """The generators, then the discriminators; the weighted terms of both.

        Raises:
            TrainingError: at the first step, a batch that is not N visible images, then N infrared ones.
        """
        batch = batches["main"]
        if step.index == 0:
            _check_order(batch)
        real = dict(zip(OTHER, signed(batch.images).chunk(2), strict=True))
        wanted, made = self._generate(real)
        step.minimize(torch.stack(list(wanted.values())).sum(), "generators")
        judged = self._judge(real, {to: self._pooled(to, full(images).detach(), step) for to, images in made.items()})
        step.minimize(torch.stack(list(judged.values())).sum(), "discriminators")
        return {**wanted, **judged}

    def pictures(self, batches: Mapping[str, Batch]) -> Mapping[str, Grid]:
        """What the encoder makes of each spectrum, and of what it made: ``translations``."""
        halves = [(images[:ROWS], kind[:ROWS]) for images, kind in _halves(batches["main"])]
        columns = []
        for images, modality in halves:
            there = self.encoder(images, modality)
            columns += [images, there, self.encoder(there, 1 - modality)]
        grid = Grid(
            images=torch.stack([shown(full(column)).cpu() for column in columns], dim=1),
            columns=(
                *("visible", "made infrared", "made visible again"),
                *("infrared", "made visible", "made infrared again"),
            ),
            caption="Real pictures of both spectra, converted to the other one, and back again. A good conversion "
            "keeps pose, background and the borders of clothes; the third and sixth columns show what got lost.",
        )
        return {"translations": grid}

    def _generate(self, real: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The generators' terms, and the images that were made of each spectrum."""
        config = self.config
        made, same, terms = {}, {}, {}
        for to, source in OTHER.items():
            if config.mapping:  # no image looks at another in these networks, so both kinds go through at once
                made[to], same[to] = self._generator(to)(torch.cat([real[source], real[to]])).chunk(2)
            else:
                made[to] = self._generator(to)(real[source])
        scores = {to: self.discriminators[to](images) for to, images in made.items()}
        again = {to: self._generator(to)(made[source]) for to, source in OTHER.items()} if config.cycle else {}
        with torch.autocast(real["visible"].device.type, enabled=False):
            for to, fake in scores.items():
                terms[f"adversarial_{to}"] = generator_loss(full(fake))
            for to, images in again.items():
                terms[f"cycle_{to}"] = config.cycle * absolute_error(real[to], full(images))
            for to, images in same.items():
                terms[f"mapping_{to}"] = config.mapping * absolute_error(real[to], full(images))
        return terms, made

    def _judge(self, real: Mapping[str, Tensor], made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The discriminators' terms on images without gradient."""
        scores = {to: self.discriminators[to](torch.cat([real[to], made[to]])).chunk(2) for to in OTHER}
        with torch.autocast(real["visible"].device.type, enabled=False):
            return {
                f"discriminator_{to}": 0.5 * discriminator_loss(full(genuine), full(fake))
                for to, (genuine, fake) in scores.items()
            }

    def _generator(self, to: str) -> nn.Module:
        return self.encoder.to_visible if to == "visible" else self.encoder.to_infrared

    def _pooled(self, to: str, images: Tensor, step: Step) -> Tensor:
        """Old and new images of all ranks, of which this rank gets its part."""
        if not self.config.pool:
            return images
        pool = self.pools[to]
        assert isinstance(pool, ImagePool)
        return step.share(pool.exchange(step.gather(images), step.generator))


def linear_decay(constant_epochs: float, decay_epochs: float) -> Callable[[float], float]:
    """A schedule that stays for a while, then falls to 0 in a straight line; 0 epochs of decay: it stays.

    It falls with every step. (The published code falls with every epoch, which is less the same thing the fewer epochs
    there are.)

    >>> schedule = linear_decay(30, 20)
    >>> [schedule(epoch) for epoch in (0, 30, 35, 40, 50, 60)]
    [1.0, 1.0, 0.75, 0.5, 0.0, 0.0]
    """

    def schedule(epoch: float) -> float:
        return 1.0 - min(1.0, max(0.0, epoch - constant_epochs) / decay_epochs) if decay_epochs else 1.0

    return schedule


def _halves(batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Images and modalities of the visible and of the infrared half."""
    return list(zip(batch.images.chunk(2), batch.modality.chunk(2), strict=True))


def _check_order(batch: Batch) -> None:
    """It reads the labels, for which a GPU has to be waited for: look at the first batch only."""
    half = len(batch) // 2
    if not half or batch.modality.tolist() != [int(Modality.VISIBLE)] * half + [int(Modality.INFRARED)] * half:
        raise TrainingError(
            f"CycleGAN: expected a batch of N visible images followed by N infrared ones, got {len(batch)} images in "
            "another order."
        )


METHOD = CycleGAN
