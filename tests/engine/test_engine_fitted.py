"""Closed-form stages: raw features of every image once, a map of each modality, kept like any other encoder."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_toys.fitted import Columns

from visir.core.config import parse
from visir.core.errors import StorageError, TrainingError
from visir.core.types import Modality
from visir.data.images import Preprocess, decode, prepare
from visir.engine.build import build
from visir.engine.embedder import Embedder
from visir.engine.encoders import load_encoder, save_encoder
from visir.engine.fitted import fit_sample
from visir.methods import catalog
from visir.nets.projected import Projected

CPU = torch.device("cpu")


def made():
    return build("engine_toys.fitted", parse(catalog.find("engine_toys.fitted").Config, {}), 5)


def test_fitted_to_the_raw_features_of_every_image(small, tmp_path):
    method, scratch = made(), tmp_path / "new" / "features.npy"
    seen = []
    whole = method.fit
    method.fit = lambda sample: (seen.append(replace(sample, features=np.array(sample.features))), whole(sample))[1]
    figures = fit_sample(method, small, device=CPU, scratch=scratch)
    (sample,) = seen
    with torch.no_grad():
        pictures = prepare([decode(small.file(i)) for i in range(len(small))], Preprocess(16, 8))
        expected = Columns()(pictures, torch.tensor(small.modality)).numpy()
    np.testing.assert_allclose(sample.features, expected, atol=1e-6)
    assert sample.identity.tolist() == small.identity.tolist()
    assert sample.modality.tolist() == small.modality.tolist()
    assert figures["largest"] > 0
    assert not scratch.exists()


def test_the_fit_is_part_of_the_saved_encoder(small, tmp_path):
    method = made()
    unfitted = Embedder.of(method, device=CPU)
    assert (unfitted.dim, unfitted.distance) == (24, "euclidean")
    fit_sample(method, small, device=CPU, scratch=tmp_path / "features.npy")
    save_encoder(tmp_path, method)
    own, opened = Embedder.of(method, device=CPU), Embedder.open(tmp_path, device=CPU)
    assert own.dim == opened.dim == 3
    assert own.fingerprint == opened.fingerprint != unfitted.fingerprint
    vectors = own.embed_table(small, show_progress=False)
    np.testing.assert_array_equal(opened.embed_table(small, show_progress=False), vectors)
    assert np.linalg.norm(vectors, axis=1).std() > 0.01, "compared by distance, so lengths are kept"
    picture = [decode(small.file(0))]
    in_gallery = own.embed(picture, Modality(int(small.modality[0])))
    np.testing.assert_allclose(in_gallery[0], vectors[0] / np.linalg.norm(vectors[0]), atol=1e-6)
    assert load_encoder(tmp_path).network.dim == 3


def test_each_modality_has_its_own_map_and_missing_directions_are_zero():
    encoder = Projected(Columns(), dim=4, distance="cosine").eval()
    rng = np.random.default_rng(0)
    mean, visible, infrared = (rng.standard_normal(shape).astype(np.float32) for shape in ((24,), (24, 3), (24, 3)))
    encoder.set(mean, visible, infrared)
    images = torch.randn(4, 3, 16, 8)
    found = encoder(images, torch.tensor([0, 1, 1, 0])).numpy()
    raw = images.mean(2).flatten(1).numpy() - mean
    for row, projection in enumerate((visible, infrared, infrared, visible)):
        np.testing.assert_allclose(found[row, :3], raw[row] @ projection, rtol=1e-4, atol=1e-5)
    assert not found[:, 3].any()


def test_no_steps_and_a_full_disk(small, tmp_path, monkeypatch):
    method = made()
    assert method.optimizers() == {}
    with pytest.raises(TrainingError, match="no training steps"):
        method.train_step({}, None)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match=r"no room for the .* GiB of training features"):
        fit_sample(method, small, device=CPU, scratch=tmp_path / "features.npy")
    assert list(tmp_path.iterdir()) == []
