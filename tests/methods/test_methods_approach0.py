"""Approach 0: its terms against loops over triples, whose code and whose skips are painted, pictures, configuration."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from one_rank import OneRank
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Pairs, Stream
from visir.core.errors import ConfigError, TrainingError
from visir.core.types import Modality
from visir.engine.runtime import Runtime
from visir.engine.step import EngineStep
from visir.experiment.ablation import systems
from visir.experiment.config import load
from visir.experiment.shipped import find_config
from visir.methods.approach0 import Approach0, Approach0Config
from visir.nets.ranges import signed

SMALL = Approach0Config(stream=Stream(IdentityBalanced(4, 2), height=48, width=24), width=4)


def drawn(identities: int = 4, images: int = 2) -> Batch:
    half = identities * images
    return Batch(
        images=torch.randn(2 * half, 3, 48, 24, generator=torch.Generator().manual_seed(0)),
        identity=torch.arange(identities).repeat_interleave(images).repeat(2),
        camera=torch.zeros(2 * half, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(half),
    )


def made(**changes: object) -> Approach0:
    torch.manual_seed(0)
    return Approach0(dataclasses.replace(SMALL, **changes), 4).eval()


class Seen:
    """One image's codes and maps, by the parts of the method for its spectrum."""

    def __init__(self, method: Approach0, image: Tensor, modality: int) -> None:
        branch = (method.encoder.visible, method.encoder.infrared)[modality]
        self.image, self.maps = image, branch.down(image)
        self.identity, self.rest = branch.head(self.maps[-1]), method.rest[modality](self.maps[-1])
        self.feature = nn.functional.normalize(self.identity.mean((2, 3)))


