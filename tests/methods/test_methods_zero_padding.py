"""The family of deep zero-padding: four networks, one loss, what each shares, and its files."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import pytest
import torch
from one_rank import OneRank
from torch import Tensor

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import Stream, Unpaired
from visir.core.errors import ConfigError
from visir.engine.build import build
from visir.experiment.ablation import read_ablation
from visir.methods.zero_padding import ZeroPadding, ZeroPaddingConfig

sys.path.append(str(Path(__file__).parents[1] / "contract"))
from toys import PEOPLE, rank1, small_config, trained

NETWORKS = ["one-stream", "two-stream", "asymmetric-fc", "zero-padding"]
SMALL = ZeroPaddingConfig(backbone="tiny", stream=Stream(Unpaired(4), height=48, width=24))
each = pytest.mark.parametrize("network", NETWORKS)


def made(network: str, identities: int = 3) -> ZeroPadding:
    torch.manual_seed(0)
    return ZeroPadding(dataclasses.replace(SMALL, network=network), identities)  # type: ignore[arg-type]


def unpaired(half: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        images=torch.randn(2 * half, 3, 48, 24, generator=generator),
        identity=torch.randint(0, 3, (2 * half,), generator=generator),
        camera=torch.zeros(2 * half, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(half),
    )


def black(count: int) -> Tensor:
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (-mean / deviation).view(1, 3, 1, 1).repeat(count, 1, 48, 24)


@each
def test_loss_is_the_cross_entropy_of_both_spectra(network: str) -> None:
    method, batch = made(network).eval(), unpaired()
    terms = method.losses(batch, OneRank())
    logits = method.classifier(method.encoder(batch.images, batch.modality)).tolist()
    rows = zip(logits, batch.identity.tolist(), strict=True)
    slow = sum(math.log(sum(map(math.exp, row))) - row[identity] for row, identity in rows) / 8
    assert list(terms) == ["identity"]
    assert terms["identity"].item() == pytest.approx(slow, rel=1e-5)


@each
def test_parameters_of_the_paper(network: str) -> None:
    with torch.device("meta"):
        method = ZeroPadding(ZeroPaddingConfig(network=network), 296)  # type: ignore[arg-type]
    trunk = 4_899_520  # with one input channel; the second adds a kernel of 7x7 to each of 64 outputs
    expected = {
        "one-stream": trunk,
        "two-stream": 2 * trunk,
        "asymmetric-fc": trunk + 2 * (512 * 512 + 512),
        "zero-padding": trunk + 3_136,
    }
    assert sum(p.numel() for p in method.encoder.parameters()) == expected[network]
    assert sum(p.numel() for p in method.classifier.parameters()) == 513 * 296
    assert (method.encoder.dim, method.encoder.distance) == (512, "euclidean")
    if network == "zero-padding":
        assert method.encoder.stream.backbone.trunk.conv1.weight.numel() == 6_272


@pytest.mark.parametrize("network", ["one-stream", "zero-padding"])
def test_black_images_of_either_spectrum_give_the_same_features(network: str) -> None:
    encoder = made(network).encoder.eval()
    visible, infrared = encoder(black(2), torch.tensor([0, 1]))
    torch.testing.assert_close(visible, infrared, atol=1e-6, rtol=1e-6)


@each
def test_what_depends_on_the_spectrum(network: str) -> None:
    method, images = made(network).eval(), unpaired().images
    features = [method.encoder(images, torch.full((8,), value)) for value in (0, 1)]
    same = network in ("one-stream", "two-stream")  # two streams start as copies
    assert torch.allclose(*features) == same
    if network == "two-stream":
        assert method.encoder.stream.visible is not method.encoder.stream.infrared


@each
def test_gradients_reach_both_spectra_and_every_parameter(network: str) -> None:
    method, batch = made(network), unpaired()
    images = batch.images.requires_grad_()
    method.losses(batch, OneRank())["identity"].backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
    assert all(p.grad is not None for p in method.parameters())


@each
def test_every_parameter_is_trained_once(network: str) -> None:
    method = made(network)
    optim = method.optimizer()
    slow, fast = optim.optimizer.param_groups
    given = [id(p) for group in (slow, fast) for p in group["params"]]
    assert sorted(given) == sorted(id(p) for p in method.parameters())
    assert {id(p) for p in slow["params"]} == {id(p) for p in method.encoder.stream.parameters()}
    for group in (slow, fast):
        numbers = (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"])
        assert numbers == (0.001, 0.9, 5e-4, False)
    assert {optim.schedule(epoch) for epoch in (0, 10, 500)} == {1.0}


@pytest.mark.parametrize("network", NETWORKS[:-1])  # the contract tests train and export the last
def test_learns_and_exports(network: str) -> None:
    config = small_config("zero_padding")
    quick = dataclasses.replace(config.recipe, backbone_rate=0.05, head_rate=0.05, drops=(6.0,))
    method = build("zero_padding", dataclasses.replace(config, network=network, recipe=quick), PEOPLE, seed=3)
    untrained = rank1(method)
    _, terms = trained(method, epochs=10, steps_per_epoch=6)
    assert terms[-1]["identity"] < 0.5 * terms[0]["identity"]
    assert untrained < 0.4
    assert rank1(method) > 0.8
    batch, rows = unpaired(), torch.export.Dim("rows", min=2, max=64)
    arguments = (batch.images[:4], torch.tensor([0, 1, 1, 0]))
    exported = torch.export.export(method.encoder, arguments, dynamic_shapes=({0: rows}, {0: rows})).module()
    found = exported(batch.images, batch.modality)
    torch.testing.assert_close(found, method.encoder(batch.images, batch.modality), atol=1e-4, rtol=1e-4)


def test_loss_is_computed_in_full_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert made("asymmetric-fc").losses(unpaired(), OneRank())["identity"].dtype == torch.float32


def test_unknown_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="network: .*'zero-padding', got 'three-stream'"):
        parse(ZeroPaddingConfig, {"network": "three-stream"}, where="with")


def test_defaults_are_the_numbers_of_the_paper() -> None:
    config = ZeroPaddingConfig()
    assert (config.backbone, config.network, config.weights) == ("resnet6", "zero-padding", "scratch")
    assert (config.stream.height, config.stream.width, config.stream.draw) == (224, 224, Unpaired(32))
    assert (config.stream.augment.flip, config.stream.augment.pad) == (0.0, 22)
    assert not ZeroPadding.pretrained


@pytest.mark.parametrize("benchmark", ["sysu_mm01", "regdb"])
def test_files(benchmark: str) -> None:
    import visir

    ablation = read_ablation(Path(visir.__file__).parent / "configs" / "zero_padding" / "ablation.yaml")
    assert [row.name for row in ablation.rows] == NETWORKS
    for row in ablation.rows:
        experiment = ablation.experiment(row, benchmark)
        assert experiment.options == ZeroPaddingConfig(network=row.name)  # type: ignore[arg-type]
