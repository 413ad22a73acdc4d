"""One budget for every system: the same small network, pictures, number of images a step, steps and learning rate.

What a publication is about stays: its losses, its sampling (as many people and pictures of each, in proportion), its
augmentation, its phases, in proportion, and how many times slower its backbone learns. Networks that make pictures get
one common width and, where the publication trains with Adam, one common rate of Adam.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from visir.core.config import plain
from visir.core.draws import Draw, IdentityBalanced, Pairs, Stream, Unpaired
from visir.experiment.config import Experiment
from visir.methods import catalog
from visir.methods.base import FittedMethod, Recipe
from visir.twin import Size

FEWEST = 4  # channels of a layer


@dataclass(frozen=True)
class Budget:
    """What all rows share.

    Attributes:
        name: for the page.
        height: pixels.
        width: pixels.
        images: pictures of each modality in a step.
        steps: of the whole training.
        rate: learning rate of what is new, divided by ten after 70 % and 90 % of the steps; what may start from other
            weights learns more slowly where the publication has it so, and by the same factor.
        backbone: network of every trained system.
        identities: most people in a step, for small twins.
        pretraining: steps that the network is trained for on visible pictures of other people, for the systems whose
            publication starts from ImageNet weights; 0 for none.
        others: the twin of these other people.
        share: of their published channels that networks which make or judge pictures have.
        adam: learning rate of these networks.
        pictures: of each modality in a step of systems that have such networks, which cost many times more.
    """

    name: str
    height: int
    width: int
    images: int
    steps: int
    rate: float = 0.05
    backbone: str = "tiny"
    identities: int = 64
    pretraining: int = 0
    others: Size | None = None
    share: float = 0.125
    adam: float = 0.001
    pictures: int = 16

    def sentence(self) -> str:
        """The budget in words, for the page."""
        return (
            f"Every trained system has the network `{self.backbone}`, {self.start()}, {self.height}x{self.width} "
            f"pictures, {self.images} + {self.images} a step, {self.steps:,} steps of SGD at rate {self.rate:g} (a "
            "tenth after 70 % of them, a hundredth after 90 %, but where a publication trains in phases, when it "
            "says; the backbone as many times slower as in the publication). "
            f"Networks that make pictures have {self.share:.1%} of their channels and learn by Adam at rate "
            f"{self.adam:g}; systems that have them see {self.pictures} + {self.pictures} pictures a step. Losses, "
            "sampling, augmentation and phases are those of its publication; nothing is tuned for a row."
        )

    def start(self) -> str:
        """Which weights rows start from, in words."""
        if not self.pretraining:
            return "random initial weights"
        return (
            f"started (where the publication starts from ImageNet weights) from {self.pretraining:,} steps of telling "
            "other synthetic people apart in visible light"
        )


BUDGETS = {
    "tiny": Budget("tiny", 48, 24, images=8, steps=4, rate=0.005, identities=6, share=1 / 16, pictures=8),
    "demo": Budget("demo", 96, 48, images=32, steps=600, pretraining=1000, others=Size(298, 2, 2, ((3, 3),))),
}


def within(budget: Budget, experiment: Experiment, *, weights: str = "scratch") -> dict[str, Any]:
    """The dotted values that bring an experiment into the budget.

    Args:
        budget: what all rows share.
        experiment: as its publication has it.
        weights: the common start, for systems whose publication has one.
    """
    kind = catalog.find(experiment.method)
    options, train = experiment.options, experiment.train
    common = {"train.precision": "fp32", "train.workers": 1, "train.validate_every": 0}
    if issubclass(kind, FittedMethod):
        return common
    known = {one.name: getattr(options, one.name) for one in fields(options)}
    images = budget.pictures if "width" in known else budget.images
    epochs = min(train.epochs, budget.steps)
    shorter = epochs / train.epochs
    given: dict[str, Any] = {
        **common,
        "with.backbone": budget.backbone,
        "with.weights": weights if kind.pretrained else "scratch",
        "train.epochs": epochs,
        "train.steps_per_epoch": max(1, round(budget.steps / epochs)),
        "train.save_every": max(1, epochs // 4),
        "train.pictures_every": max(1, epochs // 4),
        "train.log_every": max(1, budget.steps // 20),
    }
    phased = any(name.endswith("_epochs") for name in known)
    for name, value in known.items():
        if isinstance(value, Stream):
            given[f"with.{name}"] = plain(_small(value, budget, images))
        elif isinstance(value, Recipe):
            makes_pictures = name != "recipe" or ("width" in known and value.optimizer == "adam")
            drops = tuple(shorter * drop for drop in value.drops) if phased else (0.7 * epochs, 0.9 * epochs)
            given[f"with.{name}"] = plain(_rates(value, budget, drops, makes_pictures=makes_pictures))
        elif name.endswith("_epochs"):
            given[f"with.{name}"] = shorter * value
    if "width" in known:
        given["with.width"] = max(FEWEST, round(budget.share * known["width"]))
    return given


def _rates(recipe: Recipe, budget: Budget, drops: tuple[float, ...], *, makes_pictures: bool) -> Recipe:
    """The common rates; a network that makes pictures keeps its own momentum and decay.

    A backbone that the publication trains more slowly than what is new is trained so here: at one rate for both, losses
    that are least where all vectors are equal (DFE's distribution, D2RL's triplets) undo what the network began with.
    """
    if makes_pictures and recipe.optimizer == "adam":
        return replace(recipe, backbone_rate=budget.adam, head_rate=budget.adam, drops=drops)
    if makes_pictures:
        return replace(recipe, drops=drops)
    slower = recipe.backbone_rate / recipe.head_rate if recipe.head_rate else 1.0
    return Recipe(backbone_rate=round(slower * budget.rate, 12), head_rate=budget.rate, drops=drops)


def _small(stream: Stream, budget: Budget, images: int) -> Stream:
    """The stream at the budget's size with so many pictures of each modality; borders and crops shrink along."""
    scale = budget.height / stream.height
    augment = replace(
        stream.augment, pad=round(scale * stream.augment.pad), enlarge=round(scale * stream.augment.enlarge)
    )
    return replace(
        stream, height=budget.height, width=budget.width, draw=_fewer(stream.draw, budget, images), augment=augment
    )


def _fewer(draw: Draw, budget: Budget, images: int) -> Draw:
    match draw:
        case Pairs():
            return replace(draw, pairs=images)
        case IdentityBalanced():
            each = min(draw.images, images)
            return replace(draw, identities=min(images // each, budget.identities), images=each)
        case Unpaired():
            return replace(draw, images=images)
