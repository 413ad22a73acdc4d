"""D2RL: what each loss reaches, which step updates what in which phase, its rows, its pictures and what it refuses."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from one_rank import OneRank
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Stream, Unpaired
from visir.core.errors import ConfigError, TrainingError
from visir.engine.runtime import Runtime
from visir.engine.step import EngineStep
from visir.methods.base import Recipe
from visir.methods.d2rl import D2RL, D2RLConfig, _Draw
from visir.nets.ranges import shown, signed

SMALL = D2RLConfig(
    backbone="tiny",
    width=2,
    stream=Stream(IdentityBalanced(2, 2), height=48, width=24),
    translation_epochs=2.0,
    warmup_epochs=1.0,
    recipe=Recipe(backbone_rate=0.01, head_rate=0.01),
)
TRANSLATION, WARMUP, JOINT = 0.0, 2.0, 3.0  # epochs in which the phases begin
TRANSLATORS = {"visible encoder", "infrared encoder", "visible decoder", "infrared decoder"}
NETWORK = {"network", "classifier"}
JUDGES = {"visible judge", "infrared judge"}
WITHOUT_VAE: dict[str, Any] = {"divergence": 0.0, "reconstruction": 0.0, "noise": False}


def made(**changes: Any) -> D2RL:
    torch.manual_seed(0)
    return D2RL(dataclasses.replace(SMALL, **changes), 3)


def images(count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(count, 3, 48, 24, generator=generator)
    greys = torch.rand(count, 1, 48, 24, generator=generator).expand(-1, 3, -1, -1)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = torch.cat([colours, greys])
    return Batch(
        images=(pixels - mean.view(3, 1, 1)) / deviation.view(3, 1, 1),
        identity=torch.arange(2).repeat_interleave(count // 2).repeat(2),
        camera=torch.zeros(2 * count, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(count),
    )


def parts(method: D2RL) -> dict[str, nn.Module]:
    translators = method.translators
    found: dict[str, nn.Module] = {
        "visible encoder": translators["infrared"].encoder,
        "infrared encoder": translators["visible"].encoder,
        "visible decoder": translators["visible"].decoder,
        "infrared decoder": translators["infrared"].decoder,
        "network": method.encoder.backbone,
    }
    found |= {f"{name} judge": judge for name, judge in method.discriminators.items()}
    return found if method.classifier is None else {**found, "classifier": method.classifier}


def reached(method: D2RL, loss: Tensor) -> set[str]:
    """The parts that get a gradient from a loss, whoever is updated with it."""
    named = [(name, p) for name, module in parts(method).items() for p in module.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, [p for _, p in named], retain_graph=True, allow_unused=True)
    return {name for (name, _), g in zip(named, gradients, strict=True) if g is not None and bool((g != 0).any())}


class Watcher(OneRank):
    """Updates nothing; notes what each update would have lowered, and with which optimizers."""

    def __init__(self, method: D2RL, epoch: float) -> None:
        super().__init__(index=0, epoch=epoch)
        self.method = method
        self.updates: list[tuple[tuple[str, ...], Tensor]] = []

    def minimize(self, loss: Tensor, *names: str) -> None:
        self.updates.append((names, loss))


def watched(epoch: float, **changes: Any) -> tuple[D2RL, Watcher, Mapping[str, Tensor]]:
    method = made(**changes)
    step = Watcher(method, epoch)
    return method, step, method.train_step({"main": images()}, step)


class TestWhatALossReaches:
    def test_jointly(self) -> None:
        method, _, terms = watched(JOINT, cycle_divergence=0.01)
        assert {name: reached(method, term) for name, term in terms.items()} == {
            "discriminators": JUDGES,
            "divergence": {"visible encoder", "infrared encoder"},
            "reconstruction": TRANSLATORS,
            "adversarial": TRANSLATORS | JUDGES,
            "cycle": TRANSLATORS,
            "cycle_divergence": TRANSLATORS,
            "identity": TRANSLATORS | NETWORK,
            "triplet": TRANSLATORS | {"network"},
        }

    @pytest.mark.parametrize(("epoch", "joint"), [(WARMUP, True), (JOINT, False)])
    def test_of_the_network_stays_there_while_translators_are_frozen(self, epoch: float, joint: bool) -> None:
        method, _, terms = watched(epoch, joint=joint)
        found = {name: reached(method, term) for name, term in terms.items()}
        assert found == {"identity": NETWORK, "triplet": {"network"}}

    @pytest.mark.parametrize(
        ("unify", "expected"),
        [
            ("visible", {"infrared encoder", "visible decoder"}),
            ("infrared", {"visible encoder", "infrared decoder"}),
        ],
    )
    def test_of_the_network_goes_into_what_it_reads(self, unify: str, expected: set[str]) -> None:
        method, _, terms = watched(JOINT, unify=unify)
        assert reached(method, terms["triplet"]) == expected | {"network"}
        assert reached(method, terms["cycle"]) == TRANSLATORS

    def test_of_the_network_goes_into_the_translations_of_both_spectra(self) -> None:
        method = made(noise=False)
        first: dict[str, Tensor] = {}

        def note(name: str, drawn: Tensor) -> None:
            first.setdefault(name, drawn)

        for name, translator in method.translators.items():
            translator.decoder.register_forward_hook(lambda _, __, drawn, name=name: note(name, drawn))
        terms = method.train_step({"main": images()}, Watcher(method, JOINT))
        for name in ("visible", "infrared"):
            (gradient,) = torch.autograd.grad(terms["triplet"], first[name], retain_graph=True)
            rows = gradient.flatten(1).abs().sum(1) > 0  # of the codes of four visible and of four infrared pictures
            own, other = (rows[:4], rows[4:]) if name == "visible" else (rows[4:], rows[:4])
            assert not own.any(), "reconstructions are not read"
            assert other.all()


class TestUpdates:
    @pytest.mark.parametrize(
        ("epoch", "changes", "expected"),
        [
            (TRANSLATION, {}, [("discriminators",), ("translation",)]),
            (1.99, {}, [("discriminators",), ("translation",)]),
            (WARMUP, {}, [("network",)]),
            (2.99, {}, [("network",)]),
            (JOINT, {}, [("discriminators",), ("translation", "network")]),
            (JOINT, {"joint": False}, [("network",)]),
            (TRANSLATION, {"joint": False}, [("discriminators",), ("translation",)]),
            (JOINT, {"identity": 0.0, "triplet": 0.0}, [("discriminators",), ("translation",)]),
            (WARMUP, {"identity": 0.0, "triplet": 0.0}, [("discriminators",), ("translation",)]),
            (JOINT, {"adversarial": 0.0}, [("translation", "network")]),
            (0.0, {"translation_epochs": 0.0, "warmup_epochs": 0.0}, [("discriminators",), ("translation", "network")]),
        ],
    )
    def test_in_each_phase(self, epoch: float, changes: dict[str, Any], expected: list[tuple[str, ...]]) -> None:
        _, step, _ = watched(epoch, **changes)
        assert [names for names, _ in step.updates] == expected

    def test_the_discriminators_see_pictures_without_a_past(self) -> None:
        method, step, _ = watched(JOINT)
        assert reached(method, step.updates[0][1]) == JUDGES

    def test_one_update_lowers_the_sum_of_both_levels(self) -> None:
        _, step, terms = watched(JOINT)
        _, loss = step.updates[1]
        torch.testing.assert_close(loss, sum(term for name, term in terms.items() if name != "discriminators"))

    def test_translators_answer_the_discriminators_as_they_are_now(self) -> None:
        method = made()

        class Convinced(Watcher):
            def minimize(self, loss: Tensor, *names: str) -> None:
                if names == ("discriminators",):  # from now on everything looks real
                    for judge in self.method.discriminators.values():
                        for network in judge.networks:
                            nn.init.zeros_(network[-1].weight)
                            nn.init.ones_(network[-1].bias)

        terms = method.train_step({"main": images()}, Convinced(method, TRANSLATION))
        assert terms["adversarial"].item() == 0
        assert terms["discriminators"].item() > 0.5

    @pytest.mark.parametrize(
        ("epoch", "changes", "expected"),
        [
            (TRANSLATION, {}, TRANSLATORS | JUDGES),
            (WARMUP, {}, NETWORK),
            (JOINT, {}, TRANSLATORS | JUDGES | NETWORK),
            (JOINT, {"joint": False}, NETWORK),
            (JOINT, {"identity": 0.0}, TRANSLATORS | JUDGES | {"network"}),
            (JOINT, {"triplet": 0.0}, TRANSLATORS | JUDGES | NETWORK),
            (JOINT, {"unify": "visible"}, TRANSLATORS | JUDGES | NETWORK),
            (JOINT, {"unify": "infrared"}, TRANSLATORS | JUDGES | NETWORK),
            (JOINT, {"share_latent": True}, TRANSLATORS | JUDGES | NETWORK),
            (JOINT, WITHOUT_VAE, TRANSLATORS | JUDGES | NETWORK),
            (JOINT, {"cycle": 0.0}, TRANSLATORS | JUDGES | NETWORK),
            (JOINT, {"identity": 0.0, "triplet": 0.0}, TRANSLATORS | JUDGES),
        ],
    )
    def test_move_what_they_should(self, epoch: float, changes: dict[str, Any], expected: set[str]) -> None:
        method = made(**changes)
        step = EngineStep(method.optimizers(), Runtime(), seed=0, steps_per_epoch=1)
        step.begin(int(epoch))
        before = {key: value.clone() for key, value in method.state_dict().items()}
        terms = method.train_step({"main": images()}, step)
        assert all(term.isfinite() for term in terms.values())
        inside = {
            name: {id(t) for t in [*module.parameters(), *module.buffers()]} for name, module in parts(method).items()
        }
        moved = {
            name
            for name, ids in inside.items()
            for key, value in method.state_dict(keep_vars=True).items()
            if id(value) in ids and not torch.equal(value, before[key])
        }
        assert moved == expected

    def test_the_baseline_has_no_optimizer_of_the_network_and_no_classifier(self) -> None:
        method = made(identity=0.0, triplet=0.0)
        assert set(method.optimizers()) == {"translation", "discriminators"}
        assert method.classifier is None
        assert set(made(identity=0.0).optimizers()) == {"translation", "discriminators", "network"}


class TestTerms:
    def test_are_those_of_the_poster(self) -> None:
        """Without noise, each against plain means over the pictures."""
        method, batch = made(noise=False), images()
        for p in method.discriminators.parameters():  # at the start they take everything for halfway real
            nn.init.normal_(p, std=0.3)
        terms = method.train_step({"main": batch}, Watcher(method, JOINT))
        method.eval()
        visible, infrared = signed(batch.images[:4]), signed(batch.images[4:])[:, :1]
        seen, unseen = method.translators["visible"], method.translators["infrared"]

        def far(first: Tensor, second: Tensor) -> float:
            return sum((first - second).detach().abs().flatten().tolist()) / first.numel()

        codes = unseen.encoder(visible), seen.encoder(infrared)
        made_infrared, made_visible = unseen(visible), seen(infrared)
        real = fake = 0.0
        for name, came, drawn in (("visible", visible, made_visible), ("infrared", infrared, made_infrared)):
            for score in method.discriminators[name](came):
                real += (score - 1).square().mean().item()
            for score in method.discriminators[name](drawn):
                real += score.square().mean().item()
                fake += (score - 1).square().mean().item()
        expected = {
            "discriminators": real,
            "divergence": 0.01 * sum(c.square().mean().item() for c in codes),
            "reconstruction": 10 * (far(visible, seen.decoder(codes[0])) + far(infrared, unseen.decoder(codes[1]))),
            "adversarial": fake,
            "cycle": 10 * (far(visible, seen(made_infrared)) + far(infrared, unseen(made_visible))),
        }
        for name, value in expected.items():
            assert terms[name].item() == pytest.approx(value, rel=1e-4), name
        assert list(terms) == [*expected, "identity", "triplet"]

    @pytest.mark.parametrize("unify", ["both", "visible", "infrared"])
    def test_of_the_network_are_those_of_its_encoder(self, unify: str) -> None:
        """In evaluation, where no batch statistics differ, without noise: training sees what searching sees."""
        method = made(unify=unify, noise=False).eval()
        batch = images()
        terms = method.train_step({"main": batch}, Watcher(method, WARMUP))
        features = method.encoder(batch.images, batch.modality)
        assert method.classifier is not None
        named = nn.functional.cross_entropy(method.classifier(features), batch.identity)
        distance = torch.cdist(features.double(), features.double())
        costs = []
        for row, own in zip(distance.tolist(), batch.identity.tolist(), strict=True):
            same = [d for d, other in zip(row, batch.identity.tolist(), strict=True) if other == own]
            others = [d for d, other in zip(row, batch.identity.tolist(), strict=True) if other != own]
            costs.append(max(0.0, 0.3 + max(same) - min(others)))
        assert terms["identity"].item() == pytest.approx(named.item(), rel=1e-4)
        assert terms["triplet"].item() == pytest.approx(sum(costs) / len(costs), rel=1e-3)

    @pytest.mark.parametrize(
        ("changes", "gone"),
        [
            ({"divergence": 0.0}, {"divergence"}),
            ({"reconstruction": 0.0}, {"reconstruction"}),
            (WITHOUT_VAE, {"divergence", "reconstruction"}),
            ({"adversarial": 0.0}, {"adversarial", "discriminators"}),
            ({"cycle": 0.0}, {"cycle"}),
            ({"identity": 0.0}, {"identity"}),
            ({"triplet": 0.0}, {"triplet"}),
        ],
    )
    def test_of_weight_zero_are_left_out(self, changes: dict[str, Any], gone: set[str]) -> None:
        every = {"discriminators", "divergence", "reconstruction", "adversarial", "cycle", "identity", "triplet"}
        assert set(watched(JOINT, **changes)[2]) == every - gone

    def test_are_weighted(self) -> None:
        names = ("divergence", "reconstruction", "adversarial", "cycle", "cycle_divergence", "identity", "triplet")
        once, twice = (watched(JOINT, noise=False, **dict.fromkeys(names, weight))[2] for weight in (1.0, 2.0))
        for name in names:
            assert twice[name].item() == pytest.approx(2 * once[name].item(), rel=1e-5), name
        assert twice["discriminators"].item() == once["discriminators"].item()

    @pytest.mark.parametrize("epoch", [TRANSLATION, WARMUP, JOINT])
    def test_are_computed_in_full_precision(self, epoch: float) -> None:
        method = made()
        with torch.autocast("cpu", torch.bfloat16):
            terms = method.train_step({"main": images()}, Watcher(method, epoch))
        assert {term.dtype for term in terms.values()} == {torch.float32}
        assert all(term.isfinite() for term in terms.values())


class TestNoise:
    @pytest.mark.parametrize("epoch", [TRANSLATION, WARMUP, JOINT])
    def test_codes_are_drawn_around_their_means(self, epoch: float) -> None:
        """Once for each code, whether it is rebuilt or translated; made pictures have codes of their own."""
        method = made(width=8)
        means: list[Tensor] = []
        codes: dict[str, list[Tensor]] = {"visible": [], "infrared": []}
        for name, translator in method.translators.items():
            translator.encoder.register_forward_hook(lambda _, __, out: means.append(out))
            translator.decoder.register_forward_pre_hook(lambda _, inputs, name=name: codes[name].append(inputs[0]))
        method.train_step({"main": images()}, Watcher(method, epoch))
        first = torch.cat(means[:2])  # visible pictures are coded first
        if epoch == WARMUP:
            (of_infrared,), (of_visible,) = codes["visible"], codes["infrared"]
            drawn = [torch.cat([of_visible, of_infrared])]
        else:
            (drawn_first, made_infrared), (again, made_visible) = codes["visible"], codes["infrared"]
            assert torch.equal(drawn_first, again)
            drawn = [drawn_first, made_infrared, made_visible]
        noises = [part for d, m in zip(drawn, (first, *means[2:]), strict=True) for part in (d - m).split(4)]
        for noise in noises:
            assert abs(noise.mean().item()) < 0.03
            assert noise.std().item() == pytest.approx(1, rel=0.03)
        assert not any(torch.allclose(a, b) for a, b in itertools.combinations(noises, 2))

    def test_does_not_depend_on_the_number_of_ranks(self) -> None:
        @dataclasses.dataclass
        class OneOfTwo(OneRank):
            rank: int = 0

            def share(self, tensor: Tensor) -> Tensor:
                return tensor.chunk(2)[self.rank]

        means = torch.zeros(4, 3, 2, 2, dtype=torch.float64)
        alone = _Draw(OneRank(), 4)
        apart = [_Draw(OneOfTwo(rank=rank), 4) for rank in range(2)]
        for _ in range(2):
            joined = torch.cat([draw(half) for draw, half in zip(apart, means.chunk(2), strict=True)])
            assert torch.equal(joined, alone(means))

    def test_is_of_training_alone(self) -> None:
        method, batch = made().eval(), images()
        with torch.no_grad():
            assert torch.equal(*(method.encoder(batch.images, batch.modality) for _ in range(2)))


@pytest.mark.parametrize(("unify", "channels", "inside"), [("both", 4, 2), ("visible", 3, 1), ("infrared", 3, 1)])
def test_the_encoder_has_what_searching_needs(unify: str, channels: int, inside: int) -> None:
    method = made(unify=unify)
    assert method.encoder.backbone.trunk.conv1.in_channels == channels
    assert set(method.encoder.translators) == ({"visible", "infrared"} if unify == "both" else {unify})
    assert len(method.aside) == 2 - inside
    assert set(method.translators) == {"visible", "infrared"}
    assert all("discriminators" not in key for key in method.encoder.state_dict())


@pytest.mark.parametrize("num_identities", [206, 395])
def test_parameters_of_the_sheet(num_identities: int) -> None:
    with torch.device("meta"):
        method = D2RL(D2RLConfig(), num_identities)
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in parts(method).items()}
    assert counts == {
        "visible encoder": 5_385_856,
        "infrared encoder": 5_379_584,
        "visible decoder": 5_754_627,
        "infrared decoder": 5_748_353,
        "visible judge": 3 * 2_757_057,
        "infrared judge": 3 * 2_755_009,
        "network": 23_508_032 + 3_136,
        "classifier": 2048 * num_identities + num_identities,
    }
    assert sum(counts.values()) == sum(p.numel() for p in method.parameters())
    assert (method.encoder.dim, method.encoder.backbone.grid) == (2048, (8, 4))


def test_a_shared_block_is_counted_and_updated_once() -> None:
    with torch.device("meta"):
        apart, shared = (D2RL(D2RLConfig(share_latent=share), 3) for share in (False, True))
        groups = shared.optimizers()["translation"].optimizer.param_groups
    block = sum(p.numel() for p in apart.translators["visible"].encoder.blocks[-1].parameters())
    less = sum(p.numel() for p in apart.parameters()) - sum(p.numel() for p in shared.parameters())
    assert less == 2 * block
    updated = [p for group in groups for p in group["params"]]
    assert len(updated) == len({id(p) for p in updated})


def test_defaults_are_the_chosen_numbers() -> None:
    config = D2RLConfig()
    assert (config.backbone, config.stream.height, config.stream.width) == ("resnet50", 256, 128)
    assert config.stream.draw == IdentityBalanced(4, 4)
    weights = (config.divergence, config.reconstruction, config.adversarial, config.cycle)
    assert weights == (0.01, 10, 1, 10)
    assert (config.identity, config.triplet, config.margin, config.cycle_divergence) == (1, 1, 0.3, 0)
    assert (config.translation_epochs, config.warmup_epochs, config.width) == (100, 10, 64)


def test_rates_fall_together_thirty_epochs_into_the_joint_phase() -> None:
    optims = made(recipe=D2RLConfig().recipe).optimizers()
    for name in ("translation", "discriminators"):
        (group,) = optims[name].optimizer.param_groups
        assert isinstance(optims[name].optimizer, torch.optim.Adam)
        assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.5, 0.999), 1e-4)
    slow, fast = optims["network"].optimizer.param_groups
    assert (slow["lr"], fast["lr"], slow["momentum"], slow["weight_decay"]) == (0.01, 0.1, 0.9, 5e-4)
    for optim in optims.values():
        assert [optim.schedule(epoch) for epoch in (0, 139.9, 140, 159)] == pytest.approx([1, 1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0}, "width must be at least 1"),
        ({"cycle": -1}, "cycle must be a finite number of at least 0"),
        ({"triplet": math.nan}, "triplet must be a finite number"),
        ({"margin": -0.1}, "margin must be a finite number"),
        ({"warmup_epochs": math.inf}, "warmup_epochs must be a finite number"),
        ({"reconstruction": 0, "adversarial": 0, "cycle": 0}, "nothing to translate for"),
        ({"cycle": 0, "cycle_divergence": 0.01}, "cycle_divergence must be 0 where cycle is"),
        ({"unify": "thermal"}, "'both', 'visible' or 'infrared'"),
        ({"translation": {"momentum": 1}}, "momentum must be at least 0 and below 1"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(D2RLConfig, values, where="with")


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (Stream(Unpaired(4), height=48, width=24), "with.stream.draw: .* 'unpaired'"),
        (Stream(IdentityBalanced(2, 2), height=50, width=24), "multiples of 4, got 50x24"),
        (Stream(IdentityBalanced(2, 2), height=24, width=12), "at least 32x16 pixels, got 24x12"),
    ],
)
def test_streams_that_do_not_fit_are_refused(stream: Stream, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        D2RL(dataclasses.replace(SMALL, stream=stream), 3)


def test_batches_of_another_order_are_refused() -> None:
    batch = images()
    order = [4, 5, 6, 7, 0, 1, 2, 3]
    mixed = Batch(batch.images[order], batch.identity[order], batch.camera[order], batch.modality[order])
    method = made()
    with pytest.raises(TrainingError, match="N visible images followed by N infrared"):
        method.train_step({"main": mixed}, Watcher(method, TRANSLATION))


@pytest.mark.parametrize("unify", ["both", "visible", "infrared"])
def test_pictures(unify: str) -> None:
    method, batch = made(unify=unify).eval(), images(20)
    with torch.no_grad():
        grids, again = (method.pictures({"main": batch}) for _ in range(2))
    assert list(grids) == ["translation", "unified"]
    assert all(torch.equal(grids[name].images, again[name].images) for name in grids)
    translation = grids["translation"]
    assert translation.images.shape == (8, 8, 3, 48, 24)
    assert translation.columns[:4] == ("visible", "made infrared", "and back", "reconstructed")
    torch.testing.assert_close(translation.images[:, 0], shown(batch.images[:20:2][:8]))
    torch.testing.assert_close(translation.images[:, 4], shown(batch.images[20::2][:8]), atol=1e-6, rtol=1e-5)
    assert translation.images.min() >= -1e-6
    assert translation.images.max() <= 1 + 1e-6
    for column in (1, 4, 6, 7):
        assert torch.equal(translation.images[:, column, 0], translation.images[:, column, 1]), "grey"
    read = {"both": [0, 1, 5, 4], "visible": [0, 5], "infrared": [1, 4]}[unify]
    assert torch.equal(grids["unified"].images, translation.images[:, read])
    assert len(grids["unified"].columns) == len(read)
