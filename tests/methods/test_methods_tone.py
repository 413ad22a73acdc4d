"""TONE: its networks, its two losses against loops, whom it compares, and what it refuses."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from one_rank import OneRank
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import Pairs, Stream, Unpaired
from visir.core.errors import ConfigError, TrainingError
from visir.engine.build import build
from visir.experiment.config import load
from visir.experiment.shipped import find_config
from visir.methods.base import Sample
from visir.methods.tone import TONE, TONEConfig, partners

STREAM = Stream(Pairs(8), height=48, width=24)
SMALL = TONEConfig(backbone="tiny", stream=STREAM, dim=8, dropout=0.0)


def drawn(count: int = 8, people: int = 3) -> Batch:
    return Batch(
        images=torch.randn(2 * count, 3, 48, 24, generator=torch.Generator().manual_seed(0)),
        identity=(torch.arange(count) % people).repeat(2),
        camera=torch.zeros(2 * count, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(count),
    )


def made(**changes: object) -> TONE:
    torch.manual_seed(0)
    method = TONE(dataclasses.replace(SMALL, **changes), 8)
    nn.init.normal_(method.encoder.streams.infrared[-1].bias)  # the streams differ, as they do once trained
    return method


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("contrast", "margin"), [(0.2, 0.5), (1.0, 1.2)])
def test_terms_are_those_of_the_paper(seed: int, contrast: float, margin: float) -> None:
    method, batch, step = made(contrast=contrast, margin=margin).eval(), drawn(), OneRank(seed=seed)
    with torch.no_grad():
        features = method.encoder(batch.images, batch.modality)
        logits = method.classifier(features).double().tolist()
    people = batch.identity.tolist()
    named = [math.log(sum(map(math.exp, row))) - row[name] for row, name in zip(logits, people, strict=True)]
    unit = features.double() / features.double().norm(dim=1, keepdim=True)
    costs = []
    for i, j in enumerate(partners(8, step.generator).tolist()):
        apart = float((unit[i] - unit[8 + j]).norm())
        costs.append(apart**2 if people[i] == people[j] else max(0.0, margin - apart) ** 2)
    terms = method.losses(batch, step)
    assert list(terms) == ["identity", "contrastive"]
    assert terms["identity"].item() == pytest.approx(sum(named) / 16, rel=1e-5)
    assert terms["contrastive"].item() == pytest.approx(contrast * sum(costs) / 16, rel=1e-4)


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_half_of_the_pairs_are_drawn(count: int) -> None:
    first, again, other = (partners(count, torch.Generator().manual_seed(seed)).tolist() for seed in (0, 0, 1))
    half = count // 2
    assert first == again
    assert first[:half] == list(range(half))
    assert len(set(first[half:])) == count - half
    assert set(first) <= set(range(count))
    assert count < 64 or (first[half:] != other[half:] and first[half:] != list(range(half, count)))


def test_pairs_are_drawn_over_the_batch_of_all_ranks() -> None:
    class Recorder(OneRank):
        def gather(self, tensor: Tensor) -> Tensor:
            asked.append(tuple(tensor.shape))
            return torch.cat([tensor, tensor])

    asked: list[tuple[int, ...]] = []
    made().losses(drawn(), Recorder())
    assert asked == [(8, 8), (8, 8), (8,)]


def test_identity_loss_alone() -> None:
    assert list(made(contrast=0.0).losses(drawn(), OneRank())) == ["identity"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dim": 0}, "dim must be at least 1"),
        ({"margin": -1}, "margin must be a finite number"),
        ({"contrast": math.inf}, "contrast must be a finite number"),
        ({"dropout": 1.5}, "dropout must be at least 0 and below 1"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(TONEConfig, values, where="with")


def test_parameters_of_the_code() -> None:
    """No batch normalisation behind fc6, and an embedding twice as long as that of BDTR."""
    with torch.device("meta"):
        method = TONE(TONEConfig(), 206)
    assert sum(p.numel() for p in method.encoder.streams.visible.parameters()) == 2_334_080 + 37_752_832
    assert sum(p.numel() for p in method.encoder.embedding.parameters()) == 4096 * 2048 + 2048
    assert sum(p.numel() for p in method.classifier.parameters()) == 2048 * 206 + 206
    assert method.encoder.dim == 2048


def test_averages_of_other_networks_are_normalised() -> None:
    assert isinstance(made().encoder.streams.visible[-1], nn.BatchNorm1d)


def test_gradients_reach_both_spectra_and_every_parameter() -> None:
    method, batch = made(margin=2.0), drawn()
    images = batch.images.requires_grad_()
    terms = method.losses(batch, OneRank())
    (gradient,) = torch.autograd.grad(terms["contrastive"], images, retain_graph=True)
    assert (gradient[:8].flatten(1).abs().sum(1) > 0).all()
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None for p in method.parameters())


def test_losses_are_computed_in_full_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        terms = made().losses(drawn(), OneRank())
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_caffes_network_learns_a_batch() -> None:
    torch.manual_seed(0)
    config = TONEConfig(stream=dataclasses.replace(STREAM, height=67, width=67), dropout=0.0)
    method, batch = TONE(config, 3), drawn()
    batch = dataclasses.replace(batch, images=nn.functional.interpolate(batch.images, (67, 67)))
    optimizer = method.optimizer().optimizer
    costs = []
    for _ in range(10):
        loss = torch.stack(list(method.losses(batch, OneRank()).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        costs.append(loss.item())
    assert costs[-1] < 0.98 * costs[0]  # slowly: what comes out of it unscaled varies little to begin with


def test_batches_of_another_order_and_draws_without_pairs_are_refused() -> None:
    batch = drawn()
    with pytest.raises(TrainingError, match="TONE: expected a batch of N visible images"):
        made().losses(dataclasses.replace(batch, identity=batch.identity.sort().values), OneRank())
    with pytest.raises(ConfigError, match="with.stream.draw: TONE .* 'unpaired'"):
        made(stream=Stream(Unpaired(4), height=48, width=24))


@pytest.mark.parametrize(("name", "over"), [("regdb", "matched"), ("sysu_mm01", "visible")])
def test_shipped_experiments(name: str, over: str) -> None:
    experiment = load(find_config(f"tone/{name}"))
    assert isinstance(experiment.options, TONEConfig)
    assert experiment.options.stream.draw.over == over
    assert dataclasses.replace(experiment.options, stream=TONEConfig().stream) == TONEConfig()
    assert experiment.train.epochs * (experiment.train.steps_per_epoch or 0) == 1500


@pytest.mark.parametrize("metric", ["xqda", "mlapg", "hcml"])
def test_a_metric_is_learnt_behind_the_trained_features(metric: str) -> None:
    """Behind features in which people differ along one axis that the spectra hide, it finds that axis."""
    config = dataclasses.replace(SMALL, metric=metric, principal=12, dim=16)
    method, plain = (build("tone", one, 6, seed=3) for one in (config, dataclasses.replace(config, metric="none")))
    assert plain.raw() is None
    assert plain.fit(Sample(np.zeros((1, 16), np.float32), *[np.zeros(1, np.int64)] * 3)) == {}
    own = {name.replace("encoder.features.", "encoder."): value for name, value in method.state_dict().items()}
    assert all(torch.equal(own[name], value) for name, value in plain.state_dict().items()), "the same start"
    rng = np.random.default_rng(0)
    identity, modality = np.arange(6).repeat(20), np.tile([0, 1], 60)
    features = rng.standard_normal((120, 16)).astype(np.float32)
    features[:, 0] = identity + 0.1 * rng.standard_normal(120)
    features[:, 1] += 4 * modality
    figures = method.fit(Sample(features, identity, np.ones(120, np.int64), modality))
    assert figures["directions"] >= 1
    assert method.encoder.dim == 12
    encoder = method.encoder
    centred = [features[modality == m] - encoder.mean[m].numpy() for m in (0, 1)]
    seen, hidden = centred[0] @ encoder.visible.numpy(), centred[1] @ encoder.infrared.numpy()
    nearest = np.linalg.norm(hidden[:, None] - seen, axis=2).argmin(1)
    right = (identity[modality == 0][nearest] == identity[modality == 1]).mean()
    raw = np.linalg.norm(features[modality == 1][:, None] - features[modality == 0], axis=2).argmin(1)
    assert right > (identity[modality == 0][raw] == identity[modality == 1]).mean() + 0.2
