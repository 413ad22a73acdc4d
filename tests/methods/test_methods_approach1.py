"""Approach 1: its terms against loops over triples, what is frozen when, a given embedding, configuration."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from one_rank import OneRank
from safetensors.torch import save_file
from small_approach1 import SMALL, STREAM, Recorder, drawn, made, moved
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Pairs, Unpaired
from visir.core.errors import CheckpointError, ConfigError, TrainingError
from visir.engine.build import describe, rebuild
from visir.engine.runtime import Runtime
from visir.engine.step import EngineStep
from visir.experiment.ablation import systems
from visir.experiment.config import load
from visir.experiment.shipped import find_config
from visir.methods.approach1 import Approach1, Approach1Config


def embedded(batch: Batch) -> Tensor:
    """Made-up embeddings, at least 0."""
    return torch.randn(len(batch), 12, generator=torch.Generator().manual_seed(1)).relu()


def named(method: Approach1, made_up: Tensor, person: int) -> float:
    logits = method.classifier(made_up).double().tolist()
    return math.log(sum(map(math.exp, logits))) - logits[person]


def slow_terms(method: Approach1, batch: Batch, *, label_of_rest: bool = False) -> dict[str, float]:
    """The losses of the slides, triple by triple; the third image is the same picture of person p XOR 1."""
    config, half, images = method.config, len(batch) // 2, method.images
    vectors, people = embedded(batch), batch.identity.tolist()
    identity_of, rest_of = (method.encoder.visible, method.encoder.infrared), method.rest
    seen, unseen = method.decoders
    terms: dict[str, float] = dict.fromkeys(("reconstruction", "cross", "mixture", "triplet"), 0.0)

    def error(wanted: Tensor, painted: Tensor) -> float:
        return float((wanted - painted).abs().mean()) / half

    def gap(first: Tensor, second: Tensor) -> float:
        return float((first - second).abs().sum())

    with torch.no_grad():
        for i in range(half):
            j = half + (i // images ^ 1) * images + i % images
            x1, x2, x3 = vectors[i], vectors[half + i], vectors[j]
            s1, s2, s3 = identity_of[0](x1), identity_of[1](x2), identity_of[1](x3)
            m1, m2, m3 = rest_of[0](x1), rest_of[1](x2), rest_of[1](x3)
            terms["reconstruction"] += error(x1, seen(m1, s1)) + error(x2, unseen(m2, s2)) + error(x3, unseen(m3, s3))
            terms["cross"] += error(x1, seen(m1, s2)) + error(x2, unseen(m2, s1))
            labels = (people[i], people[j]) if label_of_rest else (people[j], people[i])
            mixtures = (seen(m1, s3), unseen(m3, s1))
            terms["mixture"] += sum(named(method, x, y) for x, y in zip(mixtures, labels, strict=True)) / half
            near, far = [gap(s1, s2)], [gap(s1, s3)]
            if config.mining == "hard":
                codes = [(identity_of[1](vectors[k]), people[k]) for k in range(half, 2 * half)]
                near = [gap(s1, s) for s, y in codes if y == people[i]]
                far = [gap(s1, s) for s, y in codes if y != people[i]]
            terms["triplet"] += max(0.0, config.margin + max(near) - min(far)) / half
    return terms


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("mining", ["random", "hard"])
def test_terms_are_those_of_the_slides(images: int, mining: str) -> None:
    stream = dataclasses.replace(STREAM, draw=IdentityBalanced(4, images))
    method, batch = made(stream=stream, mining=mining), drawn(images=images)
    terms, expected = method.losses(embedded(batch), batch.identity, OneRank()), slow_terms(method, batch)
    assert list(terms) == list(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4), name
    wrong = slow_terms(method, batch, label_of_rest=True)["mixture"]
    assert wrong != pytest.approx(expected["mixture"], rel=1e-3)


def test_weights_and_what_is_left_out() -> None:
    batch = drawn()

    def terms(**changes: object) -> dict[str, Tensor]:
        return made(**changes).losses(embedded(batch), batch.identity, OneRank())

    whole, weights = terms(), {"reconstruction": 2.0, "cross": 3.0, "mixture": 0.5, "triplet": 4.0}
    for name, value in terms(**weights).items():
        torch.testing.assert_close(value, weights[name] * whole[name])
    assert list(terms(cross=0.0, triplet=0.0)) == ["reconstruction", "mixture"]
    assert list(terms(mixture=0.0)) == ["reconstruction", "cross", "triplet"]
    assert list(terms(classify_real=True)) == ["reconstruction", "cross", "mixture", "real", "triplet"]


def test_options_that_the_slides_leave_open() -> None:
    method, batch = made(classify_real=True, anchors="both", mining="random"), drawn()
    terms = method.losses(embedded(batch), batch.identity, OneRank())
    rows = zip(embedded(batch), batch.identity.tolist(), strict=True)
    with torch.no_grad():
        assert terms["real"].item() == pytest.approx(sum(named(method, x, y) for x, y in rows) / 16, rel=1e-4)
    visible = made(mining="random").losses(embedded(batch), batch.identity, OneRank())["triplet"]
    assert terms["triplet"].item() != pytest.approx(visible.item(), rel=1e-3)
    turned = made(mining="random", classify_real=True)
    turned.encoder.visible, turned.encoder.infrared = turned.encoder.infrared, turned.encoder.visible
    swapped = turned.losses(embedded(batch).roll(8, 0), batch.identity, OneRank())["triplet"]
    assert terms["triplet"].item() == pytest.approx((visible + swapped).item() / 2, rel=1e-4)


def test_every_loss_teaches_its_own_parts() -> None:
    method, batch = made(margin=30.0, classify_real=True, dim=16), drawn()
    parts = {"identity 0": method.encoder.visible, "identity 1": method.encoder.infrared}
    for k in range(2):
        parts |= {f"rest {k}": method.rest[k], f"decoder {k}": method.decoders[k]}
    parts |= {"classifier": method.classifier, "network": method.encoder.network}
    terms = method.losses(method.embedded(batch), batch.identity, OneRank())
    coding = {name for name in parts if name.startswith(("identity", "rest", "decoder"))}
    assert moved(terms["reconstruction"], parts) == coding
    assert moved(terms["cross"], parts) == coding
    assert moved(terms["mixture"], parts) == coding | {"classifier"}
    assert moved(terms["triplet"], parts) == {"identity 0", "identity 1"}
    assert moved(terms["real"], parts) == {"classifier"}


def stepped(method: Approach1, first: int, last: int) -> dict[str, Tensor]:
    """Steps first..last-1 of the engine, two an epoch, with the batches that are wanted; the terms of the last."""
    step = EngineStep(method.optimizers(), Runtime(), seed=0, steps_per_epoch=2)
    terms: dict[str, Tensor] = {}
    for index in range(first, last):
        step.begin(index)
        method.train()
        shapes = {"embedding": (8, 1), "main": (4, 2)}
        terms = dict(method.train_step({n: drawn(*shapes[n], index) for n in method.wanted(step.epoch)}, step))
    return terms


def changed(method: Approach1, before: dict[str, Tensor]) -> set[str]:
    return {key for key, value in method.state_dict().items() if not torch.equal(value, before[key])}


def copied(method: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in method.state_dict().items()}


TWO_STREAM = ("encoder.network.", "embedding_classifier.")


def test_the_network_learns_first_and_is_frozen_then() -> None:
    torch.manual_seed(0)
    method = Approach1(dataclasses.replace(SMALL, dropout=0.0), 8)
    before = copied(method)
    assert list(stepped(method, 0, 4)) == ["embedding_identity", "embedding_ranking", "embedding_intra"]
    assert changed(method, before) == {key for key in before if key.startswith(TWO_STREAM)}
    before = copied(method)
    assert list(stepped(method, 4, 6)) == ["reconstruction", "cross", "mixture", "triplet"]
    expected = {key for key in before if not key.startswith(TWO_STREAM)}
    assert changed(method, before) == expected  # neither weights nor statistics of the network
    assert [method.wanted(epoch) for epoch in (0, 1.99, 2.0, 7)] == [("embedding",)] * 2 + [("main",)] * 2


def test_a_frozen_embedding_is_that_of_the_evaluation() -> None:
    method, batch = made(dropout=0.5).train(), drawn()
    first = method.embedded(batch)
    assert torch.equal(first, method.embedded(batch))
    assert not first.requires_grad
    method.eval()
    with torch.no_grad():
        torch.testing.assert_close(first, method.encoder.network(batch.images, batch.modality))
        codes = torch.cat([method.encoder.visible(first[:8]), method.encoder.infrared(first[8:])])
        order = torch.tensor([9, 0, 3, 15, 8])
        torch.testing.assert_close(method.encoder(batch.images[order], batch.modality[order]), codes[order])
    assert method.encoder.dim == 4


def test_made_embeddings_have_a_sign_only_without_the_last_relu() -> None:
    codes = torch.rand(2, 16, 4, generator=torch.Generator().manual_seed(0))
    assert all((decoder(*codes) >= 0).all() for decoder in made().decoders)
    assert all((decoder(*codes) < 0).any() for decoder in made(last_relu=False).decoders)


def test_epochs_of_the_perceptrons_begin_when_they_do() -> None:
    recipe = dataclasses.replace(SMALL.disentangling, drops=(3.0,))
    optims = made(disentangling=recipe).optimizers()
    assert [optims["main"].schedule(epoch) for epoch in (0.0, 4.9, 5.0)] == [1.0, 1.0, 0.1]
    assert [optims["embedding"].schedule(epoch) for epoch in (0.0, 29.0, 30.0)] == [1.0, 1.0, 0.1]


def test_every_parameter_has_one_optimizer() -> None:
    method = made()
    groups = {n: [g["params"] for g in o.optimizer.param_groups] for n, o in method.optimizers().items()}
    slow, fast = groups["embedding"]
    assert {id(p) for p in slow} == {id(p) for p in method.encoder.network.streams.parameters()}
    every = [id(p) for group in (slow, fast, *groups["main"]) for p in group]
    assert sorted(every) == sorted(id(p) for p in method.parameters())


def test_mining_sees_the_images_of_all_ranks() -> None:
    batch = drawn()
    for mining, same in (("hard", False), ("random", True)):
        method = made(mining=mining, margin=30.0)
        alone, joined = (method.losses(embedded(batch), batch.identity, step) for step in (OneRank(), Recorder()))
        assert (joined["triplet"].item() == pytest.approx(alone["triplet"].item(), rel=1e-4)) is same


class TestGivenEmbedding:
    def test_is_read_at_the_first_step_and_kept(self, tmp_path: Path) -> None:
        torch.manual_seed(7)
        other = made().encoder.network
        for parameter in other.parameters():
            nn.init.normal_(parameter, std=0.1)
        file = tmp_path / "encoder.safetensors"
        save_file(other.state_dict(), file)
        method = made(embedding=str(file), embedding_epochs=0.0)
        stepped(method, 0, 2)
        assert all(
            torch.equal(a, b)
            for a, b in zip(copied(other).values(), copied(method.encoder.network).values(), strict=True)
        )
        file.unlink()
        stepped(method, 2, 3)  # a training that goes on has it in its checkpoint
        assert rebuild(describe(method), where="here").config == method.config

    def test_a_wrong_file_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="expected .* a readable safetensors file"):
            stepped(made(embedding=str(tmp_path / "none"), embedding_epochs=0.0), 0, 1)
        save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
        with pytest.raises(CheckpointError, match="are not of this two-stream network"):
            stepped(made(embedding=str(tmp_path / "other.safetensors"), embedding_epochs=0.0), 0, 1)


def test_losses_are_computed_in_full_precision() -> None:
    method, batch = made(classify_real=True).train(), drawn()
    with torch.autocast("cpu", torch.bfloat16):
        terms = method.losses(method.embedded(batch), batch.identity, OneRank())
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_parameters_of_table_5() -> None:
    with torch.device("meta"):
        method = Approach1(Approach1Config(), 395)

    def count(*modules: nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    assert (method.encoder.dim, method.encoder.network.dim) == (256, 512)
    assert count(method.encoder.visible, method.encoder.infrared) == 2 * 3_804_928
    assert count(method.rest) == 2 * 3_804_928
    assert count(method.decoders) == 2 * 2 * 2_231_296
    assert count(method.classifier) == 465_291
    assert count(method.encoder.network.embedding) == 2048 * 512 + 512


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_distance_of_the_codes(distance: str) -> None:
    assert made(distance=distance).encoder.distance == distance


def test_batches_of_another_order_are_refused() -> None:
    method, batch = made(embedding_epochs=0.0), drawn()
    order = [*range(8, 16), *range(8)]
    shuffled = Batch(batch.images[order], batch.identity[order], batch.camera[order], batch.modality[order])
    step = EngineStep(method.optimizers(), Runtime(), seed=0, steps_per_epoch=2)
    with pytest.raises(TrainingError, match="Approach 1: expected"):
        method.train_step({"main": shuffled}, step)
    with pytest.raises(TrainingError, match="Approach 1: expected"):
        made().train_step({"embedding": shuffled}, step)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stream": dataclasses.replace(STREAM, draw=Pairs(8))}, "kind 'pairs'"),
        ({"stream": dataclasses.replace(STREAM, draw=IdentityBalanced(3, 2))}, "got 3"),
        ({"embedding_stream": dataclasses.replace(STREAM, draw=Unpaired(8))}, "kind 'unpaired'"),
    ],
)
def test_draws_without_triples_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"with.stream.draw.*Approach 1.*{words}"):
        made(**changes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dim": 0}, "dim must be at least 1"),
        ({"embedding_dim": 0}, "embedding_dim must be at least 1"),
        ({"embedding_epochs": -1}, "embedding_epochs must be a finite number"),
        ({"margin": math.inf}, "margin must be a finite number"),
        ({"reconstruction": 0}, "reconstruction must be a finite number above 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"embedding": "a.safetensors"}, "embedding_epochs must be 0 where an embedding is given"),
        ({"stream": {"height": 96}}, "stream and embedding_stream must have one size in pixels"),
        ({"mining": "soft"}, "mining"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(Approach1Config, values, where="with")


@pytest.mark.parametrize("name", ["sysu_mm01", "regdb"])
def test_shipped_experiments(name: str) -> None:
    experiment = load(find_config(f"approach1/{name}"))
    options = experiment.options
    assert options == Approach1Config()
    assert isinstance(options, Approach1Config)
    assert experiment.train.epochs - options.embedding_epochs == 100
    assert options.stream.augment.flip == options.stream.augment.pad == 0


def test_rows_of_the_ablation() -> None:
    rows = {name: found for name, found in systems().items() if name.split("/")[0] == "approach1"}
    options = {name: ablation.experiment(row, "sysu_mm01").options for name, (ablation, row) in rows.items()}
    assert {name: (o.cross, o.triplet, o.mining, o.stream.draw) for name, o in options.items()} == {
        "approach1/simple-dis": (0, 0, "hard", IdentityBalanced(64, 1)),
        "approach1/simple-dis-cross": (1, 0, "hard", IdentityBalanced(64, 1)),
        "approach1/random-triplets": (1, 1, "random", IdentityBalanced(64, 1)),
        "approach1": (1, 1, "hard", IdentityBalanced(16, 4)),
    }
    assert len({(o.recipe, o.embedding_stream, o.embedding_epochs, o.mixture) for o in options.values()}) == 1
