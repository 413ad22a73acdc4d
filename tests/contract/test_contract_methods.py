"""What every file in ``methods/`` keeps to, and a method outside visir; a new one is found by its presence.

Each learns, resumes bit for bit, does on two ranks what it does on one, runs in fp32 and bf16, and exports.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toys import CPU, EPOCHS, ToySource, made, rank1, sources, trained
from two_ranks import STEPS

from visir.core.config import parse, plain
from visir.core.draws import Pairs
from visir.core.errors import CheckpointError, ConfigError
from visir.core.types import Modality
from visir.data.images import prepare
from visir.engine import checkpoint
from visir.engine.build import describe, rebuild
from visir.engine.embedder import Embedder
from visir.engine.encoders import save_encoder
from visir.engine.runtime import Runtime
from visir.methods import catalog
from visir.methods.base import ConversionMethod, FittedMethod, Method, MethodConfig, Sample
from visir.nets.ranges import shown

FOLDER = Path(__file__).parent
OUTSIDE = "mylab.center_pull"
NAMES = [*catalog.available(), OUTSIDE]
FITTED = [name for name in NAMES if issubclass(catalog.find(name), FittedMethod)]
TRAINED = [name for name in NAMES if name not in FITTED]
CONVERTING = [name for name in NAMES if issubclass(catalog.find(name), ConversionMethod)]
EMBEDDING = [name for name in NAMES if name not in CONVERTING]
each = pytest.mark.parametrize("name", NAMES)


def test_dfe_is_there() -> None:
    assert "dfe" in catalog.available()


@each
class TestDescription:
    def test_configuration_survives_its_file(self, name: str) -> None:
        kind = catalog.find(name).Config
        config = kind()
        assert isinstance(config, MethodConfig)
        assert dataclasses.is_dataclass(kind)
        assert kind.__dataclass_params__.frozen
        assert config.weights == "scratch", "nothing is fetched unless asked for"
        assert parse(kind, plain(config), where="with") == config

    def test_misspelt_option_gives_the_nearest(self, name: str) -> None:
        with pytest.raises(ConfigError, match="Did you mean 'backbone'"):
            parse(catalog.find(name).Config, {"bakbone": "tiny"}, where="with")

    def test_is_documented(self, name: str) -> None:
        kind = catalog.find(name)
        assert kind.__doc__
        assert kind.Config.__doc__

    def test_is_rebuilt_from_its_description(self, name: str) -> None:
        method = made(name)
        again = rebuild(describe(method), where="here")
        assert type(again) is type(method)
        assert again.config == method.config
        assert {k: v.shape for k, v in again.state_dict().items()} == {
            k: v.shape for k, v in method.state_dict().items()
        }

    def test_initial_weights_depend_on_the_seed_alone(self, name: str) -> None:
        first, second = made(name).state_dict(), made(name).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", EMBEDDING)
class TestVectors:
    def test_gives_one_vector_an_image_whatever_the_batch(self, name: str) -> None:
        method = made(name).eval()
        batch = ToySource(Pairs(4), steps_per_epoch=1).batch(0)
        with torch.no_grad():
            vectors = method.encoder(batch.images, batch.modality)
            alone = method.encoder(batch.images[5:6], batch.modality[5:6])
        assert vectors.shape == (8, method.encoder.dim)
        assert torch.isfinite(vectors).all()
        torch.testing.assert_close(alone, vectors[5:6], atol=1e-4, rtol=1e-4)

    def test_is_opened_again_as_it_was(self, name: str, tmp_path: Path) -> None:
        method = made(name)
        save_encoder(tmp_path, method)
        opened, own = Embedder.open(tmp_path, device=CPU), Embedder.of(method, device=CPU)
        assert (opened.fingerprint, opened.dim) == (own.fingerprint, own.dim)
        pictures = [np.random.default_rng(k).integers(0, 256, (48, 24, 3), np.uint8) for k in range(3)]
        vectors = opened.embed(pictures, Modality.INFRARED)
        np.testing.assert_array_equal(vectors, own.embed(pictures, Modality.INFRARED))
        with torch.no_grad():
            raw = method.eval().encoder(prepare(pictures, opened.preprocess), torch.ones(3, dtype=torch.int64))
        np.testing.assert_allclose(vectors, torch.nn.functional.normalize(raw).numpy(), atol=1e-6)


@each
class TestExport:
    def test_exports(self, name: str) -> None:
        encoder = made(name).encoder.eval()
        batch = ToySource(Pairs(4), steps_per_epoch=1).batch(0)
        rows = torch.export.Dim("rows", min=2, max=64)
        with torch.no_grad():
            exported = torch.export.export(
                encoder,
                (batch.images[:4], batch.modality[:4]),
                dynamic_shapes=({0: rows}, {0: rows}),
            )
            found = exported.module()(batch.images, batch.modality)
            torch.testing.assert_close(found, encoder(batch.images, batch.modality))


@pytest.mark.parametrize("name", CONVERTING)
class TestConversion:
    def test_gives_one_picture_an_image_whatever_the_batch(self, name: str) -> None:
        method = made(name).eval()
        batch = ToySource(Pairs(4), steps_per_epoch=1).batch(0)
        with torch.no_grad():
            pictures = method.encoder(batch.images, batch.modality)
            alone = method.encoder(batch.images[2:3], batch.modality[2:3])
            turned = method.encoder(batch.images.flip(0), batch.modality.flip(0)).flip(0)
        assert pictures.shape == batch.images.shape
        torch.testing.assert_close(alone, pictures[2:3], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(turned, pictures, atol=1e-4, rtol=1e-4)

    def test_what_is_made_infrared_has_no_colour(self, name: str) -> None:
        batch = ToySource(Pairs(4), steps_per_epoch=1).batch(0)
        with torch.no_grad():
            seen = shown(made(name).eval().encoder(batch.images, batch.modality))[:4]
        assert seen.std(dim=1).max() < 1e-5
        assert seen.min() >= -1e-5
        assert seen.max() <= 1 + 1e-5

    def test_is_not_taken_for_an_encoder_of_vectors(self, name: str) -> None:
        with pytest.raises(CheckpointError, match="converts pictures; 'visir convert"):
            Embedder.of(made(name), device=CPU)

    def test_terms_stay_finite_and_weights_move(self, name: str) -> None:
        method = made(name)
        before = {key: value.clone() for key, value in method.state_dict().items()}
        state, terms = trained(method, epochs=4, steps_per_epoch=4, runtime=Runtime(precision="bf16"))
        assert all(np.isfinite(list(epoch.values())).all() for epoch in terms)
        moved = [key for key, value in state.model().items() if not torch.equal(value, before[key])]
        assert set(moved) >= {
            key for key, value in method.named_parameters() if value.requires_grad and value.dim() > 1
        }


@pytest.mark.parametrize("name", TRAINED)
class TestTraining:
    def test_resumes_bit_for_bit_from_a_file(self, name: str, tmp_path: Path) -> None:
        """From every phase: each lasts an epoch or more of the first three, the last one the rest."""
        whole, _ = trained(made(name, epochs=4), epochs=4, steps_per_epoch=2)
        assert whole.step == 8
        for epochs in (1, 2, 3) if phases(name) else (2,):
            part, _ = trained(made(name, epochs=4), epochs=epochs, steps_per_epoch=2)
            read = checkpoint.load(checkpoint.save(tmp_path, part))
            resumed, _ = trained(made(name, epochs=4), epochs=4, steps_per_epoch=2, resume=read)
            assert resumed.step == whole.step
            assert set(resumed.tensors) == set(whole.tensors)
            assert [key for key in whole.tensors if not torch.equal(whole.tensors[key], resumed.tensors[key])] == []
            assert dict(resumed.values) == dict(whole.values)

    def test_every_stream_has_a_batch_of_its_own_kind(self, name: str) -> None:
        method = made(name)
        for source in sources(method, steps_per_epoch=1).values():
            batch = source.batch(0)
            assert len(batch) == 16
            assert batch.images.shape[1:] == (3, 48, 24)

    def test_two_ranks_do_what_one_does(self, name: str, two_ranks: Path) -> None:
        """In float64, where the order of sums cannot pass for a difference."""
        start = {key: value.clone() for key, value in made(name, epochs=1).double().state_dict().items()}
        one = trained(made(name, epochs=1).double(), epochs=1, steps_per_epoch=STEPS)[0].model()
        two = load_file(two_ranks / f"{name}.safetensors")
        assert set(one) == set(two)
        for key, value in one.items():
            if value.is_floating_point():
                moved, apart = (value - start[key]).norm(), (value - two[key]).norm()
                assert apart <= 1e-8 * moved + 1e-10, f"{key}: moved {moved}, apart {apart}"


@pytest.mark.parametrize("name", [name for name in TRAINED if name in EMBEDDING])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_learns(name: str, precision: str) -> None:
    """Of systems with phases only the finite terms of each phase are looked at in bf16."""
    method = made(name)
    runtime = Runtime(precision=precision)  # type: ignore[arg-type]
    untrained = rank1(method)
    if phases(name) and precision == "bf16":  # networks that make pictures are slow in it on CPUs
        _, terms = trained(made(name, epochs=3), epochs=3, steps_per_epoch=4, runtime=runtime)
        assert all(np.isfinite(list(epoch.values())).all() for epoch in terms)
        return
    _, terms = trained(method, epochs=EPOCHS, steps_per_epoch=6, runtime=runtime)
    assert all(np.isfinite(list(epoch.values())).all() for epoch in terms)
    if not phases(name):  # terms of different phases cannot be added up
        first, last = (sum(epoch.values()) for epoch in (terms[0], terms[-1]))
        assert last < 0.5 * first
    assert untrained < 0.4
    assert rank1(method) > (0.7 if phases(name) else 0.8), "what tells people apart may learn in one phase alone"


@pytest.mark.parametrize("name", TRAINED)
def test_pictures_are_grids_and_change_nothing(name: str) -> None:
    """Whatever a method shows, it shows the same twice, from its own batches, without touching itself."""
    method = made(name).eval()
    batches = {key: source.batch(0) for key, source in sources(method, steps_per_epoch=1).items()}
    before = {key: value.clone() for key, value in method.state_dict().items()}
    with torch.no_grad():
        first, again = method.pictures(batches), method.pictures(batches)
    assert set(first) == set(again)
    for key, grid in first.items():
        assert torch.equal(grid.images, again[key].images)
        assert torch.isfinite(grid.images).all()
        assert grid.caption
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    if type(method).pictures is not Method.pictures:
        assert first


def phases(name: str) -> list[str]:
    """The fields that say how long the phases before the last one are."""
    return [field.name for field in dataclasses.fields(catalog.find(name).Config) if field.name.endswith("_epochs")]


@pytest.mark.parametrize("name", FITTED)
class TestFitting:
    """For methods without steps."""

    def fitted(self, name: str) -> Method[Any]:
        method = made(name).eval()
        network = method.raw()
        assert network is not None
        source = ToySource(Pairs(8), steps_per_epoch=30)
        batches = [source.batch(step) for step in range(30)]
        with torch.no_grad():
            features = torch.cat([network(batch.images, batch.modality) for batch in batches])
        labels = (torch.cat([getattr(b, key) for b in batches]).numpy() for key in ("identity", "camera", "modality"))
        assert method.fit(Sample(features.numpy(), *labels))
        return method

    def test_learns(self, name: str) -> None:
        assert rank1(self.fitted(name)) > 0.9

    def test_same_sample_gives_the_same_bits(self, name: str) -> None:
        first, second = (self.fitted(name).state_dict() for _ in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first)

    def test_fit_is_saved_and_exports(self, name: str, tmp_path: Path) -> None:
        method = self.fitted(name)
        save_encoder(tmp_path, method)
        assert Embedder.open(tmp_path, device=CPU).fingerprint == Embedder.of(method, device=CPU).fingerprint
        batch = ToySource(Pairs(4), steps_per_epoch=1).batch(0)
        exported = torch.export.export(method.encoder, (batch.images, batch.modality))
        with torch.no_grad():
            found, expected = (
                exported.module()(batch.images, batch.modality),
                method.encoder(batch.images, batch.modality),
            )
        assert found.shape == (8, method.encoder.dim)
        torch.testing.assert_close(found, expected)


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of every method after a few steps on two ranks."""
    out = tmp_path_factory.mktemp("two_ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
    shared = {**os.environ, "PYTHONPATH": path, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    running = [
        subprocess.Popen(
            [sys.executable, str(FOLDER / "two_ranks.py"), str(out), *TRAINED],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in running:
            _, said = process.communicate(timeout=240)
            assert process.returncode == 0, said
    finally:
        for process in running:
            process.kill()
            process.wait()
    return out
