"""D2RL: what each loss reaches, which step updates what in which phase, its terms and its noise."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from one_rank import OneRank
from small_d2rl import (
    JOINT,
    JUDGES,
    NETWORK,
    TRANSLATION,
    TRANSLATORS,
    WARMUP,
    WITHOUT_VAE,
    Watcher,
    images,
    made,
    parts,
    reached,
    watched,
)
from torch import Tensor, nn

from visir.engine.runtime import Runtime
from visir.engine.step import EngineStep
from visir.methods.d2rl import _Draw
from visir.nets.ranges import signed


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
