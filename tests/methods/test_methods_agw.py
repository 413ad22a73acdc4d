"""AGW: its network, its two losses, its learning rates, its files, and what it refuses."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import yaml
from one_rank import OneRank
from torch import Tensor

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Pairs, Stream, Unpaired
from visir.core.errors import ConfigError, TrainingError
from visir.experiment.config import load
from visir.experiment.shipped import find_config
from visir.losses.triplet import triplet_loss, weighted_triplet_loss
from visir.methods.agw import AGW, AGWConfig
from visir.nets.nonlocal_block import NonLocalBlock
from visir.nets.pooling import GeMPool, MeanPool

SMALL = AGWConfig(backbone="tiny", stream=Stream(IdentityBalanced(2, 2), height=48, width=24))
BASE = {"non_local": False, "pooling": "mean", "triplet": "batch_hard"}


def balanced(people: int = 2, each: int = 2) -> Batch:
    count = people * each
    return Batch(
        images=torch.randn(2 * count, 3, 48, 24, generator=torch.Generator().manual_seed(0)),
        identity=torch.arange(people).repeat_interleave(each).repeat(2),
        camera=torch.zeros(2 * count, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(count),
    )


def made(**changes: object) -> AGW:
    torch.manual_seed(0)
    return AGW(dataclasses.replace(SMALL, **changes), 5)  # type: ignore[arg-type]


def test_defaults_are_the_numbers_of_the_authors() -> None:
    config = AGWConfig()
    assert (config.backbone, config.stream.height, config.stream.width) == ("resnet50", 288, 144)
    assert config.stream.draw == IdentityBalanced(8, 4, order="independent")
    assert (config.stream.augment.pad, config.stream.augment.flip) == (10, 0.5)
    assert (config.non_local, config.pooling, config.triplet, config.margin) == (True, "gem", "weighted", 0.3)
    factors = [config.recipe.schedule()(epoch) for epoch in (0, 4.5, 9.9, 10, 19.9, 20, 49.9, 50, 80)]
    assert factors == pytest.approx([0.1, 0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("num_identities", [206, 395])
@pytest.mark.parametrize("base", [False, True], ids=["agw", "agw-base"])
def test_parameters(num_identities: int, base: bool) -> None:
    with torch.device("meta"):
        method = AGW(AGWConfig(**(BASE if base else {})), num_identities)  # type: ignore[arg-type]
    stems = 2 * (64 * 3 * 49 + 128)
    attention = 0 if base else sum(6 * c + 3 for c in (512, 512, 1024, 1024, 1024))
    counts = {
        "network": sum(p.numel() for p in method.encoder.network.parameters()),
        "neck": sum(p.numel() for p in method.encoder.neck.trainable()),
        "classifier": sum(p.numel() for p in method.classifier.parameters()),
    }
    rest = 23_508_032 - stems // 2
    assert counts == {"network": stems + rest + attention, "neck": 2048, "classifier": 2048 * num_identities}
    assert sum(counts.values()) == sum(p.numel() for p in method.parameters() if p.requires_grad)
    assert (method.encoder.dim, method.encoder.network.grid) == (2048, (18, 9))


@pytest.mark.parametrize("base", [False, True], ids=["agw", "agw-base"])
def test_terms_are_identity_of_the_neck_and_triplets_of_what_goes_in(base: bool) -> None:
    method = made(**(BASE if base else {})).eval()
    batch = balanced()
    terms = method.losses(batch, OneRank())
    pooled = method.encoder.pool(method.encoder.network(batch.images, batch.modality))
    logits = method.encoder.neck(pooled) @ method.classifier.weight.T
    picked = logits.log_softmax(1)[torch.arange(8), batch.identity]
    expected = (
        triplet_loss(pooled, batch.identity, margin=0.3) if base else weighted_triplet_loss(pooled, batch.identity)
    )
    assert list(terms) == ["identity", "triplet"]
    torch.testing.assert_close(terms["identity"], -picked.mean())
    torch.testing.assert_close(terms["triplet"], expected)


def test_switches_pick_parts() -> None:
    full, base = made(), made(**BASE)
    assert isinstance(full.encoder.pool, GeMPool)
    assert isinstance(base.encoder.pool, MeanPool)
    attention = [sum(isinstance(m, NonLocalBlock) for m in method.modules()) for method in (full, base)]
    assert attention == [2, 0]  # the tiny network has one block a stage


def test_two_learning_rates() -> None:
    method = made()
    optim = method.optimizer()
    slow, fast = optim.optimizer.param_groups
    assert (slow["lr"], fast["lr"]) == (0.01, 0.1)
    assert {(g["momentum"], g["weight_decay"], g["nesterov"]) for g in (slow, fast)} == {(0.9, 5e-4, True)}
    assert {id(p) for p in slow["params"]} == {id(p) for p in method.encoder.network.parameters()}
    trained = {id(p) for group in (slow, fast) for p in group["params"]}
    assert trained == {id(p) for p in method.parameters() if p.requires_grad}
    assert not method.encoder.neck.bias.requires_grad


def test_gradients_reach_every_image_and_every_parameter() -> None:
    method, batch = made(), balanced()
    for module in method.modules():
        if isinstance(module, NonLocalBlock):  # it starts closed
            torch.nn.init.ones_(module.normalise.weight)
    images = batch.images.requires_grad_()
    torch.stack(list(method.losses(batch, OneRank()).values())).sum().backward()
    assert images.grad is not None
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


def test_triplets_are_of_the_images_of_all_ranks() -> None:
    gathered: list[tuple[int, ...]] = []

    class Recorder(OneRank):
        def gather(self, tensor: Tensor) -> Tensor:
            gathered.append(tuple(tensor.shape))
            return tensor

    made().losses(balanced(), Recorder())
    assert gathered == [(4, 256), (4, 256), (4,), (4,)]  # halves apart: the visible ones of all ranks stay in front


def test_embedding_does_not_depend_on_the_other_images_or_their_order() -> None:
    method, batch = made().eval(), balanced()
    order = torch.tensor([5, 0, 7, 2, 1, 6, 3, 4])
    with torch.no_grad():
        embedded = method.encoder(batch.images, batch.modality)
        mixed = method.encoder(batch.images[order], batch.modality[order])
    torch.testing.assert_close(mixed, embedded[order], atol=1e-5, rtol=1e-4)


def test_transformers_do_without_attention_blocks() -> None:
    stream = Stream(IdentityBalanced(2, 2), height=64, width=32)
    with pytest.raises(ConfigError, match="stages of a ResNet.* Or set with.non_local to false"):
        made(backbone="test_vit", stream=stream)
    method = made(backbone="test_vit", stream=stream, non_local=False)
    images = torch.randn(4, 3, 64, 32)
    batch = Batch(images, torch.tensor([0, 1, 0, 1]), torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 1, 1]))
    assert all(torch.isfinite(term) for term in method.losses(batch, OneRank()).values())
    assert method.eval().encoder(images[:1], torch.ones(1, dtype=torch.int64)).shape == (1, method.encoder.dim)


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_impossible_margins_are_refused(margin: float) -> None:
    with pytest.raises(ConfigError, match="margin must be a finite number"):
        parse(AGWConfig, {"margin": margin}, where="with")


def test_draws_without_pairs_are_refused() -> None:
    with pytest.raises(ConfigError, match="with.stream.draw: AGW .* 'unpaired'"):
        made(stream=Stream(Unpaired(4), height=48, width=24))
    made(stream=Stream(Pairs(4), height=48, width=24))


def test_batches_of_another_order_are_refused_at_the_first_step() -> None:
    batch = balanced()
    mixed = dataclasses.replace(batch, modality=batch.modality.flip(0))
    with pytest.raises(TrainingError, match="AGW: expected a batch of N visible images followed by N infrared"):
        made().losses(mixed, OneRank())


class TestFiles:
    @pytest.mark.parametrize(("name", "split"), [(name, "trainval") for name in ("sysu_mm01", "regdb", "llcm")])
    def test_state_the_recipe_of_the_authors(self, name: str, split: str) -> None:
        experiment = load(find_config(f"agw/{name}"))
        assert experiment.options == AGWConfig()
        assert (experiment.benchmark.name, experiment.benchmark.split, experiment.train.epochs) == (
            name,
            "trainval",
            81,
        )
        assert experiment.train.validate_every == 0

    def test_rows_of_the_ablation(self) -> None:
        content = yaml.safe_load(find_config("agw/ablation").read_text(encoding="utf-8"))
        found = {}
        for row in content["rows"]:
            for base in content["base"]:
                options = load(find_config(f"agw/{base}"), values=row.get("set", {})).options
                found[row["name"], base] = options
        expected = {"agw-base": AGWConfig(**BASE), "agw": AGWConfig()}  # type: ignore[arg-type]
        assert found == {(n, f"{b}.yaml"): c for n, c in expected.items() for b in ("sysu_mm01", "regdb", "llcm")}
