"""The two-stream baseline: its networks, its loss, its two learning rates, and its files."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from one_rank import OneRank

import visir
from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Stream
from visir.core.errors import ConfigError
from visir.experiment.config import load
from visir.methods.two_stream import TwoStream, TwoStreamConfig

SMALL = TwoStreamConfig(backbone="tiny", stream=Stream(IdentityBalanced(4, 1), height=48, width=24), dim=16)


def made(**changes: object) -> TwoStream:
    torch.manual_seed(0)
    return TwoStream(dataclasses.replace(SMALL, **changes), 3)  # type: ignore[arg-type]


def pairs(count: int = 4) -> Batch:
    return Batch(
        images=torch.randn(2 * count, 3, 48, 24, generator=torch.Generator().manual_seed(0)),
        identity=(torch.arange(count) % 3).repeat(2),
        camera=torch.zeros(2 * count, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(count),
    )


def test_loss_is_the_cross_entropy_behind_a_leaky_relu() -> None:
    method, batch = made().eval(), pairs()
    weight, bias = (p.detach().double() for p in method.classifier[-1].parameters())
    features = method.encoder(batch.images, batch.modality).detach().double()
    slow = 0.0
    for feature, identity in zip(features, batch.identity.tolist(), strict=True):
        bent = torch.tensor([value if value > 0 else 0.1 * value for value in feature.tolist()], dtype=torch.float64)
        logits = (weight @ bent + bias).tolist()
        slow += (math.log(sum(map(math.exp, logits))) - logits[identity]) / len(features)
    terms = method.losses(batch, OneRank())
    assert list(terms) == ["identity"]
    assert terms["identity"].item() == pytest.approx(slow, rel=1e-6)


def test_parameters() -> None:
    with torch.device("meta"):
        method = TwoStream(TwoStreamConfig(), 395)
    counts = {
        "streams": sum(p.numel() for p in method.encoder.streams.parameters()),
        "embedding": sum(p.numel() for p in method.encoder.embedding.parameters()),
        "classifier": sum(p.numel() for p in method.classifier.parameters()),
    }
    assert counts == {"streams": 2 * 23_508_032, "embedding": 2048 * 512 + 512 + 2 * 512, "classifier": 513 * 395}
    assert sum(counts.values()) == sum(p.numel() for p in method.parameters())
    assert method.encoder.dim == 512


def test_streams_are_apart_and_the_embedding_is_shared() -> None:
    method, batch = made().eval(), pairs()
    with torch.no_grad():
        next(method.encoder.streams.infrared.parameters()).mul_(-1)
    visible, infrared = (method.encoder(batch.images, torch.full((8,), value)) for value in (0, 1))
    assert not torch.allclose(visible, infrared)
    both = method.encoder(batch.images, torch.tensor([0, 1] * 4))
    torch.testing.assert_close(both[::2], visible[::2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both[1::2], infrared[1::2], atol=1e-5, rtol=1e-4)


def test_batch_statistics_of_the_embedding_are_joint_and_those_of_the_streams_apart() -> None:
    method = made()
    seen: dict[str, list[int]] = {"embedding": [], "visible": [], "infrared": []}
    parts = {
        "embedding": method.encoder.embedding[1],
        "visible": method.encoder.streams.visible,
        "infrared": method.encoder.streams.infrared,
    }
    for name, part in parts.items():
        part.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(len(inputs[0])))
    method.losses(pairs(), OneRank())
    assert seen == {"embedding": [8], "visible": [4], "infrared": [4]}


def test_dropout_is_in_front_of_the_classifier_and_only_in_training() -> None:
    method, batch = made(dropout=0.5), pairs()
    features = method.encoder(batch.images, batch.modality)
    dropped = method.classifier[:-1](features)
    assert bool((dropped == 0).any())
    method.eval()
    torch.testing.assert_close(method.classifier[:-1](features), torch.where(features > 0, features, 0.1 * features))


def test_two_learning_rates_that_drop_together() -> None:
    method = made()
    optim = method.optimizer()
    slow, fast = optim.optimizer.param_groups
    assert (slow["lr"], fast["lr"]) == (0.001, 0.01)
    assert {(g["momentum"], g["weight_decay"], g["nesterov"]) for g in (slow, fast)} == {(0.9, 5e-4, True)}
    assert {id(p) for p in slow["params"]} == {id(p) for p in method.encoder.streams.parameters()}
    assert len(slow["params"]) + len(fast["params"]) == len(list(method.parameters()))
    assert [optim.schedule(epoch) for epoch in (0, 29.9, 30, 60)] == pytest.approx([1, 1, 0.1, 0.01])


def test_gradients_reach_both_spectra_and_every_parameter() -> None:
    method, batch = made(), pairs()
    images = batch.images.requires_grad_()
    method.losses(batch, OneRank())["identity"].backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
    assert all(p.grad is not None for p in method.parameters())


def test_loss_is_computed_in_full_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert made().losses(pairs(), OneRank())["identity"].dtype == torch.float32


@pytest.mark.parametrize(
    ("values", "message"),
    [({"dim": 0}, "dim must be at least 1"), ({"dropout": 1.0}, "dropout must be at least 0 and below 1")],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(TwoStreamConfig, values, where="with")


@pytest.mark.parametrize(("name", "dropout"), [("sysu_mm01", 0.0), ("regdb", 0.5)])
def test_files(name: str, dropout: float) -> None:
    experiment = load(Path(visir.__file__).parent / "configs" / "two_stream" / f"{name}.yaml")
    assert experiment.options == TwoStreamConfig(dropout=dropout)
    assert experiment.options.stream.draw == IdentityBalanced(32, 1, "independent")
    assert (experiment.train.epochs, experiment.benchmark.split) == (80, "trainval")