def slow_terms(method: Approach0, batch: Batch, *, skips_of_identity: bool = False) -> dict[str, float]:
    """The losses of the slides, triple by triple; the third image is the same picture of person p XOR 1."""
    half, images = len(batch) // 2, method.images
    visible_decoder, infrared_decoder = method.decoders
    terms = {"reconstruction": 0.0, "cross": 0.0, "triplet": 0.0}

    def error(wanted: Seen, painted: Tensor) -> float:
        return float((wanted.image - painted).square().mean()) / half

    with torch.no_grad():
        inputs = signed(batch.images)
        for i in range(half):
            other = half + (i // images ^ 1) * images + i % images
            first = Seen(method, inputs[i : i + 1], 0)
            second, third = (Seen(method, inputs[j : j + 1], 1) for j in (half + i, other))
            terms["reconstruction"] += error(first, visible_decoder(first.identity, first.rest, first.maps))
            for seen in (second, third):
                terms["reconstruction"] += error(seen, infrared_decoder(seen.identity, seen.rest, seen.maps))
            maps = (second.maps, first.maps) if skips_of_identity else (first.maps, second.maps)
            terms["cross"] += error(first, visible_decoder(second.identity, first.rest, maps[0]))
            terms["cross"] += error(second, infrared_decoder(first.identity, second.rest, maps[1]))
            near, far = (float((first.feature - seen.feature).square().sum()) for seen in (second, third))
            terms["triplet"] += max(0.0, method.config.margin + near - far) / half
    return terms


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("skips", [True, False])
def test_terms_are_those_of_the_slides(images: int, skips: bool) -> None:
    stream = dataclasses.replace(SMALL.stream, draw=IdentityBalanced(4, images))
    method, batch = made(stream=stream, skips=skips, margin=1.0), drawn(images=images)
    terms, expected = method.losses(batch, OneRank()), slow_terms(method, batch)
    assert list(terms) == list(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4), name
    wrong = slow_terms(method, batch, skips_of_identity=True)["cross"]
    assert (wrong == pytest.approx(expected["cross"], rel=1e-3)) is not skips


def test_weights_and_what_is_left_out() -> None:
    batch, whole = drawn(), made().losses(drawn(), OneRank())
    weighted = made(reconstruction=2.0, cross=3.0, triplet=0.5).losses(batch, OneRank())
    for name, weight in (("reconstruction", 2.0), ("cross", 3.0), ("triplet", 0.5)):
        torch.testing.assert_close(weighted[name], weight * whole[name])
    assert list(made(cross=0.0).losses(batch, OneRank())) == ["reconstruction", "triplet"]
    assert list(made(triplet=0.0).losses(batch, OneRank())) == ["reconstruction", "cross"]


def moved(loss: Tensor, parts: dict[str, nn.Module]) -> set[str]:
    """The parts that a loss gives a gradient."""
    found = set()
    for name, part in parts.items():
        trained = [p for p in part.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
        if any(g is not None and float(g.abs().sum()) > 0 for g in gradients):
            found.add(name)
    return found


def test_every_loss_teaches_its_own_parts() -> None:
    method = made(margin=2.0)
    terms = method.losses(drawn(), OneRank())
    parts = {}
    for spectrum, branch in (("visible", method.encoder.visible), ("infrared", method.encoder.infrared)):
        index = int(Modality[spectrum.upper()])
        parts |= {f"{spectrum} down": branch.down, f"{spectrum} identity": branch.head}
        parts |= {f"{spectrum} rest": method.rest[index], f"{spectrum} decoder": method.decoders[index]}
    coding = {name for name in parts if name.endswith(("down", "identity"))}
    assert moved(terms["reconstruction"], parts) == set(parts)
    assert moved(terms["cross"], parts) == set(parts)
    assert moved(terms["triplet"], parts) == coding


def test_a_step_moves_every_part() -> None:
    method = made().train()
    step = EngineStep(method.optimizers(), Runtime(), seed=0, steps_per_epoch=2)
    before = {name: value.detach().clone() for name, value in method.named_parameters()}
    step.begin(0)
    method.train_step({"main": drawn()}, step)
    # what is added to all places of a channel goes away in the batch normalisation behind it, up to rounding
    still = {name for name, value in method.named_parameters() if torch.equal(value, before[name])}
    assert all(name.endswith(".bias") for name in still)


def test_swapped_pictures_depend_on_both_images_and_on_nothing_else() -> None:
    method, batch = made(), drawn()
    images = signed(batch.images).requires_grad_()
    codes = method.codes(images.chunk(2))
    for modality in Modality:
        (gradient,) = torch.autograd.grad(method.swapped(modality, codes)[3].sum(), images, retain_graph=True)
        assert gradient.flatten(1).abs().sum(1).nonzero().flatten().tolist() == [3, 11]
        (gradient,) = torch.autograd.grad(method.own(modality, codes)[3].sum(), images, retain_graph=True)
        assert gradient.flatten(1).abs().sum(1).nonzero().flatten().tolist() == [3 + 8 * modality]


def test_features_are_means_of_the_identity_code() -> None:
    method, batch = made(), drawn()
    order = torch.tensor([9, 0, 3, 15, 8])
    with torch.no_grad():
        codes = method.codes(signed(batch.images).chunk(2))
        expected = torch.cat([c.identity.mean((2, 3)) for c in codes])
        torch.testing.assert_close(method.encoder(batch.images[order], batch.modality[order]), expected[order])
    assert method.encoder.dim == 16


def test_encoder_holds_what_test_time_needs_alone() -> None:
    with torch.device("meta"):
        method = Approach0(Approach0Config(), 395)
    names = {name.rsplit(".", 1)[0].split(".")[1] for name, _ in method.encoder.named_parameters()}
    assert names == {"down", "head"}
    assert method.encoder.dim == 256
    down, head, up = (
        sum(p.numel() for p in m.parameters())
        for m in (method.encoder.visible.down, method.encoder.visible.head, method.decoders[0])
    )
    assert sum(p.numel() for p in method.parameters()) == 2 * (down + 2 * head + up)


def test_spectra_start_with_weights_of_their_own() -> None:
    method = made()
    first, second = (
        torch.nn.utils.parameters_to_vector(b.parameters()) for b in (method.encoder.visible, method.encoder.infrared)
    )
    assert not torch.allclose(first, second)


def test_two_shares_are_the_joint_batch() -> None:
    """Two people on each rank: nobody's neighbour is elsewhere."""
    method, batch = made(margin=1.0), drawn()
    rows = [[*range(first, first + 4), *range(8 + first, 12 + first)] for first in (0, 4)]
    shares = [Batch(batch.images[r], batch.identity[r], batch.camera[r], batch.modality[r]) for r in rows]
    whole, *parts = (method.losses(b, OneRank()) for b in (batch, *shares))
    for name, value in whole.items():
        torch.testing.assert_close(value, (parts[0][name] + parts[1][name]) / 2)


def test_losses_are_computed_in_full_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        terms = made().losses(drawn(), OneRank())
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_pictures() -> None:
    method, batch = made(), drawn()
    with torch.no_grad():
        grid = method.pictures({"main": batch})["reconstructions"]
        codes = method.codes(signed(batch.images).chunk(2))
        swapped = method.swapped(Modality.INFRARED, codes)
    made_of = ("rebuilt", "swapped", "other")
    assert grid.columns == ("visible", *made_of, "infrared", *made_of)
    assert grid.images.shape == (4, 8, 3, 48, 24)  # a row for each person
    torch.testing.assert_close(grid.images[:, 0], (signed(batch.images)[0:8:2] + 1) / 2)
    torch.testing.assert_close(grid.images[:, 4], (signed(batch.images)[8:16:2] + 1) / 2)
    torch.testing.assert_close(grid.images[:, 6], (swapped[::2] + 1) / 2)
    with torch.no_grad():
        painted = method.decoders[0](codes[1].identity[2:3], codes[0].rest[:1], [m[:1] for m in codes[0].maps])
    torch.testing.assert_close(grid.images[0, 3], (painted[0] + 1) / 2)


@pytest.mark.parametrize("order", [[0, 2, 1, 3, 4, 6, 5, 7], [0, 1, 2, 4, 5, 6], [4, 5, 6, 7, 0, 1, 2, 3]], ids=str)
def test_batches_of_another_order_are_refused(order: list[int]) -> None:
    batch = drawn(identities=2)
    shuffled = Batch(batch.images[order], batch.identity[order], batch.camera[order], batch.modality[order])
    with pytest.raises(TrainingError, match="Approach 0: expected"):
        made().losses(shuffled, OneRank())


@pytest.mark.parametrize(("draw", "words"), [(Pairs(8), "kind 'pairs'"), (IdentityBalanced(5, 2), "got 5")])
def test_draws_without_neighbours_are_refused(draw: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=f"with.stream.draw.*Approach 0.*{words}"):
        made(stream=dataclasses.replace(SMALL.stream, draw=draw))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0}, "width must be at least 1"),
        ({"margin": -1}, "margin must be a finite number"),
        ({"cross": math.inf}, "cross must be a finite number"),
        ({"triplet": math.nan}, "triplet must be a finite number"),
        ({"reconstruction": 0}, "reconstruction must be a finite number above 0"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(Approach0Config, values, where="with")


@pytest.mark.parametrize("name", ["sysu_mm01", "regdb"])
def test_shipped_experiments(name: str) -> None:
    experiment = load(find_config(f"approach0/{name}"))
    assert experiment.options == Approach0Config()
    assert experiment.train.epochs == 50
    recipe = Approach0Config().recipe
    assert (recipe.optimizer, recipe.head_rate, recipe.momentum, recipe.weight_decay) == ("adam", 1e-4, 0.5, 0)


def test_rows_of_the_ablation() -> None:
    rows = {name: found for name, found in systems().items() if name.split("/")[0] == "approach0"}
    options = {name: ablation.experiment(row, "sysu_mm01").options for name, (ablation, row) in rows.items()}
    assert {name: (o.cross, o.triplet, o.skips) for name, o in options.items()} == {
        "approach0/without-cross": (0, 1, True),
        "approach0/without-triplet": (1, 0, True),
        "approach0/without-skips": (1, 1, False),
        "approach0": (1, 1, True),
    }
