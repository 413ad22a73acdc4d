"""AlignGAN: what each term and each update reaches, and the terms themselves."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from small_aligngan import Looking, batches, made
from torch import Tensor

from visir.core.batch import Batch
from visir.engine.runtime import Precision, Runtime
from visir.engine.step import EngineStep
from visir.losses.adversarial import discriminator_loss, generator_loss
from visir.losses.cosine_triplet import cosine_triplet_loss, two_way_cosine_triplet_loss
from visir.losses.identity import identity_loss
from visir.methods.aligngan import AlignGAN, AlignGANConfig
from visir.methods.base import Recipe

STILL = Recipe(backbone_rate=0.0, head_rate=0.0, weight_decay=0.0)
PHASES = {"feature": 0.5, "pixel": 1.5, "joint": 3.5}  # name -> an epoch in it
BACKBONE, HEADS, FORTH, BACK = "encoder.backbone", "heads", "encoder.translator", "to_visible"
PARTS = (BACKBONE, HEADS, FORTH, BACK, "visible", "infrared", "joint")
TRANSLATORS = {FORTH, BACK}


def looked(method: AlignGAN, phase: str) -> tuple[Mapping[str, Tensor], Looking]:
    """The terms of one step of a phase, and what was to be minimized."""
    step = Looking(epoch=PHASES[phase])
    return method.train_step(batches(), step), step


def of(parameter: str) -> str:
    return next(part for part in PARTS if parameter.startswith(f"{part}."))


def reached(loss: Tensor, method: AlignGAN) -> set[str]:
    """The parts of the method that the loss has a gradient in."""
    named = {name: p for name, p in method.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {of(name) for name, g in zip(named, gradients, strict=True) if g is not None and g.abs().sum() > 0}


def moved(method: AlignGAN, phase: str, precision: Precision = "fp32") -> set[str]:
    """The parts of the method that a step of the engine changes."""
    runtime = Runtime(precision=precision)
    step = EngineStep(method.optimizers(), runtime, seed=0, steps_per_epoch=2)
    before = {name: value.detach().clone() for name, value in method.named_parameters()}
    step.begin(round(2 * PHASES[phase]))
    with runtime.autocast():
        method.train().train_step(batches(), step)
    return {of(name) for name, value in method.named_parameters() if not torch.equal(value, before[name])}


class TestGradients:
    """A detach in another place gives a term another reach."""

    @pytest.mark.parametrize(
        ("phase", "term", "parts"),
        [
            ("feature", "identity", {BACKBONE, HEADS}),
            ("feature", "triplet", {BACKBONE, HEADS}),
            ("pixel", "adversarial", {FORTH, BACK, "visible", "infrared"}),
            ("pixel", "cycle", TRANSLATORS),
            ("pixel", "mapping", TRANSLATORS),
            ("pixel", "task_identity", {FORTH, BACKBONE, HEADS}),
            ("pixel", "task_triplet", {FORTH, BACKBONE, HEADS}),
            ("pixel", "visible_discriminator", {"visible"}),
            ("pixel", "infrared_discriminator", {"infrared"}),
            ("joint", "identity", {BACKBONE, HEADS}),
            ("joint", "triplet", {BACKBONE, HEADS}),
            ("joint", "alignment", {BACKBONE, "joint"}),
            ("joint", "adversarial", {FORTH, BACK, "visible", "joint"}),
            ("joint", "cycle", TRANSLATORS),
            ("joint", "mapping", TRANSLATORS),
            ("joint", "task_identity", {FORTH, BACKBONE, HEADS}),
            ("joint", "task_triplet", {FORTH, BACKBONE, HEADS}),
            ("joint", "visible_discriminator", {"visible"}),
            ("joint", "infrared_discriminator", {"joint"}),
        ],
    )
    def test_of_each_term(self, phase: str, term: str, parts: set[str]) -> None:
        method = made()
        assert reached(looked(method, phase)[0][term], method) == parts

    def test_real_images_are_not_moved_towards_made_ones_for_the_translators(self) -> None:
        """The triplets of the pixel module reach the encoder through made images alone."""
        method, seen = made().eval(), {}
        whole = method.encoder.maps
        method.encoder.maps = lambda small: seen.setdefault("maps", whole(small))  # type: ignore[method-assign]
        terms, _ = looked(method, "pixel")
        (gradient,) = torch.autograd.grad(terms["task_triplet"], seen["maps"])
        of_made, of_real = gradient.chunk(2)
        assert of_made.abs().sum() > 0
        assert not of_real.any()

    def test_joint_discriminator_asks_features_of_made_images_to_go_with_real_images(self) -> None:
        method, seen = made().eval(), {}
        whole = method.encoder.maps
        method.encoder.maps = lambda small: seen.setdefault("maps", whole(small))  # type: ignore[method-assign]
        batch = batches()["feature"]
        step = Looking(epoch=PHASES["joint"])
        terms = method._features(batch, step)
        (gradient,) = torch.autograd.grad(terms["alignment"], seen["maps"])
        of_made, of_real = gradient.chunk(2)
        assert of_made.abs().sum() > 0
        assert not of_real.any()

    def test_cycles_reach_both_translators_each_way(self) -> None:
        method = made()
        visible, infrared = method.encoder.reduced(batches()["pixel"].images).chunk(2)
        ways = [half.flip(0).requires_grad_() for half in (visible, infrared)]
        terms = method._restored(visible, infrared, *ways)
        assert all(one.abs().sum() > 0 for one in torch.autograd.grad(terms["cycle"], ways))
        assert torch.autograd.grad(terms["mapping"], ways, allow_unused=True) == (None, None)


class TestUpdates:
    @pytest.mark.parametrize(
        ("phase", "parts"),
        [
            ("feature", {BACKBONE, HEADS}),
            ("pixel", {FORTH, BACK, "visible", "infrared"}),
            ("joint", {BACKBONE, HEADS, FORTH, BACK, "visible", "joint"}),
        ],
    )
    def test_each_phase_moves_its_networks_alone(self, phase: str, parts: set[str]) -> None:
        assert moved(made(), phase) == parts
        assert moved(made(), phase, "bf16") == parts  # what ran without gradients leaves no weights behind

    def test_the_feature_module_does_not_move_with_the_translators(self) -> None:
        assert moved(made(recipe=STILL), "joint") == {FORTH, BACK, "visible", "joint"}
        assert moved(made(recipe=STILL), "pixel") == {FORTH, BACK, "visible", "infrared"}

    def test_translators_do_not_move_with_the_feature_module(self) -> None:
        assert moved(made(translation=STILL), "joint") == {BACKBONE, HEADS}

    def test_order_is_features_then_translators_then_discriminators(self) -> None:
        assert [names for _, names in looked(made(), "feature")[1].minimized] == [("feature",)]
        assert [names for _, names in looked(made(), "pixel")[1].minimized] == [
            ("translators",),
            ("visible", "infrared"),
        ]
        assert [names for _, names in looked(made(), "joint")[1].minimized] == [
            ("feature",),
            ("translators",),
            ("visible", "joint"),
        ]

    def test_what_is_minimized_is_the_sum_of_the_terms(self) -> None:
        terms, step = looked(made(), "joint")
        losses = [loss for loss, _ in step.minimized]
        shares = (
            ("identity", "triplet", "alignment"),
            ("adversarial", "cycle", "mapping", "task_identity", "task_triplet"),
            ("visible_discriminator", "infrared_discriminator"),
        )
        for loss, names in zip(losses, shares, strict=True):
            torch.testing.assert_close(loss, torch.stack([terms[name] for name in names]).sum())
        assert set(terms) == {name for names in shares for name in names}

    def test_optimizers_are_those_of_the_recipes(self) -> None:
        published = AlignGANConfig()
        optims = made(recipe=published.recipe, translation=published.translation).optimizers()
        assert set(optims) == {"feature", "translators", "visible", "infrared", "joint"}
        feature = optims.pop("feature").optimizer
        assert isinstance(feature, torch.optim.SGD)
        assert [g["lr"] for g in feature.param_groups] == [0.02, 0.2]
        for optim in optims.values():
            assert isinstance(optim.optimizer, torch.optim.Adam)
            assert [(g["lr"], g["betas"], g["weight_decay"]) for g in optim.optimizer.param_groups] == [
                (2e-4, (0.5, 0.999), 0.0)
            ]
            assert [round(optim.schedule(epoch), 3) for epoch in (0, 52.9, 53)] == [1, 1, 0.1]


class TestTerms:
    def test_of_the_feature_phase_are_of_infrared_images_alone(self) -> None:
        method = made().eval()
        terms, _ = looked(method, "feature")
        batch = batches()["feature"]
        infrared, people = batch.images.chunk(2)[1], batch.identity.chunk(2)[1]
        logits, embedded = method.heads(method.encoder.maps(method.encoder.reduced(infrared)).mean((2, 3)))
        triplets = cosine_triplet_loss(embedded, embedded, people, people, margin=1.0)
        torch.testing.assert_close(dict(terms), {"identity": identity_loss(logits, people), "triplet": triplets})

    def test_of_the_joint_phase_are_those_of_the_publication(self) -> None:
        method = made(cycle=3.0, mapping=2.0, task=0.5, alignment=0.7, margin=1.5).eval()
        terms, _ = looked(method, "joint")
        expected = slow_terms(method, batches())
        assert set(terms) == set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(terms[name], value, msg=lambda said, name=name: f"{name}: {said}")

    @pytest.mark.parametrize(
        ("changes", "gone"),
        [
            ({"cycle": 0.0}, {"cycle"}),
            ({"mapping": 0.0}, {"mapping"}),
            ({"task": 0.0}, {"task_identity", "task_triplet"}),
            ({"alignment": 0.0}, {"alignment"}),
        ],
    )
    def test_a_weight_of_zero_leaves_its_term_out(self, changes: dict[str, float], gone: set[str]) -> None:
        assert set(looked(made(), "joint")[0]) - set(looked(made(**changes), "joint")[0]) == gone

    def test_without_task_the_second_phase_does_not_read_features(self) -> None:
        method = made(task=0.0)
        method.encoder.maps = lambda small: pytest.fail("read")  # type: ignore[method-assign]
        assert "adversarial" in looked(method, "pixel")[0]

    def test_are_in_full_precision(self) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            for phase in PHASES:
                assert {term.dtype for term in looked(made(), phase)[0].values()} == {torch.float32}


class Joined(Looking):
    """One of two ranks, of which the other shows the same people, elsewhere."""

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor + 1 if tensor.is_floating_point() else tensor])


@pytest.mark.parametrize(
    ("phase", "term"),
    [("feature", "triplet"), ("pixel", "task_triplet"), ("joint", "triplet"), ("joint", "task_triplet")],
)
def test_triplets_see_the_images_of_all_ranks(phase: str, term: str) -> None:
    method = made()
    alone, joined = (method.train_step(batches(), step(epoch=PHASES[phase]))[term] for step in (Looking, Joined))
    assert not torch.isclose(alone, joined, rtol=1e-3)


def slow_terms(method: AlignGAN, given: Mapping[str, Batch]) -> dict[str, Tensor]:
    """The terms of a step of the last phase, written out image set by image set."""
    config, encoder = method.config, method.encoder

    def read(small: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = encoder.maps(small)
        return maps, *method.heads(maps.mean((2, 3)))

    people = given["feature"].identity.chunk(2)[0]
    visible, infrared = (encoder.reduced(half) for half in given["feature"].images.chunk(2))
    made_maps, made_logits, made_rows = read(encoder.translator(visible))
    _, real_logits, real_rows = read(infrared)
    terms = {
        "identity": identity_loss(made_logits, people) + identity_loss(real_logits, people),
        "triplet": two_way_cosine_triplet_loss(made_rows, real_rows, people, people, margin=config.margin),
        "alignment": config.alignment * (method.joint(infrared, made_maps) - 1).square().mean(),
    }
    people = given["pixel"].identity.chunk(2)[0]
    visible, infrared = (encoder.reduced(half) for half in given["pixel"].images.chunk(2))
    forth, back = encoder.translator, method.to_visible
    unseen, seen = forth(visible), back(infrared)
    made_maps, made_logits, made_rows = read(unseen)
    real_maps, _, real_rows = read(infrared)
    fooled = generator_loss(method.visible(seen)) + generator_loss(method.joint(unseen, real_maps))
    triplets = two_way_cosine_triplet_loss(made_rows, real_rows, people, people, margin=config.margin)
    others = infrared[[2, 3, 0, 1, 6, 7, 4, 5]]  # two images of each of four people
    fakes = [(others, real_maps), (infrared, made_maps), (unseen, real_maps), (unseen, made_maps)]
    wrong = sum(method.joint(*fake).square().mean() for fake in fakes) / 4
    return terms | {
        "adversarial": fooled / 2,
        "cycle": config.cycle * ((back(unseen) - visible).abs().mean() + (forth(seen) - infrared).abs().mean()) / 2,
        "mapping": config.mapping
        * ((back(visible) - visible).abs().mean() + (forth(infrared) - infrared).abs().mean())
        / 2,
        "task_identity": config.task * identity_loss(made_logits, people),
        "task_triplet": config.task * triplets,
        "visible_discriminator": discriminator_loss(method.visible(visible), method.visible(seen)) / 2,
        "infrared_discriminator": ((method.joint(infrared, real_maps) - 1).square().mean() + wrong) / 2,
    }
