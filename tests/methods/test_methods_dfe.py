"""DFE: its networks, its three losses against a loop over pairs, its two learning rates, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
import statistics

import pytest
import torch
from one_rank import OneRank
from torch import Tensor

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Pairs, Stream, Unpaired
from visir.core.errors import ConfigError, TrainingError
from visir.methods.dfe import DFE, DFEConfig

SMALL = DFEConfig(backbone="tiny", stream=Stream(Pairs(4), height=48, width=24), parts=3, dim=8)


def pairs(count: int = 4, height: int = 48, width: int = 24) -> Batch:
    generator = torch.Generator().manual_seed(0)
    identity = torch.arange(count) % 3
    return Batch(
        images=torch.randn(2 * count, 3, height, width, generator=generator),
        identity=identity.repeat(2),
        camera=torch.zeros(2 * count, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(count),
    )


def slow_terms(features: Tensor, weight: Tensor, identities: list[int], parts: int) -> tuple[float, float, float]:
    """The three losses of the paper, pair by pair, part by part."""
    pairs_of, dim = len(features) // 2, features.shape[1] // parts
    identity = distribution = correlation = 0.0
    rows = features.detach().double().tolist()
    for j in range(pairs_of):
        for row in (rows[j], rows[j + pairs_of]):
            for i in range(parts):
                part = torch.tensor(row[i * dim : (i + 1) * dim], dtype=torch.float64)
                logits = (weight[i].detach().double() @ part).tolist()
                identity += math.log(sum(map(math.exp, logits))) - logits[identities[j]]
        for k in range(dim):
            seen, hidden = rows[j][k::dim], rows[j + pairs_of][k::dim]
            distribution += (statistics.mean(seen) - statistics.mean(hidden)) ** 2
            distribution += (statistics.pstdev(seen) - statistics.pstdev(hidden)) ** 2
        for other in range(pairs_of):
            visible = statistics.correlation(rows[j], rows[other])
            infrared = statistics.correlation(rows[j + pairs_of], rows[other + pairs_of])
            correlation += (visible - infrared) ** 2
    return identity / pairs_of, distribution / (2 * pairs_of), correlation / pairs_of


@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(1, 1, 1), (1, 11, 2), (1, 0, 0), (1, 11, 0), (1, 0, 2)], ids=str)
def test_terms_are_those_of_the_paper(alpha: float, beta: float, gamma: float) -> None:
    torch.manual_seed(0)
    method = DFE(dataclasses.replace(SMALL, alpha=alpha, beta=beta, gamma=gamma), 3).eval()
    batch = pairs()
    terms = method.losses(batch, OneRank())
    features = method.encoder(batch.images, batch.modality)
    expected = slow_terms(features, method.classifiers.weight, batch.identity.tolist(), SMALL.parts)
    weights = {"identity": alpha, "distribution": beta, "correlation": gamma}
    assert list(terms) == [name for name, weight in weights.items() if weight]
    for (name, weight), slow in zip(weights.items(), expected, strict=True):
        if weight:
            assert terms[name].item() == pytest.approx(weight * slow, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"parts": 0}, "parts must be at least 1"),
        ({"dim": 0}, "dim must be at least 1"),
        ({"recipe": {"head_rate": -1}}, "head_rate must be a finite number"),
        ({"alpha": math.nan}, "alpha must be a finite number"),
        ({"recipe": {"momentum": 0}}, "nesterov needs a momentum"),
        ({"alpha": 0, "beta": 0, "gamma": 0}, "nothing to learn"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(DFEConfig, values, where="with")


def test_defaults_are_the_numbers_of_the_paper() -> None:
    config = DFEConfig()
    assert (config.backbone, config.stream.height, config.stream.width) == ("resnet50", 384, 128)
    assert config.stream.draw == Pairs(32)
    assert (config.alpha, config.beta, config.gamma, config.parts, config.dim) == (1, 1, 1, 6, 256)


@pytest.mark.parametrize("num_identities", [206, 296])
def test_parameters_of_the_paper(num_identities: int) -> None:
    with torch.device("meta"):
        method = DFE(DFEConfig(), num_identities)
    counts = {
        "trunk": sum(p.numel() for p in method.encoder.backbone.parameters()),
        "reduction": sum(p.numel() for p in method.encoder.reduction.parameters()),
        "classifiers": sum(p.numel() for p in method.classifiers.parameters()),
    }
    assert counts == {"trunk": 23_508_032, "reduction": 524_288 + 512, "classifiers": 1536 * num_identities}
    assert sum(counts.values()) == sum(p.numel() for p in method.parameters())
    assert method.encoder.dim == 1536
    assert method.encoder.backbone.grid == (24, 8)


def test_embedding_is_the_parts_one_after_the_other() -> None:
    method = DFE(SMALL, 3).eval()
    images = pairs().images
    embedding = method.encoder(images, torch.zeros(8, dtype=torch.int64))
    parts = method.encoder.reduction(method.encoder.backbone(images))
    assert embedding.shape == (8, 24)
    for k in range(3):
        torch.testing.assert_close(embedding[:, 8 * k : 8 * k + 8], parts[:, k])
    torch.testing.assert_close(method.encoder(images, torch.ones(8, dtype=torch.int64)), embedding)


def test_embedding_of_an_image_does_not_depend_on_the_others() -> None:
    method = DFE(SMALL, 3).eval()
    batch = pairs()
    alone = method.encoder(batch.images[:1], batch.modality[:1])
    torch.testing.assert_close(alone, method.encoder(batch.images, batch.modality)[:1], atol=1e-5, rtol=1e-4)


def test_two_learning_rates_that_drop_together() -> None:
    method = DFE(SMALL, 3)
    optim = method.optimizer()
    slow, fast = optim.optimizer.param_groups
    assert (slow["lr"], fast["lr"]) == (0.01, 0.1)
    assert {(g["momentum"], g["weight_decay"], g["nesterov"]) for g in (slow, fast)} == {(0.9, 5e-4, True)}
    assert {id(p) for p in slow["params"]} == {id(p) for p in method.encoder.backbone.parameters()}
    assert len(slow["params"]) + len(fast["params"]) == len(list(method.parameters()))
    factors = [optim.schedule(epoch) for epoch in (0, 4.99, 5, 9.9, 10, 15, 19.9)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("bn_split", [False, True])
def test_normalisation_of_the_two_spectra(bn_split: bool) -> None:
    method = DFE(dataclasses.replace(SMALL, bn_split=bn_split), 3)
    seen: list[int] = []
    method.encoder.reduction.normalise.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    method.losses(pairs(), OneRank())
    assert seen == ([4, 4] if bn_split else [8])


def test_gradients_reach_both_spectra_and_every_parameter() -> None:
    method = DFE(SMALL, 3)
    batch = pairs()
    images = batch.images.requires_grad_()
    terms = method.losses(batch, OneRank())
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, images, retain_graph=True)
        assert (gradient.flatten(1).abs().sum(1) > 0).all(), name
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None for p in method.parameters())


def test_correlation_sees_the_pairs_of_all_ranks() -> None:
    class Recorder(OneRank):
        def gather(self, tensor: Tensor) -> Tensor:
            return torch.cat([tensor, tensor.flip(1)])

    method = DFE(dataclasses.replace(SMALL, beta=0.0), 3).eval()
    alone, joined = (method.losses(pairs(), step)["correlation"] for step in (OneRank(), Recorder()))
    assert joined.item() > alone.item()


def test_losses_are_computed_in_full_precision() -> None:
    method = DFE(SMALL, 3)
    with torch.autocast("cpu", torch.bfloat16):
        terms = method.losses(pairs(), OneRank())
    assert {term.dtype for term in terms.values()} == {torch.float32}


def shuffled(batch: Batch, order: list[int]) -> Batch:
    return Batch(batch.images[order], batch.identity[order], batch.camera[order], batch.modality[order])


@pytest.mark.parametrize(
    "order", [[0, 4, 1, 5, 2, 6, 3, 7], [4, 5, 6, 7, 0, 1, 2, 3], [0, 1, 2, 3, 5, 4, 6, 7], [0, 1, 4]], ids=str
)
def test_batches_of_another_order_are_refused(order: list[int]) -> None:
    with pytest.raises(TrainingError, match="N visible images followed by N infrared"):
        DFE(SMALL, 3).losses(shuffled(pairs(), order), OneRank())


def test_draws_without_pairs_are_refused() -> None:
    with pytest.raises(ConfigError, match="with.stream.draw: .* 'unpaired'"):
        DFE(dataclasses.replace(SMALL, stream=Stream(Unpaired(4), height=48, width=24)), 3)
    DFE(dataclasses.replace(SMALL, stream=Stream(IdentityBalanced(2, 2), height=48, width=24)), 3)
