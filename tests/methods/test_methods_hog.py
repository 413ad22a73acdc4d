"""HOG: its features with and without a metric, on toy people and in its shipped experiments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from visir.core.config import parse
from visir.core.draws import Pairs, Stream
from visir.core.errors import ConfigError
from visir.core.types import Modality
from visir.engine.embedder import Embedder
from visir.engine.encoders import save_encoder
from visir.experiment.ablation import systems
from visir.methods.base import Sample
from visir.methods.hog import HOG, HOGConfig
from visir.nets.handcrafted import Hog
from visir.projections.learn import METRICS
from visir.projections.pca import pca

SIZES = {"euclidean": (600, 600), "cca": (600, 200), "lfda": (600, 100), "xqda": (600, 600), "kissme": (100, 100)}
CPU = torch.device("cpu")


def made(metric: str, *, principal: int = 20, dim: int = 12) -> HOG:
    stream = Stream(Pairs(4), 32, 24)
    return HOG(HOGConfig(stream=stream, metric=metric, principal=principal, dim=dim), 7).eval()  # type: ignore[arg-type]


def images(count: int = 42, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.avg_pool2d(3 * torch.randn(count, 3, 34, 26, generator=generator), 3, stride=1)


def sample(method: HOG) -> Sample:
    network = method.raw()
    assert network is not None
    modality = np.tile([0, 1], 21).astype(np.int64)
    with torch.no_grad():
        features = network(images(), torch.from_numpy(modality)).numpy()
    return Sample(features, np.repeat(np.arange(7), 6).astype(np.int64), modality, modality)


def test_features_as_they_are(tmp_path: Path) -> None:
    method = made("euclidean")
    assert method.raw() is None
    assert method.encoder.dim == Hog(32, 24).dim
    assert method.encoder.distance == "euclidean"
    expected = Hog(32, 24)(images())
    assert torch.equal(method.encoder(images(), torch.zeros(42, dtype=torch.int64)), expected)
    assert method.fit(Sample(expected.numpy(), *[np.zeros(42, np.int64)] * 3)) == {}
    save_encoder(tmp_path, method)
    opened = Embedder.open(tmp_path, device=CPU)
    assert (opened.dim, opened.distance) == (method.encoder.dim, "euclidean")


@pytest.mark.parametrize("metric", ["cca", "lfda", "xqda", "kissme"])
def test_encoder_is_the_metric_behind_the_principal_axes(metric: str, tmp_path: Path) -> None:
    method = made(metric)
    given = sample(method)
    figures = method.fit(given)
    axes = pca(given.features, dim=20)
    coordinates = axes.project(given.features)
    sides = [coordinates[given.modality == kind] for kind in Modality]
    people = [given.identity[given.modality == kind] for kind in Modality]
    expected = METRICS[metric](sides[0], people[0], sides[1], people[1], dim=12)  # type: ignore[index]
    assert figures == {"directions": expected.directions}
    assert method.encoder.distance == expected.distance == ("cosine" if metric == "cca" else "euclidean")
    with torch.no_grad():
        found = method.encoder(images(), torch.from_numpy(given.modality))
    assert found.shape == (42, method.encoder.dim) == (42, 12)
    for kind in Modality:
        rows = given.modality == kind
        mapped = expected.apply(coordinates[rows], kind)
        np.testing.assert_allclose(found[rows].numpy(), mapped, atol=1e-3 * np.abs(mapped).max())
    save_encoder(tmp_path, method)
    opened = Embedder.open(tmp_path, device=CPU)
    assert (opened.dim, opened.distance) == (12, expected.distance)


@pytest.mark.parametrize(("principal", "dim", "expected"), [(600, 600, 600), (8, 600, 8), (600, 5, 5)])
def test_length_of_a_vector(principal: int, dim: int, expected: int) -> None:
    method = made("xqda", principal=principal, dim=dim)
    method.fit(sample(method))
    assert method.encoder.dim == min(expected, Hog(32, 24).dim)


@pytest.mark.parametrize("name", ["principal", "dim"])
def test_impossible_numbers_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be at least 1"):
        parse(HOGConfig, {name: 0}, where="with")


def test_unknown_metric_is_refused() -> None:
    with pytest.raises(ConfigError, match="metric"):
        parse(HOGConfig, {"metric": "cdfe"}, where="with")


@pytest.mark.parametrize("benchmark", ["sysu_mm01", "regdb"])
@pytest.mark.parametrize("row", list(SIZES))
def test_shipped_rows(row: str, benchmark: str) -> None:
    ablation, found = systems()[f"hog/{row}"]
    experiment = ablation.experiment(found, benchmark)
    options = experiment.options
    assert isinstance(options, HOGConfig)
    assert options.metric == row
    assert (options.principal, options.dim) == SIZES[row]
    assert (options.stream.height, options.stream.width) == (128, 64)
    assert experiment.train.precision == "fp32"
    assert experiment.benchmark.split == "trainval"


def test_defaults_are_the_published_lengths() -> None:
    assert HOG(HOGConfig(), 2).encoder.dim == 3780
    assert not list(HOG(HOGConfig(), 2).parameters())
