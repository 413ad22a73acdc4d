"""DEEN: where embeddings multiply, its four losses, how they become one embedding, its files, and what it refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from one_rank import OneRank
from torch.utils.flop_counter import FlopCounterMode

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Stream, Unpaired
from visir.core.errors import ConfigError, TrainingError
from visir.experiment.ablation import systems
from visir.losses.diversity import center_mining_loss, orthogonal_loss
from visir.losses.identity import identity_loss
from visir.losses.triplet import triplet_loss
from visir.methods.deen import DEEN, DEENConfig

SMALL = DEENConfig(backbone="tiny", stream=Stream(IdentityBalanced(3, 2), height=48, width=24))
WIDTHS = (64, 32, 64, 128, 256)  # of the tiny network behind its stem and its stages


def batch(count: int = 6) -> Batch:
    return Batch(
        images=torch.randn(2 * count, 3, 48, 24, generator=torch.Generator().manual_seed(0)),
        identity=(torch.arange(count) // 2).repeat(2),
        camera=torch.zeros(2 * count, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(count),
    )


def made(**changes: Any) -> DEEN:
    torch.manual_seed(0)
    return DEEN(dataclasses.replace(SMALL, **changes), 3)


def images_seen(method: DEEN) -> list[int]:
    """How many images each stage gets in one step."""
    seen: list[int] = []
    for stage in method.encoder.network.stages[: method.config.stages]:
        stage.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    method.losses(batch(), OneRank())
    return seen


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [12, 12, 12, 36]),
        ({"expand_after": 0}, [36, 36, 36, 36]),
        ({"expand_after": 2, "branches": 2}, [12, 12, 24, 24]),
        ({"expand_after": 4}, [12, 12, 12, 12]),
        ({"branches": 1}, [12, 12, 12, 12]),
        ({"stages": 3, "expand_after": 2}, [12, 12, 36]),
    ],
    ids=str,
)
@pytest.mark.parametrize("aggregation", [True, False])
def test_embeddings_multiply_behind_their_stage(
    changes: dict[str, int], expected: list[int], aggregation: bool
) -> None:
    method = made(aggregation=aggregation, **changes)
    assert images_seen(method) == expected
    at = min(method.config.expand_after, method.config.stages)
    if method.config.branches > 1:
        assert method.encoder.expansion.generators[0].out.out_channels == WIDTHS[at]
    assert len(method.encoder.aggregations) == (method.config.stages if aggregation else 0)


def test_without_its_fourth_stage_a_network_has_none() -> None:
    method = made(stages=3, expand_after=2)
    assert method.encoder.dim == 128
    assert not list(method.encoder.network.stages[3].parameters())
    assert not list(method.encoder.network.stages[3].children())


def test_originals_come_first() -> None:
    method = made().eval()
    given, encoder = batch(), method.encoder
    with torch.no_grad():
        pooled, embedded = encoder(given.images, given.modality, every=True)
        alone = encoder.pool(encoder._maps(given.images, given.modality, expand=False))
    assert pooled.shape == embedded.shape == (12, 3, 256)
    torch.testing.assert_close(pooled[:, 0], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(embedded, encoder.neck(pooled.flatten(0, 1)).view(12, 3, 256))


@pytest.mark.parametrize("fusion", ["mean", "concatenation", "original"])
def test_how_embeddings_become_one(fusion: str) -> None:
    method = made(fusion=fusion).eval()
    given, encoder = batch(), method.encoder
    with torch.no_grad():
        found = encoder(given.images, given.modality)
        _, each = encoder(given.images, given.modality, every=True)
    expected = {"mean": each.mean(1), "concatenation": each.flatten(1), "original": each[:, 0]}[fusion]
    assert found.shape == (12, encoder.dim)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ["identity", "triplet", "mining", "orthogonality"]),
        ({"mining": 0.0}, ["identity", "triplet", "orthogonality"]),
        ({"orthogonality": 0.0}, ["identity", "triplet", "mining"]),
        ({"branches": 2}, ["identity", "triplet", "mining"]),
        ({"branches": 1}, ["identity", "triplet"]),
    ],
    ids=str,
)
def test_terms_are_those_of_the_paper(changes: dict[str, Any], names: list[str]) -> None:
    method = made(center_margin=9.0, **changes).eval()
    given = batch()
    terms = method.losses(given, OneRank())
    pooled, embedded = method.encoder(given.images, given.modality, every=True)
    branches = pooled.shape[1]
    whose = given.identity.repeat_interleave(branches)
    seen, hidden = pooled.chunk(2)
    expected = {
        "identity": identity_loss(method.classifier(embedded.flatten(0, 1)), whose),
        "triplet": triplet_loss(pooled.flatten(0, 1), whose, margin=0.3),
    }
    if branches > 1:
        parts = (seen[:, 0], hidden[:, 0], seen[:, 1:], hidden[:, 1:])
        expected["mining"] = 0.8 * center_mining_loss(*parts, given.identity[:6], margin=9.0)
        expected["orthogonality"] = 0.1 * orthogonal_loss(pooled[:, 1:])
    assert list(terms) == names
    for name in names:
        assert terms[name].item() == pytest.approx(expected[name].item(), rel=1e-4, abs=1e-6)
        assert terms[name].item() > 0


def test_gradients_reach_both_spectra_and_every_parameter_that_learns() -> None:
    method, given = made(center_margin=9.0), batch()
    images = given.images.requires_grad_()
    terms = method.losses(given, OneRank())
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, images, retain_graph=True)
        assert (gradient.flatten(1).abs().sum(1) > 0).all(), name
    torch.stack(list(terms.values())).sum().backward()
    learning = [p for group in method.optimizer().optimizer.param_groups for p in group["params"]]
    assert all(p.grad is not None for p in learning)
    assert len(learning) == len(list(method.parameters())) - 1  # all but the neck's bias, which stays 0


def test_defaults_are_the_numbers_of_the_paper() -> None:
    config = DEENConfig()
    assert (config.backbone, config.stream.height, config.stream.width) == ("resnet50", 384, 144)
    assert config.stream.draw == IdentityBalanced(6, 4)
    assert (config.mining, config.orthogonality, config.center_margin) == (0.8, 0.1, 0.2)
    assert (config.branches, config.expand_after, config.stages, config.aggregation) == (3, 3, 4, True)
    rates = [config.recipe.schedule()(epoch) * config.recipe.head_rate for epoch in (0, 9, 19, 20, 60, 120, 149)]
    assert rates == pytest.approx([0.01, 0.1, 0.1, 0.01, 1e-3, 1e-4, 1e-4])


def test_size_and_work_are_the_published_ones() -> None:
    """41.2 million parameters and 18.5 billion multiplications an image."""
    with torch.device("meta"):
        method = DEEN(DEENConfig(), 395)
        with FlopCounterMode(display=False) as counter:
            method.encoder(torch.empty(2, 3, 384, 144), torch.tensor([0, 1]))
    assert counter.get_total_flops() / 2 / 2 / 1e9 == pytest.approx(18.5, abs=0.4)  # two images, multiply and add
    encoder = method.encoder
    counts = {
        "network": sum(p.numel() for p in encoder.network.parameters()),
        "expansion": sum(p.numel() for p in encoder.expansion.parameters()),
        "head": sum(p.numel() for p in [*encoder.neck.parameters(), *method.classifier.parameters()]),
    }
    assert counts == {
        "network": 23_508_032 + 9_408 + 128,
        "expansion": 2 * (27 * 1024 * 256 + 256 * 1024),
        "head": 2 * 2048 + 2048 * 395,
    }
    assert sum(p.numel() for p in method.parameters()) / 1e6 == pytest.approx(41.2, abs=0.15)
    assert encoder.dim == 2048


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"branches": 0}, "branches must be at least 1"),
        ({"stages": 3, "expand_after": 4}, "expand_after must be one of the 3 stages"),
        ({"mining": -1.0}, "mining must be a finite number"),
        ({"center_margin": float("nan")}, "center_margin must be a finite number"),
        ({"expand_after": 5}, "with.expand_after"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(DEENConfig, values, where="with")


def test_streams_and_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="DEEN .* 'unpaired'"):
        made(stream=Stream(Unpaired(4), height=48, width=24))
    stream = Stream(IdentityBalanced(3, 2), height=64, width=32)
    with pytest.raises(ConfigError, match=r"with\.aggregation to false and with\.expand_after to 4"):
        made(backbone="test_vit", stream=stream)


def test_batches_of_another_order_are_refused() -> None:
    given = batch()
    with pytest.raises(TrainingError, match="N visible images followed by N infrared"):
        made().losses(dataclasses.replace(given, identity=given.identity.sort().values), OneRank())


ROWS = {  # row -> branches, stage behind which they start, aggregation, mining, orthogonality
    "baseline": (1, 3, False, 0.8, 0.1),
    "expansion": (3, 3, False, 0.0, 0.0),
    "expansion-mining": (3, 3, False, 0.8, 0.0),
    "expansion-orthogonal": (3, 3, False, 0.0, 0.1),
    "expansion-mining-orthogonal": (3, 3, False, 0.8, 0.1),
    "aggregation": (1, 3, True, 0.8, 0.1),
    "after-stage-0": (3, 0, False, 0.8, 0.1),
    "after-stage-1": (3, 1, False, 0.8, 0.1),
    "after-stage-2": (3, 2, False, 0.8, 0.1),
    "after-stage-4": (3, 4, False, 0.8, 0.1),
    "two-branches": (2, 3, False, 0.8, 0.1),
    "four-branches": (4, 3, False, 0.8, 0.1),
    "full": (3, 3, True, 0.8, 0.1),
}


def test_rows_of_the_ablation() -> None:
    found = {name.removeprefix("deen/"): system for name, system in systems().items() if name.startswith("deen/")}
    assert list(found) == list(ROWS)
    for name, (ablation, row) in found.items():
        assert ablation.benchmarks(row) == ["sysu_mm01", "llcm", "regdb"][: 3 if name == "full" else 2]
        for benchmark in ablation.benchmarks(row):
            options = ablation.experiment(row, benchmark).options
            assert isinstance(options, DEENConfig)
            branches, after, *rest = ROWS[name]
            stages, after = (3, 2) if benchmark == "regdb" else (4, after)
            assert (options.stages, options.expand_after, options.branches) == (stages, after, branches)
            assert [options.aggregation, options.mining, options.orthogonality] == rest
            assert (options.stream.height, options.stream.width) == (384, 144)
            assert ablation.experiment(row, benchmark).train.epochs == 150
