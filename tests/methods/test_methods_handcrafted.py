"""HOG and LOMO: their features with and without a metric, on toy people and in their shipped experiments."""

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
from visir.methods.hog import HOG
from visir.methods.lomo import LOMO
from visir.nets.handcrafted import Hog, Lomo
from visir.projections.learn import METRICS
from visir.projections.pca import pca

SIZES = {"euclidean": (600, 600), "cca": (600, 200), "lfda": (600, 100), "xqda": (600, 600), "kissme": (100, 100)}
CPU = torch.device("cpu")
Kind = type[HOG] | type[LOMO]
FEATURES = {HOG: Hog, LOMO: Lomo}
PUBLISHED = {HOG: (128, 64, 3_780), LOMO: (128, 48, 26_960)}
both = pytest.mark.parametrize("kind", list(FEATURES))


def made(kind: Kind, metric: str, *, principal: int = 20, dim: int = 12) -> HOG | LOMO:
    stream = Stream(Pairs(4), 32, 24)
    return kind(kind.Config(stream=stream, metric=metric, principal=principal, dim=dim), 7).eval()


def images(count: int = 42, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.avg_pool2d(3 * torch.randn(count, 3, 34, 26, generator=generator), 3, stride=1)


def sample(method: HOG | LOMO) -> Sample:
    network = method.raw()
    assert network is not None
    modality = np.tile([0, 1], 21).astype(np.int64)
    with torch.no_grad():
        features = network(images(), torch.from_numpy(modality)).numpy()
    return Sample(features, np.repeat(np.arange(7), 6).astype(np.int64), modality, modality)


@both
def test_features_as_they_are(kind: Kind, tmp_path: Path) -> None:
    method, features = made(kind, "euclidean"), FEATURES[kind](32, 24)
    assert method.raw() is None
    assert method.encoder.dim == features.dim
    assert method.encoder.distance == "euclidean"
    expected = features(images())
    assert torch.equal(method.encoder(images(), torch.zeros(42, dtype=torch.int64)), expected)
    assert method.fit(Sample(expected.numpy(), *[np.zeros(42, np.int64)] * 3)) == {}
    save_encoder(tmp_path, method)
    opened = Embedder.open(tmp_path, device=CPU)
    assert (opened.dim, opened.distance) == (method.encoder.dim, "euclidean")


@both
@pytest.mark.parametrize("metric", ["cca", "lfda", "xqda", "kissme"])
def test_encoder_is_the_metric_behind_the_principal_axes(kind: Kind, metric: str, tmp_path: Path) -> None:
    method = made(kind, metric)
    given = sample(method)
    figures = method.fit(given)
    axes = pca(given.features, dim=20)
    coordinates = axes.project(given.features)
    sides = [coordinates[given.modality == side] for side in Modality]
    people = [given.identity[given.modality == side] for side in Modality]
    expected = METRICS[metric](sides[0], people[0], sides[1], people[1], dim=12)  # type: ignore[index]
    assert figures == {"directions": expected.directions}
    assert method.encoder.distance == expected.distance == ("cosine" if metric == "cca" else "euclidean")
    with torch.no_grad():
        found = method.encoder(images(), torch.from_numpy(given.modality))
    assert found.shape == (42, method.encoder.dim) == (42, 12)
    for side in Modality:
        rows = given.modality == side
        mapped = expected.apply(coordinates[rows], side)
        np.testing.assert_allclose(found[rows].numpy(), mapped, atol=1e-3 * np.abs(mapped).max())
    save_encoder(tmp_path, method)
    opened = Embedder.open(tmp_path, device=CPU)
    assert (opened.dim, opened.distance) == (12, expected.distance)


@both
@pytest.mark.parametrize(("principal", "dim", "expected"), [(600, 600, 600), (8, 600, 8), (600, 5, 5)])
def test_length_of_a_vector(kind: Kind, principal: int, dim: int, expected: int) -> None:
    method = made(kind, "xqda", principal=principal, dim=dim)
    method.fit(sample(method))
    assert method.encoder.dim == min(expected, FEATURES[kind](32, 24).dim)


@both
@pytest.mark.parametrize("name", ["principal", "dim"])
def test_impossible_numbers_are_refused(kind: Kind, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be at least 1"):
        parse(kind.Config, {name: 0}, where="with")


@both
def test_unknown_metric_is_refused(kind: Kind) -> None:
    with pytest.raises(ConfigError, match="metric"):
        parse(kind.Config, {"metric": "cdfe"}, where="with")


@both
@pytest.mark.parametrize("benchmark", ["sysu_mm01", "regdb"])
@pytest.mark.parametrize("row", list(SIZES))
def test_shipped_rows(kind: Kind, row: str, benchmark: str) -> None:
    ablation, found = systems()[f"{kind.__name__.lower()}/{row}"]
    experiment = ablation.experiment(found, benchmark)
    options = experiment.options
    assert isinstance(options, kind.Config)
    assert options.metric == row
    assert (options.principal, options.dim) == SIZES[row]
    assert (options.stream.height, options.stream.width) == PUBLISHED[kind][:2]
    assert experiment.train.precision == "fp32"
    assert experiment.benchmark.split == "trainval"


@both
def test_defaults_are_the_published_lengths(kind: Kind) -> None:
    method = kind(kind.Config(metric="euclidean"), 2)
    stream = method.config.stream
    assert (stream.height, stream.width, method.encoder.dim) == PUBLISHED[kind]
    assert not list(method.parameters())
