"""BDTR: its networks, its terms against loops over anchors, its switches, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
import yaml
from one_rank import OneRank
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Pairs, Stream, Unpaired
from visir.core.errors import ConfigError, TrainingError
from visir.experiment.config import load
from visir.experiment.shipped import find_config
from visir.methods.bdtr import BDTR, BDTRConfig

STREAM = Stream(IdentityBalanced(3, 2), height=48, width=24)
SMALL = BDTRConfig(backbone="tiny", stream=STREAM, dim=8, dropout=0.0)


def drawn(identities: int = 3, images: int = 2) -> Batch:
    half = identities * images
    return Batch(
        images=torch.randn(2 * half, 3, 48, 24, generator=torch.Generator().manual_seed(0)),
        identity=torch.arange(identities).repeat_interleave(images).repeat(2),
        camera=torch.zeros(2 * half, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(half),
    )


def made(people: int = 3, **changes: object) -> BDTR:
    torch.manual_seed(0)
    method = BDTR(dataclasses.replace(SMALL, **changes), people)
    nn.init.normal_(method.encoder.streams.infrared[-1].bias)  # the streams differ, as they do once trained
    return method


def slow_direction(
    anchors: Tensor, others: Tensor, identities: list[int], config: BDTRConfig
) -> tuple[float, float, float]:
    """Identity by identity: the mean ranking and intra terms over all pairs, and the one around centres."""
    ranking, apart, around = [], [], []
    for anchor, identity in zip(anchors, identities, strict=True):
        positives = [x for x, name in zip(others, identities, strict=True) if name == identity]
        negatives = [x for x, name in zip(others, identities, strict=True) if name != identity]
        nearest = min(negatives, key=lambda x: float((anchor - x).norm()))
        for positive in positives:
            ranking.append(max(0.0, float((anchor - positive).norm() - (anchor - nearest).norm()) + config.margin))
            apart.append(max(0.0, config.intra_margin - float((positive - nearest).norm())))
        center = torch.stack(positives).mean(0)
        center = center / center.norm()
        pushed = min(min(float((anchor - x).norm()), float((center - x).norm())) for x in negatives)
        around.append(max(0.0, config.margin + float((anchor - center).norm()) - pushed))
    return sum(ranking) / len(ranking), sum(apart) / len(apart), sum(around) / len(around)


def slow_terms(method: BDTR, batch: Batch) -> dict[str, float]:
    config, half = method.config, len(batch) // 2
    with torch.no_grad():
        features = method.encoder(batch.images, batch.modality)
        logits = method.classifier(features).double().tolist()
    named = [
        math.log(sum(map(math.exp, row))) - row[name] for row, name in zip(logits, batch.identity.tolist(), strict=True)
    ]
    terms = {"identity": sum(named) / len(named)}
    unit = features.double() / features.double().norm(dim=1, keepdim=True)
    visible, infrared, people = unit[:half], unit[half:], batch.identity[:half].tolist()
    directions = [slow_direction(visible, infrared, people, config), slow_direction(infrared, visible, people, config)]
    ranking, apart, around = map(sum, zip(*directions[: 1 if config.directions == "v2t" else 2], strict=True))
    if config.ranking:
        terms["ranking"] = config.ranking * (around if config.constraint == "center" else ranking)
    if config.ranking and config.intra and config.constraint == "cross":
        terms["intra"] = config.ranking * config.intra * apart
    return terms


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"intra": 0.0},
        {"intra": 0.0, "directions": "v2t"},
        {"directions": "v2t", "intra_margin": 1.0},
        {"ranking": 3.0, "margin": 0.9, "intra": 0.5, "intra_margin": 1.2},
        {"constraint": "center"},
        {"constraint": "center", "directions": "v2t", "ranking": 2.0},
        {"ranking": 0.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("images", [1, 2])
def test_terms_are_those_of_the_paper(changes: dict[str, object], images: int) -> None:
    method, batch = made(**changes).eval(), drawn(images=images)
    terms, expected = method.losses(batch, OneRank()), slow_terms(method, batch)
    assert list(terms) == list(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dim": 0}, "dim must be at least 1"),
        ({"margin": -1}, "margin must be a finite number"),
        ({"intra": math.inf}, "intra must be a finite number"),
        ({"ranking": math.nan}, "ranking must be a finite number"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"directions": "t2v"}, "directions"),
        ({"constraint": "centre"}, "constraint"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(BDTRConfig, values, where="with")


def test_defaults_are_the_numbers_of_the_code() -> None:
    config = BDTRConfig()
    assert (config.backbone, config.stream.height, config.stream.width) == ("alexnet", 227, 227)
    assert config.stream.draw == IdentityBalanced(64, 1)
    assert (config.margin, config.intra_margin, config.intra, config.dim, config.dropout) == (0.5, 0.1, 0.1, 1024, 0.5)
    recipe = config.recipe
    assert (recipe.optimizer, recipe.backbone_rate, recipe.head_rate, recipe.momentum) == ("sgd", 0.001, 0.001, 0.9)
    assert (recipe.weight_decay, recipe.nesterov, recipe.drops) == (0, False, ())
    assert config.stream.augment.flip == 0


@pytest.mark.parametrize(("num_identities", "classifier"), [(206, 211_150), (296, 303_400), (395, 404_875)])
def test_parameters_of_the_paper(num_identities: int, classifier: int) -> None:
    with torch.device("meta"):
        method = BDTR(BDTRConfig(), num_identities)
    counts = {
        "stream": sum(p.numel() for p in method.encoder.streams.visible.parameters()),
        "embedding": sum(p.numel() for p in method.encoder.embedding.parameters()),
        "classifier": sum(p.numel() for p in method.classifier.parameters()),
    }
    assert counts == {"stream": 2_334_080 + 37_752_832 + 8_192, "embedding": 4_195_328, "classifier": classifier}
    assert sum(counts.values()) + counts["stream"] == sum(p.numel() for p in method.parameters())
    assert method.encoder.dim == 1024


def test_rates_of_streams_and_of_what_is_new() -> None:
    method = made(recipe=dataclasses.replace(SMALL.recipe, backbone_rate=0.01, head_rate=0.1))
    slow, fast = method.optimizer().optimizer.param_groups
    assert (slow["lr"], fast["lr"]) == (0.01, 0.1)
    assert {id(p) for p in slow["params"]} == {id(p) for p in method.encoder.streams.parameters()}
    assert len(slow["params"]) + len(fast["params"]) == len(list(method.parameters()))


@pytest.mark.parametrize("constraint", ["cross", "center"])
def test_gradients_reach_both_spectra_and_every_parameter(constraint: str) -> None:
    method, batch = made(constraint=constraint, intra_margin=2.0), drawn()
    images = batch.images.requires_grad_()
    terms = method.losses(batch, OneRank())
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, images, retain_graph=True)
        assert (gradient.flatten(1).abs().sum(1) > 0).all(), name
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None for p in method.parameters())


def test_ranking_sees_the_images_of_all_ranks() -> None:
    """The other rank shows the same people; its identities come along, so they stay positives."""
    asked: list[tuple[int, ...]] = []

    class Recorder(OneRank):
        def gather(self, tensor: Tensor) -> Tensor:
            asked.append(tuple(tensor.shape))
            return torch.cat([tensor, tensor])

    method, batch = made().eval(), drawn()
    alone, joined = (method.losses(batch, step) for step in (OneRank(), Recorder()))
    assert asked == [(6, 8), (6, 8), (6,), (6,)]
    for name in ("identity", "ranking", "intra"):
        assert joined[name].item() == pytest.approx(alone[name].item(), abs=1e-6)


def test_features_are_dropped_while_training() -> None:
    method, batch = made(dropout=0.5), drawn()
    assert method.losses(batch, OneRank())["identity"] != method.losses(batch, OneRank())["identity"]
    method.eval()
    assert method.losses(batch, OneRank())["identity"] == method.losses(batch, OneRank())["identity"]


def test_losses_are_computed_in_full_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        terms = made().losses(drawn(), OneRank())
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_caffes_network_learns_a_batch() -> None:
    torch.manual_seed(0)
    config = BDTRConfig(stream=dataclasses.replace(STREAM, height=67, width=67), dropout=0.0)
    method, batch = BDTR(config, 3), drawn()
    batch = dataclasses.replace(batch, images=nn.functional.interpolate(batch.images, (67, 67)))
    optimizer = method.optimizer().optimizer
    costs = []
    for _ in range(8):
        loss = torch.stack(list(method.losses(batch, OneRank()).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        costs.append(loss.item())
    assert costs[-1] < 0.5 * costs[0]


@pytest.mark.parametrize("order", [[0, 6, 1, 7], [6, 7, 0, 1], [0, 1, 2, 7, 8, 6], [0, 1, 6]], ids=str)
def test_batches_of_another_order_are_refused(order: list[int]) -> None:
    batch = drawn(identities=6, images=1)
    shuffled = Batch(batch.images[order], batch.identity[order], batch.camera[order], batch.modality[order])
    with pytest.raises(TrainingError, match="BDTR: expected a batch of N visible images followed by N infrared"):
        made(6).losses(shuffled, OneRank())


def test_draws_without_pairs_are_refused() -> None:
    with pytest.raises(ConfigError, match="with.stream.draw: BDTR .* 'unpaired'"):
        made(stream=Stream(Unpaired(4), height=48, width=24))
    made(stream=Stream(Pairs(4), height=48, width=24))


def test_images_too_small_for_alexnet_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 67 by 67 pixels, got 48x24"):
        made(backbone="alexnet")


@pytest.mark.parametrize(("name", "steps", "drops"), [("regdb", 5_000, ()), ("sysu_mm01", 15_000, (10_000,))])
def test_shipped_experiments(name: str, steps: int, drops: tuple[int, ...]) -> None:
    experiment = load(find_config(f"bdtr/{name}"))
    options, train = experiment.options, experiment.train
    assert isinstance(options, BDTRConfig)
    assert dataclasses.replace(options, recipe=BDTRConfig().recipe) == BDTRConfig()
    assert train.steps_per_epoch is not None
    assert train.epochs * train.steps_per_epoch == steps
    assert tuple(int(drop * train.steps_per_epoch) for drop in options.recipe.drops) == drops


def test_rows_of_the_ablation() -> None:
    rows: list[dict[str, Any]] = yaml.safe_load(find_config("bdtr/ablation").read_text(encoding="utf-8"))["rows"]
    options = {
        (row["name"], name): load(find_config(f"bdtr/{name}"), values=row.get("set", {})).options
        for row in rows
        for name in row.get("only", ["sysu_mm01", "regdb"])
    }
    assert {
        key: (o.intra, o.directions, o.constraint, o.backbone, o.stream.draw.images) for key, o in options.items()
    } == {
        **{("top-ranking", name): (0.0, "v2t", "cross", "alexnet", 1) for name in ("sysu_mm01", "regdb")},
        **{("bctr", name): (0.0, "both", "cross", "alexnet", 1) for name in ("sysu_mm01", "regdb")},
        **{("full", name): (0.1, "both", "cross", "alexnet", 1) for name in ("sysu_mm01", "regdb")},
        **{("ebdtr", name): (0.1, "both", "center", "alexnet", 4) for name in ("sysu_mm01", "regdb")},
        ("ebdtr-resnet50", "sysu_mm01"): (0.1, "both", "center", "resnet50", 4),
    }
