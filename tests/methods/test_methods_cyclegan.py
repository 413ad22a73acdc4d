"""CycleGAN: its terms, which of them move what, its pools, its schedule and what its encoder makes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from one_rank import OneRank
from torch import Tensor, nn

import visir
from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import Augment, Stream, Unpaired
from visir.core.errors import ConfigError, TrainingError
from visir.engine.runtime import Runtime
from visir.engine.step import EngineStep
from visir.experiment.ablation import read_ablation
from visir.methods.cyclegan import CycleGAN, CycleGANConfig, linear_decay
from visir.nets.ranges import shown, signed

SMALL = CycleGANConfig(stream=Stream(Unpaired(2), height=24, width=16), width=4, blocks=1, pool=3)
BOTH = ("visible", "infrared")


def batch(count: int = 2, seed: int = 0, height: int = 24, width: int = 16) -> Batch:
    """``count`` visible pictures, then as many infrared ones of other people."""
    generator = torch.Generator().manual_seed(seed)
    visible = torch.rand(count, 3, height, width, generator=generator)
    infrared = torch.rand(count, 1, height, width, generator=generator).expand(-1, 3, -1, -1)
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return Batch(
        images=(torch.cat([visible, infrared]) - mean) / deviation,
        identity=torch.arange(2 * count),
        camera=torch.arange(1, 3).repeat_interleave(count),
        modality=torch.arange(2).repeat_interleave(count),
    )


def made(**changes: object) -> CycleGAN:
    torch.manual_seed(0)
    return CycleGAN(dataclasses.replace(SMALL, **changes), 5)  # type: ignore[arg-type]


@dataclasses.dataclass
class Recorder(OneRank):
    """Notes what each loss that is minimized has a gradient for, and moves nothing."""

    method: CycleGAN | None = None
    reached: list[tuple[tuple[str, ...], set[str]]] = dataclasses.field(default_factory=list)

    def minimize(self, loss: Tensor, *names: str) -> None:
        assert self.method is not None
        self.reached.append((names, reached(loss, self.method)))


def reached(loss: Tensor, method: CycleGAN) -> set[str]:
    """The networks that have a gradient from the loss: each of their trained parameters, or none."""
    names, parameters = zip(*((n, p) for n, p in method.named_parameters() if p.requires_grad), strict=True)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    found: dict[str, set[bool]] = {}
    for name, gradient in zip(names, gradients, strict=True):
        reaches = gradient is not None and bool(gradient.any())
        found.setdefault(".".join(name.split(".")[:2]), set()).add(reaches)
    assert all(len(kinds) == 1 for kinds in found.values())
    return {network for network, kinds in found.items() if kinds == {True}}


GENERATORS = {"encoder.to_visible", "encoder.to_infrared"}
DISCRIMINATORS = {"discriminators.visible", "discriminators.infrared"}


class Scores(nn.Module):
    """A discriminator that gives real images 0.8 and made ones 0.3, to the generators' images too."""

    def forward(self, images: Tensor) -> Tensor:
        scores = images.new_full((len(images), 1, 2, 2), 0.3)
        if not images.requires_grad:
            scores[: len(images) // 2] = 0.8
        return scores + 0 * images.mean()


class Brighter(nn.Module):
    """A generator that makes everything 0.15625 brighter."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.tensor(0.15625))

    def forward(self, images: Tensor) -> Tensor:
        return images + self.step


class TestTerms:
    def test_worked_numbers(self) -> None:
        method = made(pool=0)
        method.encoder.to_visible, method.encoder.to_infrared = Brighter(), Brighter()
        method.discriminators = nn.ModuleDict({to: Scores() for to in BOTH})

        class Still(OneRank):
            def minimize(self, loss: Tensor, *names: str) -> None:
                pass

        terms = method.train_step({"main": batch()}, Still())
        for to in BOTH:
            assert terms[f"discriminator_{to}"].item() == pytest.approx(0.065)
            assert terms[f"adversarial_{to}"].item() == pytest.approx(0.49)
            assert terms[f"cycle_{to}"].item() == pytest.approx(3.125)
            assert terms[f"mapping_{to}"].item() == pytest.approx(5 * 0.15625)
        assert len(terms) == 8

    @torch.no_grad()
    def test_are_those_of_the_paper_image_by_image(self) -> None:
        method, data = made(), batch()
        with torch.enable_grad():
            terms = method.train_step({"main": data}, Recorder(method=method))
        expected = dict.fromkeys(terms, 0.0)
        images = dict(zip(BOTH, signed(data.images).chunk(2), strict=True))
        networks = dict(zip(BOTH, (method.encoder.to_visible, method.encoder.to_infrared), strict=True))
        for to, source in (BOTH, BOTH[::-1]):
            judge = method.discriminators[to]
            for one, other in zip(images[source].split(1), images[to].split(1), strict=True):
                fake = networks[to](one)  # an empty pool gives it back
                fakes, reals = (judge(image).flatten().tolist() for image in (fake, other))
                n = 2 * len(fakes)
                expected[f"adversarial_{to}"] += sum((f - 1) ** 2 for f in fakes) / n
                wrong = sum(f**2 for f in fakes) + sum((r - 1) ** 2 for r in reals)
                expected[f"discriminator_{to}"] += 0.5 * wrong / n
                expected[f"cycle_{source}"] += 10 * float((networks[source](fake) - one).abs().mean()) / 2
                expected[f"mapping_{to}"] += 5 * float((networks[to](other) - other).abs().mean()) / 2
        assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        ("changes", "left"),
        [
            ({"cycle": 0.0}, {"adversarial", "mapping", "discriminator"}),
            ({"mapping": 0.0}, {"adversarial", "cycle", "discriminator"}),
            ({"cycle": 0.0, "mapping": 0.0}, {"adversarial", "discriminator"}),
        ],
        ids=["cycle", "mapping", "both"],
    )
    def test_without_weight_are_left_out(self, changes: dict[str, float], left: set[str]) -> None:
        whole, method = made(), made(**changes)
        full, terms = (m.train_step({"main": batch()}, Recorder(method=m)) for m in (whole, method))
        assert set(terms) == {f"{term}_{to}" for term in left for to in BOTH}
        for name, term in terms.items():
            torch.testing.assert_close(term, full[name])

    def test_are_finite_and_in_full_precision_under_bf16(self) -> None:
        method = made()
        step = EngineStep(method.optimizers(), Runtime(precision="bf16"), seed=0, steps_per_epoch=5)
        for index in range(3):
            step.begin(index)
            with torch.autocast("cpu", torch.bfloat16):
                terms = method.train_step({"main": batch(seed=index)}, step)
            assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
        assert not step.halted
        assert method.pools["visible"].images.dtype == torch.float32


class TestGradients:
    @pytest.mark.parametrize("pool", [0, 3])
    def test_each_loss_reaches_its_own_networks(self, pool: int) -> None:
        method = made(pool=pool)
        recorder = Recorder(method=method)
        method.train_step({"main": batch()}, recorder)
        (first, of_generators), (second, of_discriminators) = recorder.reached
        assert (first, second) == (("generators",), ("discriminators",))
        assert of_generators >= GENERATORS
        assert of_discriminators == DISCRIMINATORS, "made images are detached before they are judged"

    @pytest.mark.parametrize(
        ("term", "networks"),
        [
            ("adversarial_infrared", {"encoder.to_infrared", "discriminators.infrared"}),
            ("adversarial_visible", {"encoder.to_visible", "discriminators.visible"}),
            ("cycle_infrared", GENERATORS),
            ("cycle_visible", GENERATORS),
            ("mapping_infrared", {"encoder.to_infrared"}),
            ("mapping_visible", {"encoder.to_visible"}),
            ("discriminator_infrared", {"discriminators.infrared"}),
            ("discriminator_visible", {"discriminators.visible"}),
        ],
    )
    def test_of_each_term(self, term: str, networks: set[str]) -> None:
        method = made()
        terms = method.train_step({"main": batch()}, Recorder(method=method))
        assert reached(terms[term], method) == networks

    def test_each_update_moves_its_own_networks(self) -> None:
        method = made()
        moved: list[set[str]] = []

        class Watching(EngineStep):
            def minimize(self, loss: Tensor, *names: str) -> None:
                before = {key: p.detach().clone() for key, p in method.named_parameters()}
                super().minimize(loss, *names)
                changed = [key for key, p in method.named_parameters() if not torch.equal(before[key], p)]
                moved.append({".".join(key.split(".")[:2]) for key in changed})

        step = Watching(method.optimizers(), Runtime(), seed=0, steps_per_epoch=5)
        step.begin(0)
        method.train_step({"main": batch()}, step)
        assert moved == [GENERATORS, DISCRIMINATORS]

    def test_discriminators_judge_what_was_made_before_the_update(self) -> None:
        method, data = made(), batch()
        with torch.no_grad():
            before = method.encoder.to_infrared(signed(data.images[:2]))
        step = EngineStep(method.optimizers(), Runtime(), seed=0, steps_per_epoch=5)
        step.begin(0)
        method.train_step({"main": data}, step)
        torch.testing.assert_close(method.pools["infrared"].images[:2], before)


class TestPools:
    def test_old_images_are_judged_in_the_place_of_new_ones(self) -> None:
        method, seen = made(pool=2), []
        method.discriminators["infrared"].register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
        for index in range(12):
            step = Recorder(index=index, seed=index, method=method)
            method.train_step({"main": batch(seed=index)}, step)
        fakes = [(seen[2 * k], seen[2 * k + 1][2:]) for k in range(12)]  # what the generator made, what was judged
        torch.testing.assert_close(*fakes[0])
        old = [not torch.allclose(new[i], judged[i]) for new, judged in fakes[1:] for i in range(2)]
        assert 4 < sum(old) < 18

    def test_ranks_hold_the_same_and_share_what_comes_back(self) -> None:
        joint = torch.randn(4, 3, 24, 16)
        one, parts = made(), [made(), made()]
        for index in range(4):
            expected = one._pooled("visible", joint + index, OneRank(seed=index))
            given = []
            for rank, method in enumerate(parts):

                class Half(OneRank):
                    def gather(self, tensor: Tensor) -> Tensor:
                        return joint + self.index

                    def share(self, tensor: Tensor, rank: int = rank) -> Tensor:
                        return tensor.chunk(2)[rank]

                own = (joint + index).chunk(2)[rank]
                given.append(method._pooled("visible", own, Half(index=index, seed=index)))
            assert torch.equal(torch.cat(given), expected)
        assert torch.equal(parts[0].pools["visible"].images, parts[1].pools["visible"].images)

    def test_none_where_none_are_wanted(self) -> None:
        assert not list(made(pool=0).buffers())
        assert len(list(made().buffers())) == 4


class TestConfig:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"width": 0}, "width must be at least 1"),
            ({"blocks": 0}, "blocks must be at least 1"),
            ({"pool": -1}, "pool must be at least 0"),
            ({"cycle": math.inf}, "cycle must be a finite number"),
            ({"mapping": -1}, "mapping must be a finite number"),
            ({"constant_epochs": -1}, "constant_epochs must be a finite number"),
            ({"decay_epochs": math.nan}, "decay_epochs must be a finite number"),
        ],
    )
    def test_impossible_numbers_are_refused(self, values: dict[str, object], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            parse(CycleGANConfig, values, where="with")

    @pytest.mark.parametrize("size", [(227, 227), (24, 18), (8, 4)], ids=str)
    def test_unfit_sizes_are_refused(self, size: tuple[int, int]) -> None:
        with pytest.raises(ConfigError, match=f"multiples of 4 of at least 8 pixels, got {size[0]}x{size[1]}"):
            made(stream=Stream(Unpaired(1), *size))

    def test_defaults_and_parameters_of_the_paper(self) -> None:
        config = CycleGANConfig()
        assert config.stream == Stream(Unpaired(1), 256, 256, Augment(flip=0.5, enlarge=30))
        assert (config.cycle, config.mapping, config.pool, config.blocks) == (10, 5, 50, 9)
        with torch.device("meta"):
            method = CycleGAN(config, 395)
        counts = [sum(p.numel() for p in m.parameters()) for m in (method.encoder, method.discriminators, method)]
        assert counts == [2 * 11_378_179, 2 * 2_764_737, 2 * (11_378_179 + 2_764_737)]
        assert method.pools["visible"].images.shape == (50, 3, 256, 256)

    def test_optimizers_of_the_paper(self) -> None:
        optims = made().optimizers()
        assert list(optims) == ["generators", "discriminators"]
        for optim in optims.values():
            assert isinstance(optim.optimizer, torch.optim.Adam)
            (group,) = optim.optimizer.param_groups
            assert (group["lr"], group["betas"], group["weight_decay"]) == (2e-4, (0.5, 0.999), 0)
            factors = [optim.schedule(epoch) for epoch in (0, 29.9, 30, 35, 40, 49, 50)]
            assert factors == pytest.approx([1, 1, 1, 0.75, 0.5, 0.05, 0])

    def test_decay_goes_with_the_length_of_the_training(self) -> None:
        whole, short = linear_decay(30, 20), linear_decay(3, 2)
        for epoch in range(51):
            assert short(epoch / 10) == pytest.approx(whole(epoch))
        assert linear_decay(30, 0)(99) == 1

    def test_the_recipe_may_have_drops_of_its_own(self) -> None:
        recipe = dataclasses.replace(SMALL.translation, drops=(10.0,))
        schedule = made(translation=recipe).optimizers()["generators"].schedule
        assert [schedule(epoch) for epoch in (0, 20, 40)] == pytest.approx([1, 0.1, 0.05])

    def test_shipped_experiments_are_the_published_recipe_and_its_parts(self) -> None:
        ablation = read_ablation(Path(visir.__file__).parent / "configs" / "cyclegan" / "ablation.yaml")
        rows = {row.name: row for row in ablation.rows}
        assert list(rows) == ["without-cycle", "without-mapping", "without-pool", "cyclegan"]
        for benchmark in ("sysu_mm01", "regdb", "llcm"):
            experiment = ablation.experiment(rows["cyclegan"], benchmark)
            assert experiment.options == CycleGANConfig()
            assert experiment.train.epochs == SMALL.constant_epochs + SMALL.decay_epochs
            for row, changes in (("cycle", {"cycle": 0.0}), ("mapping", {"mapping": 0.0}), ("pool", {"pool": 0})):
                without = ablation.experiment(rows[f"without-{row}"], benchmark)
                assert without.options == CycleGANConfig(**changes)  # type: ignore[arg-type]
                assert (without.train, without.benchmark) == (experiment.train, experiment.benchmark)


class TestEncoder:
    def test_converts_each_image_whatever_the_order(self) -> None:
        method, data = made().eval(), batch(3)
        with torch.no_grad():
            whole = method.encoder(data.images, data.modality)
            for order in ([4, 1, 3, 0], [5], [2], [1, 0]):
                torch.testing.assert_close(method.encoder(data.images[order], data.modality[order]), whole[order])
            expected = method.encoder.to_visible(signed(data.images[3:]))
        assert whole.shape == data.images.shape
        torch.testing.assert_close(signed(whole[3:]), expected, atol=1e-5, rtol=1e-5)

    def test_what_is_made_infrared_is_grey(self) -> None:
        method, data = made().eval(), batch()
        with torch.no_grad():
            grey = signed(method.encoder(data.images, data.modality)[:2])
            colours = method.encoder.to_infrared(signed(data.images[:2]))
        torch.testing.assert_close(grey, colours.mean(1, keepdim=True).expand(-1, 3, -1, -1), atol=1e-5, rtol=1e-5)
        assert not torch.allclose(colours[:, 0], colours[:, 1])

    def test_exports_with_any_number_of_images(self) -> None:
        method, data = made().eval(), batch(3)
        rows = torch.export.Dim("rows", min=2, max=64)
        order = [0, 4, 1, 3, 2]
        with torch.no_grad():
            exported = torch.export.export(
                method.encoder, (data.images[:4], data.modality[:4]), dynamic_shapes=({0: rows}, {0: rows})
            )
            found = exported.module()(data.images[order], data.modality[order])
            torch.testing.assert_close(found, method.encoder(data.images[order], data.modality[order]))

    @pytest.mark.parametrize("size", [(48, 24), (96, 48)], ids=str)
    def test_pictures_are_converted_there_and_back(self, size: tuple[int, int]) -> None:
        method = made(stream=Stream(Unpaired(10), *size)).eval()
        data = batch(10, 0, *size)
        with torch.no_grad():
            (grid,) = method.pictures({"main": data}).values()
            there = method.encoder(data.images, data.modality)
            back = method.encoder(there, 1 - data.modality)
        assert grid.images.shape == (8, 6, 3, *size)
        for column, (images, half) in enumerate(
            (images, half) for half in (0, 1) for images in (data.images, there, back)
        ):
            torch.testing.assert_close(grid.images[:, column], shown(images.chunk(2)[half][:8]))
        assert len(set(grid.columns)) == 6


@pytest.mark.parametrize("order", [[2, 3, 0, 1], [0, 2, 1, 3], [0, 2, 3], []], ids=str)
def test_batches_of_another_order_are_refused(order: list[int]) -> None:
    data = batch()
    wrong = Batch(data.images[order], data.identity[order], data.camera[order], data.modality[order])
    with pytest.raises(TrainingError, match="N visible images followed by N infrared"):
        made().train_step({"main": wrong}, OneRank())


def test_any_kind_of_batch_will_do() -> None:
    pairs = dataclasses.replace(batch(), identity=torch.tensor([0, 1, 0, 1]))
    method = made()
    assert method.train_step({"main": pairs}, Recorder(method=method))
