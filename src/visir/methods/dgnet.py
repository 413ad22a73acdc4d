"""DG-Net over two spectra: pictures are taken apart into appearance and structure and put together anew.

Zheng, Yang, Yu, Zheng, Yang and Kautz, Joint Discriminative and Generative Learning for Person Re-identification, CVPR
2019, as the baseline of Jambigi's slides of 2020 on disentanglement for RGB-infrared re-identification, and their
modification that reads identity from the structure instead of the appearance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.core.grid import Grid
from visir.losses.adversarial import discriminator_loss, generator_loss, gradient_penalty
from visir.losses.identity import identity_loss
from visir.losses.precision import full
from visir.losses.reconstruction import absolute_error
from visir.losses.teaching import mean_softmax, teaching_loss
from visir.methods._exchanges import chosen, exchange_matrix, structure_maps
from visir.methods._halves import check_halves
from visir.methods._partners import Exchange, Partners, check_groups, partners, require_groups
from visir.methods.base import Method, MethodConfig, Optim, Recipe, Step, step_decay
from visir.nets.adaptive import Slices
from visir.nets.backbones import Backbone, backbone
from visir.nets.dgnet import Generator, ScaledDiscriminators, StructureEncoder, appearance_code
from visir.nets.dgnet_identity import AppearanceEncoder, Classifier, Feature, StructureReader, Teacher
from visir.nets.erasing import erased, random_boxes
from visir.nets.frozen import Run, frozen, live, unmoved

SLOPE = 2.0  # how far weights rise in `rising_epochs`: 4,000 steps of 0.0005


@dataclass(frozen=True)
class DGNetConfig(MethodConfig):
    """The numbers of DG-Net, in epochs of 1,000 steps: 20 of the teacher, then the 100,000 published steps.

    The epochs of the three phases follow one another; then all losses act until the training ends.

    Attributes:
        identity: what identity is read from: ``appearance``, as DG-Net does, or ``structure``. With ``structure`` the
            generator's gradient reaches the appearance encoder, which then has no other loss, and a made picture counts
            as whom its structure comes from.
        width: channels of the structure encoder's first layer; the other image networks are in proportion.
        narrowing: features have the channels of the appearance encoder divided by it: 512 of a ResNet-50's 2,048.
        adain_slice: which part of an appearance code a block of the generator sees: ``flat`` (as released: some
            channels of all stripes) or ``stripe`` (all channels of one stripe).
        reconstruction: weight of pictures made with their own appearance, and with that of another picture of the same
            person and modality.
        real_identity: weight of the identity of real pictures; 2, because each is also the other picture of its person,
            which the released code counts a second time.
        made_identity: weight of the identity of made pictures, which trains the generator; 0 leaves it out.
        code: weight of the codes of made pictures, which should be those they were made of; 0 leaves them out.
        adversarial: weight of the discriminator's opinion.
        penalty: weight of the discriminator's gradient at real pictures; 0 leaves it out.
        teaching: weight of what the teacher says of made pictures; 0 leaves it and the teacher out.
        fine: weight, as a share of ``teaching``, of a second head that recognises in made pictures whom the structure
            comes from, and in real ones who it is; it counts half in the search. 0 (the slides) leaves it out; DG-Net
            has 0.2.
        cycle: weight of pictures made again of the codes of made ones. 0 (the slides) leaves it out; DG-Net's released
            code has 2.
        other_modality: chance that a picture exchanges codes with one of the other modality.
        recoding: chance that a step trains the structure encoder on made pictures; otherwise the generator learns from
            the structure that a frozen one finds in them.
        erase: chance that a picture is partly erased where its identity is learnt, and nowhere else.
        dropout: before the classifiers.
        fine_dropout: before the classifier of the second head.
        last_stride: of the appearance encoder; the teacher keeps its own.
        mirror: embed an image as it and its mirror image together, as published; it takes twice the time.
        teacher_epochs: the teacher alone learns to tell the real pictures apart; then its weights stay.
        feeding_epochs: without codes, teaching and cycle.
        rising_epochs: these weights rise equally fast, by 2 in this time, up to what they are set to.
        recipe: of the appearance encoder, with its heads faster, and of the teacher, whose rates drop once, after two
            thirds of its epochs. With ``structure``, of the layers behind the structure encoder too.
        translation: of structure encoder, generator and discriminator.
    """

    stream: Stream = field(
        default_factory=lambda: Stream(
            IdentityBalanced(4, 2), height=256, width=128, augment=Augment(flip=0.5, pad=10, border="edge")
        )
    )
    identity: Literal["appearance", "structure"] = "appearance"
    width: int = 16
    narrowing: int = 4
    adain_slice: Slices = "flat"
    reconstruction: float = 5.0
    real_identity: float = 2.0
    made_identity: float = 0.5
    code: float = 1.0
    adversarial: float = 2.0
    penalty: float = 0.01
    teaching: float = 2.0
    fine: float = 0.0
    cycle: float = 0.0
    other_modality: float = 0.5
    recoding: float = 0.5
    erase: float = 0.5
    dropout: float = 0.5
    fine_dropout: float = 0.75
    last_stride: Literal[1, 2] = 1
    mirror: bool = True
    teacher_epochs: float = 20.0
    feeding_epochs: float = 30.0
    rising_epochs: float = 4.0
    recipe: Recipe = field(default_factory=lambda: Recipe(backbone_rate=0.002, head_rate=0.02, drops=(80.0, 110.0)))
    translation: Recipe = field(
        default_factory=lambda: Recipe(
            optimizer="adam", backbone_rate=1e-4, head_rate=1e-4, momentum=0.0, nesterov=False, drops=(80.0, 110.0)
        )
    )

    def __post_init__(self) -> None:
        for name in ("width", "narrowing"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        needed = ("reconstruction", "real_identity", "adversarial")
        parts = ("made_identity", "code", "penalty", "teaching", "fine", "cycle")
        for name in (*needed, *parts, "teacher_epochs", "feeding_epochs", "rising_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0")
        for name in ("other_modality", "recoding", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1")
        for name in ("dropout", "fine_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1")
        for name in needed:
            if not getattr(self, name):
                raise ValueError(f"{name} must be above 0")
        if not self.teaching and (self.teacher_epochs or self.fine):
            raise ValueError("teaching must be above 0 where teacher_epochs or fine are: nothing would use them")
        if self.fine and self.identity == "structure":
            raise ValueError("fine must be 0 where identity is read from structure: it is a head on appearance")


class DGNet(Method[DGNetConfig]):
    """Joint discriminative and generative learning; see :class:`DGNetConfig` for its switches.

    Raises:
        ConfigError: a stream without two pictures of each of an even number of people, or pictures of a size that the
            generator cannot give.
    """

    Config = DGNetConfig
    encoder: AppearanceEncoder | StructureReader

    def __init__(self, config: DGNetConfig, num_identities: int) -> None:
        super().__init__(config, num_identities)
        self._group = require_groups("DG-Net", config.stream).images
        size = (config.stream.height, config.stream.width)
        structure = StructureEncoder(config.width, size)
        trunk = self._trunk(config.last_stride)
        dim = max(1, trunk.channels // config.narrowing)
        self.companion: nn.Module  # the encoder that identity is not read from
        if config.identity == "appearance":
            self.encoder = AppearanceEncoder(trunk, dim=dim, fine=config.fine > 0, mirror=config.mirror)
            self.companion, length = structure, dim
        else:
            self.encoder = StructureReader(structure, mirror=config.mirror)
            self.companion, length = trunk, self.encoder.dim
        raw, dropout = config.identity == "structure", config.dropout
        self.classifier = Classifier(length, num_identities, dropout=dropout, normalise=raw)
        self.fine_classifier = Classifier(length, num_identities, dropout=config.fine_dropout) if config.fine else None
        self.generator = Generator(config.width, trunk.channels, slices=config.adain_slice)
        self.discriminator = ScaledDiscriminators(config.width, size)
        self.teacher = (
            Teacher(self._trunk(2), dim=dim, num_identities=num_identities, dropout=dropout)
            if config.teaching
            else None
        )

    def optimizers(self) -> Mapping[str, Optim]:
        """What recognises, what is made, what judges; and the teacher, whose rates drop after 2/3 of its epochs."""
        config, encoder = self.config, self.encoder
        heads: list[nn.Module | None] = [self.classifier, self.fine_classifier]
        heads += [encoder.prime, encoder.fine] if isinstance(encoder, AppearanceEncoder) else [encoder.deepen]
        new = [parameter for head in heads if head is not None for parameter in head.parameters()]
        made = [*self.structure.parameters(), *self.generator.parameters()]
        found = {
            "identity": config.recipe.optim(backbone=self.appearance.parameters(), head=new),
            "generator": config.translation.optim(head=made),
            "discriminator": config.translation.optim(head=self.discriminator.parameters()),
        }
        if self.teacher is not None:
            behind = [*self.teacher.prime.parameters(), *self.teacher.classifier.parameters()]
            optim = config.recipe.optim(backbone=self.teacher.backbone.parameters(), head=behind)
            found["teacher"] = replace(optim, schedule=step_decay(config.teacher_epochs * 2 / 3))
        return found

    @property
    def appearance(self) -> nn.Module:
        """E_a, (B, 3, H, W) -> (B, C, h, w)."""
        return self.encoder.backbone if isinstance(self.encoder, AppearanceEncoder) else self.companion

    @property
    def structure(self) -> nn.Module:
        """E_s, (B, 3, H, W) -> (B, S, H/4, W/4)."""
        return self.companion if isinstance(self.encoder, AppearanceEncoder) else self.encoder.structure

    def train_step(self, batches: Mapping[str, Batch], step: Step) -> Mapping[str, Tensor]:
        """The teacher while it is its time; later the discriminator, then everything else against the new one.

        Raises:
            TrainingError: at the first step, a batch in another order than the stream's draw gives.
        """
        batch, config = batches["main"], self.config
        if step.index == 0:
            check_halves("DG-Net", batch)
            check_groups("DG-Net", batch, self._group)
        if step.epoch < config.teacher_epochs:
            return self._learn_to_teach(batch, step)
        since = step.epoch - config.teacher_epochs - config.feeding_epochs
        exchange = self._exchange(batch, step)
        judged = self._judge(exchange)
        step.minimize(torch.stack(list(judged.values())).sum(), "discriminator")
        terms = {
            **self._painted(exchange),
            **self._recognised(exchange, risen(config.teaching, since, config.rising_epochs)),
            **self._found_again(
                exchange, *(risen(w, since, config.rising_epochs) for w in (config.code, config.cycle))
            ),
        }
        step.minimize(torch.stack(list(terms.values())).sum(), "generator", "identity")
        return {**terms, **judged}

    def pictures(self, batches: Mapping[str, Batch]) -> Mapping[str, Grid]:
        """``exchanges``: every structure with every appearance; ``structures``: what the structure encoder keeps."""
        images, headings = chosen(batches["main"], self._group)
        appearance, structure = appearance_code(self.appearance(images)), self.structure(images)
        return {
            "exchanges": exchange_matrix(images, headings, appearance, structure, self.generator),
            "structures": structure_maps(images, headings, structure),
        }

    def _trunk(self, last_stride: Literal[1, 2]) -> Backbone:
        config = self.config
        size = (config.stream.height, config.stream.width)
        return backbone(config.backbone, weights=config.weights, image_size=size, last_stride=last_stride)

    def _learn_to_teach(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        assert self.teacher is not None
        features = self.teacher.read(batch.images)
        with torch.autocast(features.device.type, enabled=False):
            loss = identity_loss(self.teacher.classifier(full(features)), batch.identity)
        step.minimize(loss, "teacher")
        return {"teacher": loss}

    def _exchange(self, batch: Batch, step: Step) -> Exchange:
        """Take the batch apart and put it together."""
        config, images, generator = self.config, batch.images, step.generator
        half, device = len(batch) // 2, images.device
        joint = len(step.gather(batch.identity[:half]))  # what is drawn is drawn for the batch of all ranks
        crossing = step.share(torch.rand(joint // 2, generator=generator) < config.other_modality)
        size = (images.shape[2], images.shape[3])
        drawn = [random_boxes(joint, size, chance=config.erase, generator=generator) for _ in range(2)]
        boxes = torch.cat([step.share(part) for part in drawn])
        tunes = bool(torch.rand((), generator=generator) < config.recoding)
        found = Partners(*(p.to(device, non_blocking=True) for p in partners(half, self._group, crossing)))
        # read from appearance, identity alone shapes the codes: the generator's gradient stops at them, as published
        run: Run = unmoved if config.identity == "appearance" else live
        appearance, structure = appearance_code(run(self.appearance, images)), self.structure(images)
        givers = torch.cat([appearance, appearance[found.same], appearance[found.other]])
        made = full(self.generator(givers, structure.repeat(3, 1, 1, 1))).chunk(3)
        boxes = boxes.to(device, non_blocking=True)
        return Exchange(images, batch.identity, found, boxes, tunes, appearance, structure, *made)

    def _judge(self, exchange: Exchange) -> dict[str, Tensor]:
        """The discriminator's terms; nothing that makes pictures hears of them."""
        config = self.config
        real = exchange.images.detach().requires_grad_(config.penalty > 0)
        genuine, fake = self._scores(real), self._scores(exchange.swapped.detach())
        with torch.autocast(real.device.type, enabled=False):
            terms = {"discriminator": discriminator_loss(genuine, fake)}
            if config.penalty:
                terms["penalty"] = config.penalty * gradient_penalty(genuine, real)
        return terms

    def _painted(self, exchange: Exchange) -> dict[str, Tensor]:
        """Pictures of one's own codes and of a person's other picture; and that those of other people look real."""
        config, scores = self.config, self._scores(exchange.swapped)
        with torch.autocast(exchange.images.device.type, enabled=False):
            return {
                "simple": config.reconstruction * absolute_error(exchange.images, exchange.own),
                "cross": config.reconstruction * absolute_error(exchange.images, exchange.same),
                "adversarial": config.adversarial * generator_loss(scores),
            }

    def _recognised(self, exchange: Exchange, teaching: float) -> dict[str, Tensor]:
        """What recognises people learns from real pictures, and from the teacher about made ones."""
        config, made = self.config, exchange.swapped.detach()
        real = self._feature(erased(exchange.images, exchange.boxes))
        seen = self._feature(made) if teaching else None
        taught = self._taught(made) if teaching else None
        with torch.autocast(made.device.type, enabled=False):
            named = identity_loss(self.classifier(full(real.prime)), exchange.identity)
            terms = {"real_identity": config.real_identity * named}
            if seen is not None and taught is not None:
                terms["teaching"] = teaching * teaching_loss(self.classifier(full(seen.prime)), taught)
                if self.fine_classifier is not None and seen.fine is not None and real.fine is not None:
                    fine = [self.fine_classifier(full(feature)) for feature in (seen.fine, real.fine)]
                    both = [identity_loss(logits, exchange.identity) for logits in fine]
                    terms["fine"] = config.fine * teaching * (both[0] + both[1])
        return terms

    def _found_again(self, exchange: Exchange, code: float, cycle: float) -> dict[str, Tensor]:
        """What encoders that stay as they are find in swapped pictures: people, codes; the generator learns of it."""
        config, encoder, other = self.config, self.encoder, exchange.partners.other
        terms: dict[str, Tensor] = {}
        found = frozen(self.appearance, exchange.swapped)
        if config.made_identity:
            if isinstance(encoder, AppearanceEncoder):
                feature, whose = encoder.read(found, frozen), exchange.identity[other]
            else:
                feature, whose = self._feature(exchange.swapped, frozen), exchange.identity
            with torch.autocast(found.device.type, enabled=False):
                named = identity_loss(self.classifier(full(feature.prime), frozen), whose)
            terms["made_identity"] = config.made_identity * named
        if code or cycle:
            terms |= self._recoded(exchange, appearance_code(found), code, cycle)
        return terms

    def _recoded(self, exchange: Exchange, appearance: Tensor, code: float, cycle: float) -> dict[str, Tensor]:
        """Codes of swapped pictures against those they were made of, and the pictures made of them once more."""
        config, other, made = self.config, exchange.partners.other, exchange.swapped
        structure = self.structure(made.detach()) if exchange.tunes else frozen(self.structure, made)
        terms: dict[str, Tensor] = {}
        again = None
        if cycle:  # other is its own inverse: the appearance found in the partner's picture is this picture's
            given = appearance.detach() if config.identity == "appearance" else appearance
            again = self.generator(given[other], structure)
        with torch.autocast(made.device.type, enabled=False):
            if code:
                wanted = full(exchange.structure.detach()), full(exchange.appearance.detach()[other])
                terms["structure_code"] = code * absolute_error(wanted[0], full(structure))
                terms["appearance_code"] = code * absolute_error(wanted[1], full(appearance))
            if again is not None:
                terms["cycle"] = cycle * absolute_error(exchange.images, full(again))
        return terms

    def _feature(self, images: Tensor, run: Run = live) -> Feature:
        encoder = self.encoder
        if isinstance(encoder, AppearanceEncoder):
            return encoder.read(run(encoder.backbone, images), run)
        return encoder.read(run(encoder.structure, images), run)

    def _scores(self, images: Tensor) -> list[Tensor]:
        return [full(scores) for scores in self.discriminator(images)]

    def _taught(self, images: Tensor) -> Tensor:
        """(B, C): the teacher's mean over pictures and mirror pictures, normalised by the statistics of this batch."""
        assert self.teacher is not None
        features = [self.teacher.read(view, frozen) for view in (images, images.flip(3))]
        with torch.autocast(images.device.type, enabled=False):
            return mean_softmax([self.teacher.classifier(full(feature), frozen) for feature in features])


def risen(weight: float, since: float, rising: float) -> float:
    """A weight on its way up: 0 at first, then as fast as all others (by 2 in ``rising`` epochs), then itself.

    Args:
        weight: in the end.
        since: epochs since it began to rise; below 0 before.
        rising: epochs; 0: at once.

    >>> [risen(1.0, since, 4) for since in (-1, 0, 1, 2, 3)], [risen(2.0, since, 4) for since in (0, 1, 4, 9)]
    ([0.0, 0.0, 0.5, 1.0, 1.0], [0.0, 0.5, 2.0, 2.0])
    """
    if since < 0:
        return 0.0
    return min(weight, SLOPE * since / rising) if rising else weight


METHOD = DGNet
