"""AlignGAN: visible images become infrared ones, and their features those of real infrared images.

Wang, Zhang, Cheng, Liu, Yang and Hou, RGB-Infrared Cross-Modality Person Re-Identification via Joint Pixel and Feature
Alignment, ICCV 2019. The pixel module translates by cycle consistency and so that people stay who they are; the feature
module reads made and real infrared images; a joint discriminator of images with features drives both. Order of the
phases and of the updates, layers and halves of losses are those of the released code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.core.errors import ConfigError
from visir.core.grid import Grid
from visir.losses.adversarial import discriminator_loss, generator_loss
from visir.losses.cosine_triplet import cosine_triplet_loss, two_way_cosine_triplet_loss
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.losses.reconstruction import absolute_error
from visir.methods._halves import check_halves
from visir.methods.base import Method, MethodConfig, Optim, Recipe, Step
from visir.nets.aligngan import (
    FeatureHeads,
    ImageDiscriminator,
    ImageTranslator,
    JointDiscriminator,
    TranslatingEncoder,
)
from visir.nets.backbones import backbone
from visir.nets.ranges import shown

Terms = dict[str, Tensor]

ROWS = 8  # of a grid of pictures


@dataclass(frozen=True)
class AlignGANConfig(MethodConfig):
    """The published numbers; an epoch is a round of 100 steps, 251 in all.

    Attributes:
        stream: the batches of the feature module. The pixel module draws as many images of a person.
        pixel_identities: people in a batch of the pixel module, even; no more than the stream draws.
        reduction: by which the stream's height and width are divided for the pictures that are translated: 128x128.
        width: channels of the first layer of translators and discriminators.
        blocks: residual blocks of a translator.
        dim: length of the classifier's bottleneck and of the embedding that triplets compare.
        last_stride: 1 keeps the resolution of a ResNet's third stage.
        dropout: share of the pooled features that the classifier does not see.
        margin: of the triplets, in cosines.
        cycle: weight of the cycle loss.
        mapping: weight of the loss that images which are of the wanted spectrum already stay as they are.
        task: weight of triplets and identity loss on made infrared images, for the pixel module; 0 leaves them out.
        alignment: weight of the joint discriminator for the feature module; 0 leaves it to the pixel module.
        mirror: embed an image as it and its mirror image together, as published; it takes twice the time.
        feature_epochs: length of the first phase, the feature module on infrared images alone.
        pixel_epochs: length of the second phase, the pixel module alone; after it, both learn in each step.
        recipe: of the feature module, the backbone slower than the heads. Drops count from the last phase on.
        translation: of translators and discriminators; drops likewise.
    """

    stream: Stream = field(
        default_factory=lambda: Stream(
            IdentityBalanced(18, 4, "permuted"), height=384, width=192, augment=Augment(flip=0.5)
        )
    )
    pixel_identities: int = 4
    reduction: tuple[float, float] = (3.0, 1.5)
    width: int = 64
    blocks: int = 4
    dim: int = 256
    last_stride: Literal[1, 2] = 1
    dropout: float = 0.5
    margin: float = 1.0
    cycle: float = 10.0
    mapping: float = 5.0
    task: float = 0.1
    alignment: float = 0.1
    mirror: bool = True
    feature_epochs: float = 50
    pixel_epochs: float = 100
    recipe: Recipe = field(default_factory=lambda: Recipe(backbone_rate=0.02, head_rate=0.2, drops=(50.0,)))
    translation: Recipe = field(
        default_factory=lambda: Recipe(
            optimizer="adam",
            backbone_rate=2e-4,
            head_rate=2e-4,
            momentum=0.5,
            weight_decay=0.0,
            nesterov=False,
            drops=(50.0,),
        )
    )

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("margin", "cycle", "mapping", "task", "alignment", "feature_epochs", "pixel_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0")
        if self.pixel_identities < 2 or self.pixel_identities % 2:
            raise ValueError("pixel_identities must be an even number of at least 2")
        if not all(1 <= times < math.inf for times in self.reduction):
            raise ValueError("reduction must be two finite numbers of at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")


class AlignGAN(Method[AlignGANConfig]):
    """Joint pixel and feature alignment; see :class:`AlignGANConfig` for its switches.

    Raises:
        ConfigError: a stream that does not draw several people with images in both spectra.
    """

    Config = AlignGANConfig
    encoder: TranslatingEncoder

    def __init__(self, config: AlignGANConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        stream = config.stream
        self._pixel_draw = _pixel_draw(config)
        size = (stream.height, stream.width)
        trunk = backbone(config.backbone, weights=config.weights, image_size=size, last_stride=config.last_stride)
        translator = ImageTranslator(config.width, config.blocks)
        self.encoder = TranslatingEncoder(
            translator, trunk, size=size, reduction=config.reduction, mirror=config.mirror
        )
        self.to_visible = ImageTranslator(config.width, config.blocks)
        dim, small = trunk.channels, self.encoder.small
        self.heads = FeatureHeads(dim, dim=config.dim, num_identities=num_identities, dropout=config.dropout)
        self.visible = ImageDiscriminator(small, config.width)
        self.infrared = ImageDiscriminator(small, config.width)  # alone in the second phase
        self.joint = JointDiscriminator(dim, small, config.width)  # takes its place in the last one
        self._checked: set[str] = set()

    def streams(self) -> Mapping[str, Stream]:
        """``feature`` as configured, and ``pixel`` with fewer people."""
        stream = self.config.stream
        return {"feature": stream, "pixel": replace(stream, draw=self._pixel_draw)}

    def wanted(self, epoch: float) -> tuple[str, ...]:
        """The streams of the phases that the whole epoch touches."""
        first, last = math.floor(epoch), math.floor(epoch) + 1
        start = self.config.feature_epochs
        alone = start <= first and last <= start + self.config.pixel_epochs
        names = {"feature": not alone, "pixel": last > start}
        return tuple(name for name, needed in names.items() if needed)

    def optimizers(self) -> Mapping[str, Optim]:
        """``feature`` (backbone and heads), ``translators``, and one of each discriminator."""
        config, encoder = self.config, self.encoder
        networks: dict[str, list[nn.Module]] = {
            "translators": [encoder.translator, self.to_visible],
            "visible": [self.visible],
            "infrared": [self.infrared],
            "joint": [self.joint],
        }
        optims = {
            name: config.translation.optim(head=[p for network in some for p in network.parameters()])
            for name, some in networks.items()
        }
        optims["feature"] = config.recipe.optim(backbone=encoder.backbone.parameters(), head=self.heads.parameters())
        start = config.feature_epochs + config.pixel_epochs
        return {name: replace(optim, schedule=_since(start, optim.schedule)) for name, optim in optims.items()}

    def train_step(self, batches: Mapping[str, Batch], step: Step) -> Mapping[str, Tensor]:
        """One step of the phase: the feature module, the pixel module, or one after the other.

        Raises:
            TrainingError: a first batch that is not its visible half and then its infrared one.
            ConfigError: people of the pixel module who cannot be paired up on every rank.
        """
        config = self.config
        if step.epoch < config.feature_epochs:
            return self._infrared_features(self._known("feature", batches), step)
        if step.epoch < config.feature_epochs + config.pixel_epochs:
            return self._pixels(self._known("pixel", batches), step, joint=False)
        terms = self._features(self._known("feature", batches), step)
        return terms | self._pixels(self._known("pixel", batches), step, joint=True)

    def pictures(self, batches: Mapping[str, Batch]) -> Mapping[str, Grid]:
        """Translations and there and back again, of both spectra."""
        visible, infrared = (half[:ROWS] for half in batches["pixel"].images.chunk(2))
        to_infrared, to_visible = self.encoder.translator, self.to_visible
        return {
            "visible-to-infrared": self._grid(
                visible,
                to_infrared,
                to_visible,
                ("visible", "made infrared", "back to visible"),
                "Visible images, what the encoder reads in their place, and the way back: the middle should look like "
                "an infrared camera's picture of the same person, the right like the left.",
            ),
            "infrared-to-visible": self._grid(
                infrared,
                to_visible,
                to_infrared,
                ("infrared", "made visible", "back to infrared"),
                "Infrared images, their translation, of which only the way back is used, and that way back: the right "
                "should look like the left.",
            ),
        }

    def _grid(self, images: Tensor, forth: nn.Module, back: nn.Module, columns: tuple[str, ...], caption: str) -> Grid:
        made = forth(self.encoder.reduced(images))
        translated = [self.encoder.enlarged(full(one)) for one in (made, back(made))]
        seen = torch.stack([shown(one).float().cpu() for one in (images, *translated)], dim=1)
        return Grid(seen.clamp(0, 1), columns, caption)

    def _known(self, stream: str, batches: Mapping[str, Batch]) -> Batch:
        """The batch of a stream, whose labels are read the first time."""
        batch = batches[stream]
        if stream not in self._checked:
            check_halves("AlignGAN", batch)
            if stream == "pixel":
                self._check_neighbours(batch)
            self._checked.add(stream)
        return batch

    def _check_neighbours(self, batch: Batch) -> None:
        draw, people = self._pixel_draw, batch.identity[: len(batch) // 2]
        if len(people) % (2 * draw.images) or bool((people == self._of_others(people)).any()):
            raise ConfigError(
                f"with.pixel_identities: AlignGAN pairs up the people of a batch, {draw.images} images of each, one "
                f"after the other, and got images of the identities {people.tolist()}; give every rank an even number "
                "of people."
            )

    def _of_others(self, rows: Tensor) -> Tensor:
        """(P * K, ...) by person -> the same with neighbouring people exchanged."""
        neighbours = rows.view(-1, 2, self._pixel_draw.images, *rows.shape[1:])
        return neighbours.flip(1).flatten(0, 2)

    def _infrared_features(self, batch: Batch, step: Step) -> Terms:
        """First phase: who is who in infrared."""
        small, people = self.encoder.reduced(batch.images.chunk(2)[1]), batch.identity.chunk(2)[1]
        logits, embedded = self.heads(self.encoder.pool(self.encoder.maps(small)))
        with torch.autocast(small.device.type, enabled=False):
            rows, known = step.gather(full(embedded)), step.gather(people)
            terms = {
                "identity": identity_loss(full(logits), people),
                "triplet": cosine_triplet_loss(rows, rows, known, known, margin=self.config.margin),
            }
            step.minimize(_total(terms), "feature")
        return terms

    def _features(self, batch: Batch, step: Step) -> Terms:
        """Made and real infrared images: who is who in both, alike across, and alike for the joint discriminator."""
        encoder, people = self.encoder, batch.identity.chunk(2)[0]
        visible, infrared = encoder.reduced(batch.images).chunk(2)
        with torch.no_grad():  # the translator learns from the pixel module alone
            made = full(encoder.translator(visible))
        maps = encoder.maps(torch.cat([made, infrared]))
        logits, embedded = self.heads(encoder.pool(maps))
        scores = self.joint(infrared, maps.chunk(2)[0]) if self.config.alignment else None
        with torch.autocast(infrared.device.type, enabled=False):
            (first, second), known = self._gathered(embedded, step), step.gather(people)
            terms = {
                "identity": 2 * identity_loss(full(logits), people.repeat(2)),  # the sum of both kinds
                "triplet": two_way_cosine_triplet_loss(first, second, known, known, margin=self.config.margin),
            }
            if scores is not None:
                terms["alignment"] = self.config.alignment * generator_loss(full(scores))
            step.minimize(_total(terms), "feature")
        return terms

    def _pixels(self, batch: Batch, step: Step, *, joint: bool) -> Terms:
        """Translators, then discriminators, of which ``joint`` says whether the infrared one sees features too."""
        encoder = self.encoder
        visible, infrared = encoder.reduced(batch.images).chunk(2)
        made_infrared, made_visible = full(encoder.translator(visible)), full(self.to_visible(infrared))
        maps = encoder.maps(torch.cat([made_infrared, infrared])) if joint or self.config.task else None
        known = None if maps is None or not joint else maps.detach()
        told = self.infrared(made_infrared) if known is None else self.joint(made_infrared, known.chunk(2)[1])
        fooled = generator_loss(full(self.visible(made_visible))) + generator_loss(full(told))
        terms = {"adversarial": fooled / 2, **self._restored(visible, infrared, made_visible, made_infrared)}
        if maps is not None and self.config.task:
            terms |= self._recognised(maps, batch.identity.chunk(2)[0], step)
        step.minimize(_total(terms), "translators")
        made_infrared, made_visible = made_infrared.detach(), made_visible.detach()
        seen = discriminator_loss(full(self.visible(visible)), full(self.visible(made_visible)))
        if known is None:
            unseen = discriminator_loss(full(self.infrared(infrared)), full(self.infrared(made_infrared)))
        else:
            unseen = self._judged(infrared, made_infrared, *known.chunk(2))
        step.minimize((seen + unseen) / 2, "visible", "infrared" if known is None else "joint")
        return {**terms, "visible_discriminator": seen / 2, "infrared_discriminator": unseen / 2}

    def _restored(self, visible: Tensor, infrared: Tensor, made_visible: Tensor, made_infrared: Tensor) -> Terms:
        """What translators should leave as it was: images there and back again, and images of the wanted spectrum."""
        config, to_infrared, to_visible = self.config, self.encoder.translator, self.to_visible
        terms: Terms = {}
        if config.cycle:
            back = absolute_error(visible, full(to_visible(made_infrared)))
            back = back + absolute_error(infrared, full(to_infrared(made_visible)))
            terms["cycle"] = config.cycle * back / 2
        if config.mapping:
            kept = absolute_error(visible, full(to_visible(visible)))
            kept = kept + absolute_error(infrared, full(to_infrared(infrared)))
            terms["mapping"] = config.mapping * kept / 2
        return terms

    def _recognised(self, maps: Tensor, people: Tensor, step: Step) -> Terms:
        """Whether made infrared images show who they should, for the feature module as it is."""
        weight, (logits, embedded) = self.config.task, self.heads(self.encoder.pool(maps))
        with torch.autocast(maps.device.type, enabled=False):
            (made, real), known = self._gathered(embedded, step), step.gather(people)
            across = two_way_cosine_triplet_loss(made, real.detach(), known, known, margin=self.config.margin)
            named = identity_loss(full(logits).chunk(2)[0], people)
            return {"task_identity": weight * named, "task_triplet": weight * across}

    def _gathered(self, embedded: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """The embeddings of made and of real infrared images of all ranks."""
        made, real = full(embedded).chunk(2)
        return step.gather(made), step.gather(real)

    def _judged(self, infrared: Tensor, made_infrared: Tensor, made: Tensor, real: Tensor) -> Tensor:
        """The joint discriminator's loss: only a real image with its own real feature counts as real.

        Not real are, each as much: the image of another person, a made feature, a made image, both made.
        """
        images = torch.cat([self._of_others(infrared), infrared, made_infrared, made_infrared])
        features = torch.cat([real, made, real, made])
        return discriminator_loss(full(self.joint(infrared, real)), full(self.joint(images, features)))


def _pixel_draw(config: AlignGANConfig) -> IdentityBalanced:
    draw = config.stream.draw
    people = min(config.pixel_identities, draw.identities) // 2 * 2 if isinstance(draw, IdentityBalanced) else 0
    if not isinstance(draw, IdentityBalanced) or people < 2:
        raise ConfigError(
            "with.stream.draw: AlignGAN compares images of several people, each in both spectra, got "
            f"{draw}; use kind 'identity_balanced' with at least 2 identities."
        )
    return replace(draw, identities=people)


def _since(start: float, schedule: Callable[[float], float]) -> Callable[[float], float]:
    """The schedule by epochs after ``start``; before, what it begins with."""
    return lambda epoch: schedule(max(0.0, epoch - start))


def _total(terms: Terms) -> Tensor:
    return torch.stack(list(terms.values())).sum()


METHOD = AlignGAN
