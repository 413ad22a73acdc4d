"""Approach 0: a U-Net for each spectrum splits an image into who is seen and everything else.

Jambigi, slides on disentanglement for RGB-infrared person re-identification, 25 May 2020. An image is rebuilt from its
own two codes, and with the identity code of the same person's image in the other spectrum, which must not change it; a
triplet loss makes the identity code tell people apart. The slides print a cycle term too, and take it back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.core.grid import Grid
from visir.core.types import Modality
from visir.losses.precision import full
from visir.losses.ranking import unit
from visir.losses.reconstruction import squared_error
from visir.losses.triples import squared_triplet_loss
from visir.methods._triples import check_neighbours, of_neighbour, require_neighbours
from visir.methods.base import EmbeddingMethod, MethodConfig, Optim, Recipe, Step
from visir.nets.pooling import MeanPool
from visir.nets.ranges import signed
from visir.nets.routing import by_modality
from visir.nets.unet import CodeHead, WayDown, WayUp

ROWS = 8  # of pictures to look at
HEADINGS = ("visible", "rebuilt", "swapped", "other", "infrared", "rebuilt", "swapped", "other")
CAPTION = (
    "Images, rebuilt from their own codes, with the identity code of the same person's image in the other spectrum "
    "(swapped), and with that of another person's infrared image (other). Swapped should look like rebuilt; how other "
    "differs shows what the identity code decides."
)


@dataclass(frozen=True)
class Approach0Config(MethodConfig):
    """The slides give the losses and their equal weights; all other numbers are choices.

    ``backbone`` and ``weights`` have no meaning here.

    Attributes:
        reconstruction: weight of the squared error of images rebuilt from their own codes.
        cross: weight of that with the identity code of the other spectrum; 0 leaves it out.
        triplet: weight of the triplet loss; 0 leaves it out.
        margin: of the triplet loss, between squared distances of features of length 1.
        skips: whether the way up sees the maps of the image that gave the other code.
        width: channels of the U-Net's first map; a feature has four times as many numbers.
        recipe: Adam; the published training is not described.
    """

    stream: Stream = field(
        default_factory=lambda: Stream(IdentityBalanced(16, 1), height=256, width=128, augment=Augment(flip=0.5))
    )
    reconstruction: float = 1.0
    cross: float = 1.0
    triplet: float = 1.0
    margin: float = 0.3
    skips: bool = True
    width: int = 64
    recipe: Recipe = field(
        default_factory=lambda: Recipe(
            optimizer="adam", backbone_rate=1e-4, head_rate=1e-4, momentum=0.5, weight_decay=0.0, nesterov=False
        )
    )

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError("width must be at least 1")
        for name in ("cross", "triplet", "margin"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0")
        if not 0 < self.reconstruction < math.inf:
            raise ValueError("reconstruction must be a finite number above 0")


class IdentityBranch(nn.Module):
    """The way down of one spectrum and its identity code."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.head, self.pool = WayDown(width), CodeHead(width), MeanPool()

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, H, W) in [-1, 1] -> (b, 4 width), the mean of the code over the image."""
        return self.pool(self.head(self.down(images)[-1]))  # type: ignore[no-any-return]


class IdentityEncoder(nn.Module):
    """Images -> the mean of their identity codes; each spectrum has weights of its own.

    Attributes:
        dim: D = 4 width.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.visible, self.infrared, self.dim = IdentityBranch(width), IdentityBranch(width), 4 * width

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) ImageNet-normalised images and their (B,) modalities -> (B, D), at least 0, not normalised."""
        return by_modality(self.visible, self.infrared, signed(images), modality, training=self.training)


class Codes(NamedTuple):
    """What the way down makes of images: (b, 4 width, h, w) twice, and the maps of its five scales."""

    identity: Tensor
    rest: Tensor
    maps: list[Tensor]


class Approach0(EmbeddingMethod[Approach0Config]):
    """Two U-Nets with a shared idea of identity; see :class:`Approach0Config`.

    The third image of a triple is the infrared one of the person next in the batch, so every infrared image is the
    second of one triple and the third of another.

    Raises:
        ConfigError: a stream that does not draw an even number of people.
    """

    Config = Approach0Config
    pretrained = False
    encoder: IdentityEncoder

    def __init__(self, config: Approach0Config, num_identities: int) -> None:
        super().__init__(config, num_identities)
        self.images = require_neighbours("Approach 0", config.stream)
        self.encoder = IdentityEncoder(config.width)
        self.rest = nn.ModuleList(CodeHead(config.width) for _ in Modality)
        self.decoders = nn.ModuleList(WayUp(config.width, skips=config.skips) for _ in Modality)

    def optimizer(self) -> Optim:
        """One for everything; nothing is pretrained."""
        return self.config.recipe.optim(head=self.parameters())

    def losses(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Reconstruction, cross reconstruction and triplet of P x K images of each spectrum.

        Raises:
            TrainingError: at the first step, a batch that is not P x K visible images, then P x K infrared ones of
                the same people.
        """
        if step.index == 0:
            check_neighbours("Approach 0", batch, self.images)
        config, halves = self.config, signed(batch.images).chunk(2)
        codes = self.codes(halves)
        own = [self.own(modality, codes) for modality in Modality]
        swapped = [self.swapped(modality, codes) for modality in Modality] if config.cross else []
        with torch.autocast(batch.images.device.type, enabled=False):
            visible, infrared = _errors(halves, own)
            # the third images of the triples are the second ones in another order
            terms = {"reconstruction": config.reconstruction * (visible + 2 * infrared)}
            if config.cross:
                terms["cross"] = config.cross * torch.stack(_errors(halves, swapped)).sum()
            if config.triplet:
                first, second = (unit(self.encoder.visible.pool(full(c.identity))) for c in codes)
                third = of_neighbour(second, self.images)
                terms["triplet"] = config.triplet * squared_triplet_loss(first, second, third, margin=config.margin)
            return terms

    def codes(self, halves: Sequence[Tensor]) -> tuple[Codes, Codes]:
        """Of the visible and of the infrared half of a batch, (N, 3, H, W) in [-1, 1] each."""
        visible, infrared = halves
        return self._codes(Modality.VISIBLE, visible), self._codes(Modality.INFRARED, infrared)

    def own(self, modality: Modality, codes: tuple[Codes, Codes]) -> Tensor:
        """The half of one spectrum rebuilt from its own codes: (N, 3, H, W) in [-1, 1]."""
        return self._painted(modality, codes[modality].identity, codes[modality])

    def swapped(self, modality: Modality, codes: tuple[Codes, Codes]) -> Tensor:
        """The same with the identity codes of the other spectrum, image by image."""
        return self._painted(modality, codes[modality.other].identity, codes[modality])

    def _codes(self, modality: Modality, images: Tensor) -> Codes:
        branch = self.encoder.visible if modality == Modality.VISIBLE else self.encoder.infrared
        maps = branch.down(images)
        return Codes(branch.head(maps[-1]), self.rest[modality](maps[-1]), maps)

    def _painted(self, modality: Modality, identity: Tensor, of: Codes) -> Tensor:
        """With the decoder of the spectrum of the image that gave everything but the identity."""
        painted: Tensor = self.decoders[modality](identity, of.rest, of.maps)
        return painted

    def pictures(self, batches: Mapping[str, Batch]) -> Mapping[str, Grid]:
        """Images, rebuilt from their codes, and with the identity code of the other spectrum and of someone else."""
        halves = signed(batches["main"].images).chunk(2)
        codes = self.codes(halves)
        someone = of_neighbour(codes[Modality.INFRARED].identity, self.images)
        columns: list[Tensor] = []
        for modality in Modality:
            columns += [halves[modality], self.own(modality, codes), self.swapped(modality, codes)]
            columns.append(self._painted(modality, someone, codes[modality]))
        images = torch.stack([full(column)[:: self.images][:ROWS] for column in columns], 1)
        return {"reconstructions": Grid(((images + 1) / 2).cpu(), HEADINGS, CAPTION)}


def _errors(halves: Sequence[Tensor], made: Sequence[Tensor]) -> list[Tensor]:
    return [squared_error(wanted, full(image)) for wanted, image in zip(halves, made, strict=True)]


METHOD = Approach0
