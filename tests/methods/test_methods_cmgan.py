"""cmGAN: its terms and turns, what each of them moves, its rates, its sizes and files."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Stream, Unpaired
from visir.core.errors import ConfigError, TrainingError
from visir.engine.runtime import Runtime
from visir.engine.step import EngineStep
from visir.experiment.ablation import systems
from visir.losses.all_triplets import two_way_all_triplets_loss
from visir.losses.identity import identity_loss
from visir.losses.modality import modality_loss
from visir.methods.base import Recipe
from visir.methods.cmgan import CmGAN, CmGANConfig

sys.path.append(str(Path(__file__).parents[1] / "contract"))
from toys import PEOPLE, ToySource

SMALL = CmGANConfig(backbone="tiny", stream=Stream(IdentityBalanced(4, 2), height=48, width=24))
FEATURES, TOLD = {"encoder", "classifier"}, {"discriminator"}


@dataclasses.dataclass
class Looking:
    """The engine as one rank sees it; it only remembers what was to be minimized."""

    index: int = 1
    epoch: float = 0.0
    generator: torch.Generator = dataclasses.field(default_factory=torch.Generator)
    minimized: list[tuple[Tensor, tuple[str, ...]]] = dataclasses.field(default_factory=list)

    def minimize(self, loss: Tensor, *names: str) -> None:
        self.minimized.append((loss, names))

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor

    def share(self, tensor: Tensor) -> Tensor:
        return tensor


def made(**changes: object) -> CmGAN:
    torch.manual_seed(0)
    return CmGAN(dataclasses.replace(SMALL, **changes), PEOPLE)  # type: ignore[arg-type]


def batch(step: int = 0) -> Batch:
    return ToySource(IdentityBalanced(4, 2), steps_per_epoch=1).batch(step)


def reached(loss: Tensor, method: CmGAN) -> set[str]:
    """The parts of the method that the loss has a gradient in."""
    named = dict(method.named_parameters())
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {n.partition(".")[0] for n, g in zip(named, gradients, strict=True) if g is not None and g.abs().sum() > 0}


def moved(method: CmGAN, index: int) -> set[str]:
    """The parts of the method that a step of the engine changes."""
    step = EngineStep(method.optimizers(), Runtime(), seed=0, steps_per_epoch=10)
    before = {name: value.detach().clone() for name, value in method.named_parameters()}
    step.begin(index)
    method.train().train_step({"main": batch(index)}, step)
    return {n.partition(".")[0] for n, value in method.named_parameters() if not torch.equal(value, before[n])}


def test_terms_are_those_of_the_publication() -> None:
    method, given, step = made(identity=2.0, triplet=0.5, adversarial=0.1, margin=3.0).eval(), batch(), Looking()
    terms = method.train_step({"main": given}, step)
    features = method.encoder(given.images, given.modality)
    seen, unseen = features.chunk(2)
    people, spectra = given.identity.chunk(2)[0], given.modality.chunk(2)
    assert method.discriminator is not None
    named = [identity_loss(method.classifier(half), people) for half in (seen, unseen)]
    told = [modality_loss(method.discriminator(half), own) for half, own in zip((seen, unseen), spectra, strict=True)]
    assert list(terms) == ["identity", "triplet", "adversarial"]
    torch.testing.assert_close(terms["identity"], 2 * (named[0] + named[1]))
    torch.testing.assert_close(
        terms["triplet"], 0.5 * two_way_all_triplets_loss(seen, unseen, people, people, margin=3.0)
    )
    torch.testing.assert_close(terms["adversarial"], -0.1 * (told[0] + told[1]))
    ((loss, names),) = step.minimized
    assert names == ("main",)
    torch.testing.assert_close(loss, sum(terms.values()))


def test_discriminator_learns_which_spectrum_it_is_in_its_turn() -> None:
    method, given, step = made().eval(), batch(), Looking(index=5)
    terms = method.train_step({"main": given}, step)
    assert method.discriminator is not None
    told = method.discriminator(method.encoder(given.images, given.modality))
    torch.testing.assert_close(terms["discriminator"], 2 * modality_loss(told, given.modality))
    assert [names for _, names in step.minimized] == [("discriminator",)]


@pytest.mark.parametrize(
    ("term", "parts"),
    [("identity", FEATURES), ("triplet", {"encoder"}), ("adversarial", {"encoder", "discriminator"})],
)
def test_gradient_of_each_term(term: str, parts: set[str]) -> None:
    method = made()
    assert reached(method.train_step({"main": batch()}, Looking())[term], method) == parts


def test_features_get_no_gradient_from_the_discriminators_turn() -> None:
    method = made()
    assert reached(method.train_step({"main": batch()}, Looking(index=0))["discriminator"], method) == TOLD


@pytest.mark.parametrize(("index", "parts"), [(0, TOLD), (1, FEATURES), (4, FEATURES), (5, TOLD), (6, FEATURES)])
def test_each_turn_moves_its_side_alone(index: int, parts: set[str]) -> None:
    assert moved(made(), index) == parts


def test_turns_are_as_long_as_configured_and_need_a_discriminator() -> None:
    assert moved(made(every=2), 2) == TOLD
    assert moved(made(every=2), 5) == FEATURES
    method = made(adversarial=0.0)
    assert moved(method, 0) == FEATURES
    assert "discriminator" not in method.optimizers()
    assert set(method.train_step({"main": batch()}, Looking())) == {"identity", "triplet"}


def test_features_are_pushed_to_where_the_discriminator_is_wrong() -> None:
    """The discriminator gets better at features that stay, features get worse for a discriminator that stays."""
    fast = Recipe(backbone_rate=0.05, head_rate=0.05, weight_decay=0.0, nesterov=False)
    method = made(recipe=fast, discriminator=fast, identity=0.0, triplet=1e-9, adversarial=1.0)
    step = EngineStep(method.optimizers(), Runtime(), seed=0, steps_per_epoch=100)

    def told(index: int) -> float:
        step.begin(index)
        (value,) = [
            abs(term.item()) for name, term in method.train_step({"main": batch()}, step).items() if name != "triplet"
        ]
        return value

    learning = [told(0) for _ in range(8)]
    fooling = [told(1) for _ in range(4)]
    assert learning[-1] < 0.8 * learning[0]
    assert fooling[-1] > 1.2 * fooling[0]


def test_rates_lose_a_hundredth_every_epoch_after_those_of_the_recipe() -> None:
    optims = made(recipe=dataclasses.replace(SMALL.recipe, drops=(2.0,))).optimizers()
    assert [round(optims["main"].schedule(epoch), 6) for epoch in (0.0, 0.9, 1.0, 2.5)] == [1, 1, 0.99, 0.09801]
    assert round(optims["discriminator"].schedule(2.5), 6) == 0.9801
    assert optims["discriminator"].schedule(100.0) == pytest.approx(0.99**100)
    assert {g["lr"] for g in optims["main"].optimizer.param_groups} == {1e-4}
    assert [g["lr"] for g in optims["discriminator"].optimizer.param_groups] == [1e-3]
    assert made(decay=1.0).optimizers()["main"].schedule(9.0) == 1


class Joined(Looking):
    """One of two ranks, of which the other shows the same people, elsewhere."""

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor + 1 if tensor.is_floating_point() else tensor])


def test_triplets_see_the_images_of_all_ranks() -> None:
    method = made()
    alone, joined = (method.train_step({"main": batch()}, step())["triplet"] for step in (Looking, Joined))
    assert not torch.isclose(alone, joined, rtol=1e-3)


def test_encoder_is_the_network_that_both_spectra_share() -> None:
    method, given = made().eval(), batch()
    vectors = method.encoder(given.images, given.modality)
    torch.testing.assert_close(method.encoder(given.images, 1 - given.modality), vectors)
    torch.testing.assert_close(vectors, method.encoder.backbone(given.images).mean((2, 3)))
    assert method.encoder.distance == "euclidean"


def test_losses_are_in_full_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        for index in (0, 1):
            terms = made().train_step({"main": batch()}, Looking(index=index))
            assert {term.dtype for term in terms.values()} == {torch.float32}


def test_parameters() -> None:
    with torch.device("meta"):
        method = CmGAN(CmGANConfig(), 395)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in method.named_children()}
    assert counts == {
        "encoder": 23_508_032,
        "classifier": 2048 * 512 + 512 + 512 * 395 + 395,
        "discriminator": 2_550_502,
    }
    assert method.encoder.dim == 2048


def test_other_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match="cmGAN compares images of one identity"):
        made(stream=Stream(Unpaired(4), height=48, width=24))
    wrong = ToySource(Unpaired(4), steps_per_epoch=1).batch(0)
    with pytest.raises(TrainingError, match="cmGAN: expected a batch of N visible"):
        made().train_step({"main": wrong}, Looking(index=0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"adversarial": -0.05}, "adversarial must be a finite number of at least 0"),
        ({"identity": 0, "triplet": 0}, "nothing tells people apart"),
        ({"every": 1}, "every must be at least 2"),
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"decay": 1.5}, "decay must be above 0 and at most 1"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(CmGANConfig, values, where="with")


def test_files() -> None:
    found = {name: pair for name, pair in systems("sysu_mm01").items() if name.split("/")[0] == "cmgan"}
    options = {name: ablation.experiment(row, "sysu_mm01").options for name, (ablation, row) in found.items()}
    assert options == {
        "cmgan/without-discriminator": CmGANConfig(adversarial=0.0),
        "cmgan/without-triplet": CmGANConfig(triplet=0.0),
        "cmgan": CmGANConfig(),
    }
