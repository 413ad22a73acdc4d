"""D2RL: pictures are completed to both spectra first, then an ordinary network tells people apart.

Wang, Wang, Zheng, Chuang and Satoh, Learning to Reduce Dual-level Discrepancy for Infrared-Visible Person
Re-identification, CVPR 2019. At image level two variational auto-encoders around one space of codes translate every
picture to the other spectrum, with adversarial and cycle losses; the picture and its translation are one unified
image. At feature level a network of one stream reads unified images. Both learn one after the other, then jointly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.core.errors import ConfigError
from visir.core.grid import Grid
from visir.losses.adversarial import discriminator_loss, generator_loss
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.losses.reconstruction import absolute_error, code_energy
from visir.losses.triplet import triplet_loss
from visir.methods._halves import check_halves, require_pairs
from visir.methods.base import Method, MethodConfig, Optim, Recipe, Step
from visir.nets.backbones import backbone
from visir.nets.ranges import signed
from visir.nets.unified import Translator, UnifiedEncoder, Unify, add_channel, crossed_translators, infrared_channel
from visir.nets.unit import CELL, UnitDiscriminator

ROWS = 8  # of a grid of pictures


def _translation() -> Recipe:
    return Recipe(
        optimizer="adam",
        backbone_rate=1e-4,
        head_rate=1e-4,
        momentum=0.5,
        weight_decay=1e-4,
        nesterov=False,
        drops=(140.0,),
    )


@dataclass(frozen=True)
class D2RLConfig(MethodConfig):
    """The poster's structure; it prints few numbers, the others are those of UNIT and of the AGW baseline. 160 epochs.

    Attributes:
        width: channels of the first layer of translators and discriminators.
        share_latent: the last block of both encoders is one, and the first of both decoders (the UNIT paper).
        noise: codes are drawn around their means while training, as in a variational auto-encoder.
        unify: what the network reads: pictures of ``both`` spectra in four channels, or all as ``visible`` or
            ``infrared`` ones.
        joint: at the end everything learns together, and the translators also from the network's losses; otherwise
            they stay as the first phase leaves them.
        last_stride: 2 leaves a ResNet as it is.
        divergence: weight of the mean square of the codes' means (lambda_0), for both spectra, as all up to ``cycle``.
        reconstruction: weight of the distance of a picture from its reconstruction (lambda_1).
        adversarial: weight of what the discriminators say of made pictures (lambda_2).
        cycle: weight of the distance of a picture from its translation there and back (lambda_3).
        cycle_divergence: as ``divergence``, of the codes of made pictures; 0.01 in the code of UNIT.
        identity: weight of the identity loss (lambda_4).
        triplet: weight of the triplet loss (lambda_5); with neither, the network keeps the weights it starts with.
        margin: of the triplet loss.
        translation_epochs: in which only the translators and discriminators learn.
        warmup_epochs: after these, in which only the network learns.
        translation: of translators and of discriminators.
        recipe: of the network, its classifier ten times as fast.
    """

    stream: Stream = field(
        default_factory=lambda: Stream(IdentityBalanced(4, 4), height=256, width=128, augment=Augment(flip=0.5))
    )
    width: int = 64
    share_latent: bool = False
    noise: bool = True
    unify: Unify = "both"
    joint: bool = True
    last_stride: Literal[1, 2] = 2
    divergence: float = 0.01
    reconstruction: float = 10.0
    adversarial: float = 1.0
    cycle: float = 10.0
    cycle_divergence: float = 0.0
    identity: float = 1.0
    triplet: float = 1.0
    margin: float = 0.3
    translation_epochs: float = 100.0
    warmup_epochs: float = 10.0
    translation: Recipe = field(default_factory=_translation)
    recipe: Recipe = field(default_factory=lambda: Recipe(backbone_rate=0.01, head_rate=0.1, drops=(140.0,)))

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError("width must be at least 1")
        weights = ("divergence", "reconstruction", "adversarial", "cycle", "cycle_divergence", "identity", "triplet")
        for name in (*weights, "margin", "translation_epochs", "warmup_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0")
        if not self.reconstruction + self.adversarial + self.cycle:
            raise ValueError("reconstruction, adversarial and cycle are all 0: there is nothing to translate for")
        if self.cycle_divergence and not self.cycle:
            raise ValueError("cycle_divergence must be 0 where cycle is")


@dataclass(frozen=True, eq=False)
class _Made:
    """What the translators make of a batch: in each pair, the visible picture first.

    Attributes:
        means: of the codes of the pictures that came.
        again: the pictures reconstructed; none where nothing wants them.
        visible: made of the infrared pictures.
        infrared: made of the visible pictures.
    """

    means: tuple[Tensor, Tensor]
    again: tuple[Tensor, Tensor] | None
    visible: Tensor
    infrared: Tensor


class D2RL(Method[D2RLConfig]):
    """Dual-level discrepancy reduction; see :class:`D2RLConfig` for its switches and phases.

    Raises:
        ConfigError: a stream that does not draw images of one identity in both spectra, pictures of a size that the
            translators cannot give back, or a backbone that cannot take four channels.
    """

    Config = D2RLConfig
    encoder: UnifiedEncoder

    def __init__(self, config: D2RLConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        require_pairs("D2RL", config.stream)
        size = (config.stream.height, config.stream.width)
        if any(pixels % CELL for pixels in size):
            raise ConfigError(
                f"with.stream: D2RL translates pictures whose height and width are multiples of {CELL}, got "
                f"{size[0]}x{size[1]}."
            )
        trunk = backbone(config.backbone, weights=config.weights, image_size=size, last_stride=config.last_stride)
        if config.unify == "both":
            add_channel(trunk, name=config.backbone)
        translators = crossed_translators(width=config.width, shared=config.share_latent)
        needed = [name for name in translators if config.unify in (name, "both")]
        self.encoder = UnifiedEncoder(config.unify, {name: translators[name] for name in needed}, trunk)
        self.aside = nn.ModuleDict({name: t for name, t in translators.items() if name not in needed})
        self.discriminators = nn.ModuleDict()
        if config.adversarial:
            for name, channels in (("visible", 3), ("infrared", 1)):
                self.discriminators[name] = UnitDiscriminator(channels, image_size=size, width=config.width)
        self.classifier: nn.Linear | None = None
        if config.identity:
            self.classifier = nn.Linear(self.encoder.dim, num_identities)
            nn.init.normal_(self.classifier.weight, std=0.001)
            nn.init.zeros_(self.classifier.bias)

    @property
    def translators(self) -> dict[str, Translator]:
        """``infrared`` makes infrared pictures of visible ones, ``visible`` the reverse."""
        found = [*self.encoder.translators.items(), *self.aside.items()]
        return {name: module for name, module in found if isinstance(module, Translator)}

    def optimizers(self) -> Mapping[str, Optim]:
        """Of translators, of discriminators, and of the network with its classifier, each where it learns at all."""
        config = self.config
        shared = [p for translator in self.translators.values() for p in translator.parameters()]
        found = {"translation": config.translation.optim(head=dict.fromkeys(shared))}
        if config.adversarial:
            found["discriminators"] = config.translation.optim(head=self.discriminators.parameters())
        if self._embeds:
            new = [] if self.classifier is None else self.classifier.parameters()
            found["network"] = config.recipe.optim(backbone=self.encoder.backbone.parameters(), head=new)
        return found

    def learning(self, epoch: float) -> tuple[bool, bool]:
        """Whether at this epoch the translators (with the discriminators) learn, and whether the network does."""
        config = self.config
        if not self._embeds or epoch < config.translation_epochs:
            return True, False
        return config.joint and epoch >= config.translation_epochs + config.warmup_epochs, True

    def train_step(self, batches: Mapping[str, Batch], step: Step) -> Mapping[str, Tensor]:
        """The discriminators, then translators or network or both, of a batch whose visible half comes first.

        Raises:
            TrainingError: at the first step, a batch that is not of this order.
        """
        batch = batches["main"]
        if step.index == 0:
            check_halves("D2RL", batch)
        half = len(batch) // 2
        visible, infrared = signed(batch.images[:half]), infrared_channel(batch.images[half:])
        known = step.gather(batch.identity[:half])  # of the visible images of all ranks, and of the infrared ones
        draw = _Draw(step, len(known)) if self.config.noise else None
        translators_learn, network_learns = self.learning(step.epoch)
        with torch.set_grad_enabled(translators_learn):
            made = self._make(visible, infrared, draw)
        terms: dict[str, Tensor] = {}
        wanted: dict[str, Tensor] = {}
        if translators_learn:
            if self.config.adversarial:
                terms["discriminators"] = self._discrimination(visible, infrared, made)
                step.minimize(terms["discriminators"], "discriminators")
            wanted |= self._translation(visible, infrared, made, draw)
        if network_learns:
            wanted |= self._identification(visible, infrared, made, batch.identity, known, step)
        names = [n for n, learns in (("translation", translators_learn), ("network", network_learns)) if learns]
        step.minimize(torch.stack(list(wanted.values())).sum(), *names)
        return terms | wanted

    def pictures(self, batches: Mapping[str, Batch]) -> Mapping[str, Grid]:
        """Pictures translated, translated back and reconstructed; and unified images, as the network reads them."""
        batch = batches["main"]
        half = len(batch) // 2
        every = max(1, half // ROWS)
        visible = signed(batch.images[:half])[::every][:ROWS]
        infrared = infrared_channel(batch.images[half:])[::every][:ROWS]
        to_visible, to_infrared = self.translators["visible"], self.translators["infrared"]
        seen, unseen = to_visible(infrared), to_infrared(visible)
        rebuilt = to_visible.decoder(to_infrared.encoder(visible)), to_infrared.decoder(to_visible.encoder(infrared))
        forth = [visible, unseen, to_visible(unseen), rebuilt[0]]
        back = [infrared, seen, to_infrared(seen), rebuilt[1]]
        read = [
            ("visible", "visible: its colours", visible),
            ("infrared", "visible: made infrared", unseen),
            ("visible", "infrared: made visible", seen),
            ("infrared", "infrared: its grey", infrared),
        ]
        read = [column for column in read if self.config.unify in (column[0], "both")]
        return {"translation": _translated([*forth, *back]), "unified": _unified(dict(column[1:] for column in read))}

    @property
    def _embeds(self) -> bool:
        return bool(self.config.identity or self.config.triplet)

    def _make(self, visible: Tensor, infrared: Tensor, draw: _Draw | None) -> _Made:
        to_visible, to_infrared = self.translators["visible"], self.translators["infrared"]
        means = to_infrared.encoder(visible), to_visible.encoder(infrared)
        seen, unseen = (_drawn(mean, draw) for mean in means)
        if not self.config.reconstruction or not torch.is_grad_enabled():
            return _Made(means, None, to_visible.decoder(unseen), to_infrared.decoder(seen))
        visible_again, made_visible = to_visible.decoder(torch.cat([seen, unseen])).chunk(2)
        made_infrared, infrared_again = to_infrared.decoder(torch.cat([seen, unseen])).chunk(2)
        return _Made(means, (visible_again, infrared_again), made_visible, made_infrared)

    def _discrimination(self, visible: Tensor, infrared: Tensor, made: _Made) -> Tensor:
        """The loss of both discriminators; made pictures are given, so nothing of it reaches the translators."""
        pairs = {"visible": (visible, made.visible.detach()), "infrared": (infrared, made.infrared.detach())}
        return torch.stack(
            [
                discriminator_loss(self._scores(name, real), self._scores(name, fake))
                for name, (real, fake) in pairs.items()
            ]
        ).sum()

    def _translation(self, visible: Tensor, infrared: Tensor, made: _Made, draw: _Draw | None) -> dict[str, Tensor]:
        """The image-level terms of the translators, each of both spectra."""
        config = self.config
        terms: dict[str, Tensor] = {}
        if config.divergence:
            terms["divergence"] = config.divergence * _energy(made.means)
        if made.again is not None:
            lost = absolute_error(visible, made.again[0]) + absolute_error(infrared, made.again[1])
            terms["reconstruction"] = config.reconstruction * lost
        if config.adversarial:
            taken = generator_loss(self._scores("visible", made.visible))
            taken = taken + generator_loss(self._scores("infrared", made.infrared))
            terms["adversarial"] = config.adversarial * taken
        if config.cycle:
            to_visible, to_infrared = self.translators["visible"], self.translators["infrared"]
            means = to_visible.encoder(made.infrared), to_infrared.encoder(made.visible)
            back = to_visible.decoder(_drawn(means[0], draw)), to_infrared.decoder(_drawn(means[1], draw))
            terms["cycle"] = config.cycle * (absolute_error(visible, back[0]) + absolute_error(infrared, back[1]))
            if config.cycle_divergence:
                terms["cycle_divergence"] = config.cycle_divergence * _energy(means)
        return terms

    def _identification(
        self, visible: Tensor, infrared: Tensor, made: _Made, identity: Tensor, known: Tensor, step: Step
    ) -> dict[str, Tensor]:
        """The feature-level terms of all unified images; gradients go on into the pictures that were made."""
        halves = self.encoder.unify(visible, made.infrared), self.encoder.unify(made.visible, infrared)
        features = self.encoder.embed(torch.cat(halves))
        terms: dict[str, Tensor] = {}
        with torch.autocast(features.device.type, enabled=False):
            features = full(features)
            if self.classifier is not None:
                terms["identity"] = self.config.identity * identity_loss(self.classifier(features), identity)
            if self.config.triplet:
                every = torch.cat([step.gather(part) for part in features.chunk(2)])
                apart = triplet_loss(every, known.repeat(2), margin=self.config.margin)
                terms["triplet"] = self.config.triplet * apart
        return terms

    def _scores(self, name: str, pictures: Tensor) -> list[Tensor]:
        return [full(scores) for scores in self.discriminators[name](pictures)]


class _Draw:
    """Noise of N(0, 1) for the codes of one modality's half of a batch, the same on any number of ranks.

    It is drawn where the codes are, from numbers that the step's generator gives: codes are large.
    """

    def __init__(self, step: Step, joint: int) -> None:
        self._step, self._joint, self._generator = step, joint, step.generator

    def __call__(self, means: Tensor) -> Tensor:
        seed = int(torch.randint(2**62, (1,), generator=self._generator))
        generator = torch.Generator(means.device).manual_seed(seed)
        shape = (self._joint, *means.shape[1:])
        return self._step.share(torch.randn(shape, generator=generator, dtype=means.dtype, device=means.device))


def _drawn(means: Tensor, draw: _Draw | None) -> Tensor:
    return means if draw is None else means + draw(means)


def _energy(means: tuple[Tensor, Tensor]) -> Tensor:
    return code_energy(full(means[0])) + code_energy(full(means[1]))


def _translated(pictures: Sequence[Tensor]) -> Grid:
    columns = tuple(
        heading
        for own, other in (("visible", "infrared"), ("infrared", "visible"))
        for heading in (own, f"made {other}", "and back", "reconstructed")
    )
    caption = (
        "Each picture in the other spectrum, back in its own, and reconstructed from its own code. Look whether the "
        "person and the pose stay."
    )
    return Grid(_table(pictures), columns, caption)


def _unified(columns: Mapping[str, Tensor]) -> Grid:
    caption = (
        "What the network reads of a visible and of an infrared picture of one person. Look whether both have become "
        "alike."
    )
    return Grid(_table([*columns.values()]), tuple(columns), caption)


def _table(pictures: Sequence[Tensor]) -> Tensor:
    """Columns of (B, 1 or 3, H, W) in [-1, 1] -> (B, columns, 3, H, W) in [0, 1] on the CPU."""
    return torch.stack([(full(picture).cpu() + 1) / 2 for picture in (p.expand(-1, 3, -1, -1) for p in pictures)], 1)


METHOD = D2RL
