"""DG-Net: its phases, what is searched with, its published sizes, and what it refuses."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from dgnet_small import OFFICIAL, PEOPLE, SMALL, STRUCTURE, exchanged, groups, made, parts
from one_rank import OneRank
from torch import Tensor
from torch.nn import functional

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import Draw, IdentityBalanced, Pairs, Stream
from visir.core.errors import ConfigError, TrainingError
from visir.engine.runtime import Runtime
from visir.engine.step import EngineStep
from visir.methods._partners import check_groups
from visir.methods.dgnet import DGNet, DGNetConfig, risen
from visir.nets.backbones import backbone
from visir.nets.dgnet import appearance_code, grey
from visir.nets.dgnet_identity import StructureReader


def engine_step(method: DGNet, index: int) -> EngineStep:
    """The engine at a step of an epoch of ten."""
    step = EngineStep(method.optimizers(), Runtime(), seed=0, steps_per_epoch=10)
    step.begin(index)
    return step


class TestPhases:
    def moved(self, method: DGNet, index: int) -> tuple[set[str], set[str]]:
        """The parts whose weights change in a step, and the names of its terms."""
        before = {name: [p.detach().clone() for p in parameters] for name, parameters in parts(method).items()}
        terms = method.train_step({"main": groups()}, engine_step(method, index))
        after = parts(method)
        changed = {
            name
            for name, old in before.items()
            if any(not torch.equal(a, b) for a, b in zip(old, after[name], strict=True))
        }
        return changed, set(terms)

    def test_the_teacher_learns_alone(self) -> None:
        assert self.moved(made(SMALL), 19) == ({"teacher"}, {"teacher"})

    def test_then_it_stays_as_it_is(self) -> None:
        method = made(SMALL)
        assert method.teacher is not None
        before = {key: value.clone() for key, value in method.teacher.state_dict().items()}
        for index in (20, 60):
            changed, _ = self.moved(method, index)
            assert changed == {"appearance", "structure", "heads", "generator", "discriminator"}
        assert all(torch.equal(value, before[key]) for key, value in method.teacher.state_dict().items())

    @pytest.mark.parametrize(
        ("config", "late"),
        [
            (SMALL, {"teaching", "structure_code", "appearance_code"}),
            (OFFICIAL, {"teaching", "structure_code", "appearance_code", "fine", "cycle"}),
            (STRUCTURE, {"teaching", "structure_code", "appearance_code", "cycle"}),
        ],
        ids=["seed", "official", "structure"],
    )
    def test_codes_and_teaching_come_later(self, config: DGNetConfig, late: set[str]) -> None:
        method = made(config)
        early = {"simple", "cross", "adversarial", "real_identity", "made_identity", "discriminator", "penalty"}
        for index in (20, 30):  # at 30 they begin to rise from 0
            assert self.moved(method, index)[1] == early
        assert self.moved(method, 31)[1] == early | late

    def test_weights_rise_equally_fast(self) -> None:
        assert [risen(weight, 1000 * 0.002, 4) for weight in (1.0, 2.0)] == [1.0, 1.0]  # 2,000 steps of 0.0005
        assert risen(2.0, 4.0, 4) == 2.0
        assert risen(1.0, 0.0, 0.0) == 1.0
        method, exchange = exchanged(SMALL)
        quarter, whole = (copy.deepcopy(method)._recognised(exchange, weight) for weight in (0.5, 2.0))
        torch.testing.assert_close(4 * quarter["teaching"], whole["teaching"])
        half, full = (method._found_again(exchange, weight, 0.0) for weight in (0.5, 1.0))
        for name in ("structure_code", "appearance_code"):
            torch.testing.assert_close(2 * half[name], full[name])

    def test_everything_else_meets_the_new_discriminator(self) -> None:
        method, seen = made(SMALL), list[str]()

        class Order(OneRank):
            def minimize(self, loss: Tensor, *names: str) -> None:
                seen.append("+".join(names))

        method.discriminator.register_forward_hook(lambda *_: seen.append("looked"))
        method.train_step({"main": groups()}, Order(index=1, epoch=9.0))
        assert seen == ["looked", "looked", "discriminator", "looked", "generator+identity"]

    def test_structure_encoder_is_trained_on_made_pictures_by_chance(self) -> None:
        for chance in (0.0, 1.0):
            method = made(dataclasses.replace(SMALL, recoding=chance))
            assert method._exchange(groups(), OneRank()).tunes == bool(chance)

    def test_rates_of_the_optimizers(self) -> None:
        optims = DGNet(dataclasses.replace(DGNetConfig(), backbone="tiny", width=2), 3).optimizers()
        assert list(optims) == ["identity", "generator", "discriminator", "teacher"]
        rates = {name: [group["lr"] for group in o.optimizer.param_groups] for name, o in optims.items()}
        assert rates == {
            "identity": [0.002, 0.02],
            "teacher": [0.002, 0.02],
            "generator": [1e-4],
            "discriminator": [1e-4],
        }
        adam = optims["generator"].optimizer.param_groups[0]
        assert (adam["betas"], adam["weight_decay"]) == ((0.0, 0.999), 5e-4)
        assert [optims["identity"].schedule(epoch) for epoch in (79, 80, 110)] == pytest.approx([1, 0.1, 0.01])
        assert [optims["teacher"].schedule(epoch) for epoch in (13, 14)] == pytest.approx([1, 0.1])

    @pytest.mark.parametrize("config", [OFFICIAL, STRUCTURE], ids=["appearance", "structure"])
    def test_every_parameter_has_one_optimizer(self, config: DGNetConfig) -> None:
        method = made(config)
        owned = [p for o in method.optimizers().values() for g in o.optimizer.param_groups for p in g["params"]]
        assert len(owned) == len({id(p) for p in owned}) == len(list(method.parameters()))


class TestSearch:
    def test_image_and_mirror_image_summed(self) -> None:
        method, images = made(SMALL).eval(), groups().images
        kinds = torch.zeros(len(images), dtype=torch.int64)
        both = method._feature(images).prime + method._feature(images.flip(3)).prime
        found = method.encoder(images, kinds)
        assert method.encoder.dim == 64
        torch.testing.assert_close(found, functional.normalize(both))
        torch.testing.assert_close(method.encoder(images.flip(3), 1 - kinds), found)

    @pytest.mark.parametrize("config", [OFFICIAL, STRUCTURE], ids=["official", "structure"])
    def test_image_alone(self, config: DGNetConfig) -> None:
        """For pictures that are never seen mirrored."""
        method, images = made(dataclasses.replace(config, mirror=False)).eval(), groups().images
        feature = method._feature(images)
        alone = [functional.normalize(one) for one in feature if one is not None]
        unit = functional.normalize(method.encoder(images, torch.zeros(16, dtype=torch.int64)))
        weights = (1.0, 0.5)[: len(alone)]
        expected = sum(weight * one @ one.T for weight, one in zip(weights, alone, strict=True))
        torch.testing.assert_close(sum(weights) * unit @ unit.T, expected)

    def test_second_head_counts_half(self) -> None:
        method, images = made(OFFICIAL).eval(), groups().images
        vectors = method.encoder(images, torch.zeros(16, dtype=torch.int64))
        assert vectors.shape == (16, method.encoder.dim) == (16, 128)
        views = [method._feature(view) for view in (images, images.flip(3))]
        prime, fine = (
            functional.normalize(sum(getattr(v, key) for v in views), dim=1)  # type: ignore[arg-type]
            for key in ("prime", "fine")
        )
        unit = functional.normalize(vectors)
        torch.testing.assert_close(1.5 * unit @ unit.T, prime @ prime.T + 0.5 * fine @ fine.T)

    def test_structure_is_read_before_its_normalisation(self) -> None:
        method, images = made(STRUCTURE).eval(), groups().images
        encoder = method.encoder
        assert isinstance(encoder, StructureReader)
        assert encoder.dim == 64
        maxima = [encoder.deepen(encoder.structure(view)).amax((2, 3)) for view in (images, images.flip(3))]
        found = encoder(images, torch.zeros(16, dtype=torch.int64))
        torch.testing.assert_close(found, functional.normalize(maxima[0] + maxima[1]))
        torch.testing.assert_close(encoder(grey(images).expand(-1, 3, -1, -1), torch.ones(16)), found)

    @pytest.mark.parametrize("config", [OFFICIAL, STRUCTURE], ids=["official", "structure"])
    def test_exports(self, config: DGNetConfig) -> None:
        encoder, batch = made(config).encoder.eval(), groups()
        rows = torch.export.Dim("rows", min=2, max=64)
        with torch.no_grad():
            shapes = ({0: rows}, {0: rows})
            exported = torch.export.export(encoder, (batch.images[:4], batch.modality[:4]), dynamic_shapes=shapes)
            found = exported.module()(batch.images, batch.modality)
            torch.testing.assert_close(found, encoder(batch.images, batch.modality))

    def test_a_transformer_reads_appearance(self) -> None:
        stream = Stream(IdentityBalanced(4, 2), height=48, width=32)
        method = made(dataclasses.replace(SMALL, backbone="test_vit", stream=stream))
        batch = dataclasses.replace(groups(), images=torch.zeros(16, 3, 48, 32))
        terms = method.train_step({"main": batch}, engine_step(method, 80))
        assert all(torch.isfinite(term) for term in terms.values())


def test_pictures_are_the_exchanges_of_both_modalities() -> None:
    method = made(SMALL).eval()
    with torch.no_grad():
        grids = method.pictures({"main": groups()})
        shown = groups().images[[0, 2, 4, 8, 10, 12]]
        cell = method.generator(appearance_code(method.appearance(shown[3:4])), method.structure(shown[1:2]))
    exchanges, structures = grids["exchanges"], grids["structures"]
    assert exchanges.images.shape == (7, 7, 3, 32, 16)
    assert exchanges.columns[1:] == ("visible 1", "visible 2", "visible 3", "infrared 1", "infrared 2", "infrared 3")
    deviation, mean = (
        torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
        torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1),
    )
    for place in range(6):
        for found in (exchanges.images[0, place + 1], exchanges.images[place + 1, 0], structures.images[place, 0]):
            torch.testing.assert_close(found, shown[place] * deviation + mean)
    torch.testing.assert_close(exchanges.images[2, 4], cell[0] * deviation + mean)  # structure of 2, appearance of 4
    assert structures.images.shape == (6, 2, 3, 32, 16)
    assert structures.images[:, 1].amin() == 0
    assert structures.images[:, 1].amax() == 1


@pytest.mark.parametrize("identities", [395, 206])
def test_parameters_of_the_paper(identities: int) -> None:
    with torch.device("meta"):
        method = DGNet(DGNetConfig(), identities)
        variant = DGNet(DGNetConfig(identity="structure", teaching=0.0, teacher_epochs=0.0), identities)
    sizes = {name: sum(p.numel() for p in parameters) for name, parameters in parts(method).items()}
    head = 2048 * 512 + 512 + 2 * 512 + 512 * identities + identities
    assert sizes == {
        "appearance": 23_508_032,
        "structure": 380_544,
        "heads": head,
        "generator": 1_455_555 + 11_544_576,
        "discriminator": 1_025_571,
        "teacher": 23_508_032 + head,
    }
    assert sum(sizes.values()) == sum(p.numel() for p in method.parameters())
    assert method.encoder.dim == variant.encoder.dim == 512
    deeper = (128 * 9 + 1) * 256 + (256 * 9 + 1) * 512
    assert sum(p.numel() for p in parts(variant)["heads"]) == deeper + 2 * 512 + 512 * identities + identities
    assert variant.teacher is None


def test_teacher_keeps_its_last_stride() -> None:
    method = made(SMALL)
    assert method.teacher is not None
    assert (method.appearance.grid, method.teacher.backbone.grid) == ((2, 1), (1, 1))


def test_defaults_are_the_published_numbers() -> None:
    config = DGNetConfig()
    assert (config.stream.height, config.stream.width, config.stream.draw) == (256, 128, IdentityBalanced(4, 2))
    assert (config.stream.augment.flip, config.stream.augment.pad, config.stream.augment.border) == (0.5, 10, "edge")
    assert (config.reconstruction, config.made_identity, config.teaching, config.code) == (5, 0.5, 2, 1)
    assert (config.erase, config.dropout, config.fine_dropout, config.last_stride) == (0.5, 0.5, 0.75, 1)
    assert (config.fine, config.cycle, config.mirror) == (0, 0, True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0}, "width must be at least 1"),
        ({"narrowing": 0}, "narrowing must be at least 1"),
        ({"code": -1}, "code must be a finite number"),
        ({"cycle": math.inf}, "cycle must be a finite number"),
        ({"rising_epochs": -1}, "rising_epochs must be a finite number"),
        ({"adversarial": 0}, "adversarial must be above 0"),
        ({"recoding": 1.5}, "recoding must be from 0 to 1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"teaching": 0}, "teaching must be above 0"),
        ({"identity": "structure", "fine": 0.2}, "fine must be 0"),
        ({"identity": "both"}, "'appearance' or 'structure'"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(DGNetConfig, values, where="with")


@pytest.mark.parametrize("draw", [Pairs(8), IdentityBalanced(4, 1), IdentityBalanced(3, 2)], ids=str)
def test_draws_without_partners_are_refused(draw: Draw) -> None:
    with pytest.raises(ConfigError, match="even number of identities and at least 2 images"):
        DGNet(dataclasses.replace(SMALL, stream=Stream(draw, height=32, width=16)), PEOPLE)


@pytest.mark.parametrize("order", [[0, 2, 1, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5], [0, 1, 0, 1]], ids=str)
def test_batches_without_partners_are_refused(order: list[int]) -> None:
    batch = groups()
    rows = torch.tensor(order + [8 + place for place in order])
    wrong = Batch(batch.images[rows], batch.identity[rows], batch.camera[rows], batch.modality[rows])
    with pytest.raises(TrainingError, match="expected 2 visible pictures of a person"):
        made(SMALL).train_step({"main": wrong}, OneRank(epoch=9.0))
    check_groups("DG-Net", batch, 2)


def test_feature_map_of_a_tiny_network_has_a_code() -> None:
    trunk = backbone("tiny", weights="scratch", image_size=(48, 24), last_stride=1)
    assert trunk.grid == (3, 2)
    assert appearance_code(trunk(torch.zeros(2, 3, 48, 24))).shape == (2, 1024)
