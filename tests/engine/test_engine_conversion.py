"""Infrared images embedded as they are and as a network makes them visible."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from visir.core.errors import CheckpointError
from visir.data.images import Preprocess
from visir.engine.conversion import with_conversions
from visir.engine.encoders import Encoder


class Means(nn.Module):
    """Three means of an image; of infrared ones the negative."""

    dim = 3

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        return images.mean((2, 3)) * (1 - 2 * modality).unsqueeze(1)


class Turned(nn.Module):
    """The other modality has the channels in another order; only pictures of its own size are taken."""

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        assert images.shape[2:] == (8, 4)
        return images.roll(1, dims=1)


def encoder(network: nn.Module, name: str, **size: int) -> Encoder:
    return Encoder(network, Preprocess(**size), name, {"method": name})


def test_infrared_images_are_the_mean_of_both_and_visible_ones_stay() -> None:
    both = with_conversions(encoder(Means(), "a", height=16, width=8), encoder(Turned(), "b", height=8, width=4))
    images = torch.randn(4, 3, 1, 1).expand(-1, -1, 16, 8)
    modality = torch.tensor([0, 1, 1, 0])
    found = both.network(images, modality)
    for image, kind, vector in zip(images, modality.tolist(), found, strict=True):
        own = functional.normalize(image.mean((1, 2)), dim=0)
        if kind:  # as infrared it is negative; made visible it is not
            own = functional.normalize(functional.normalize(image.mean((1, 2)).roll(1), dim=0) - own, dim=0)
        torch.testing.assert_close(vector, own)
    assert (both.network.dim, both.preprocess) == (3, Preprocess(16, 8))
    assert both.about == {"method": "a", "converter": "b"}
    assert both.fingerprint not in ("a", "b")


def test_what_does_not_fit_is_told() -> None:
    vectors, pictures = encoder(Means(), "agw"), encoder(Turned(), "cyclegan")
    for pair in ((vectors, vectors), (pictures, pictures), (pictures, vectors)):
        with pytest.raises(CheckpointError, match="expected an encoder that gives vectors and the run of a"):
            with_conversions(*pair)
    manhattan = Means()
    manhattan.distance = "manhattan"  # type: ignore[assignment]
    with pytest.raises(CheckpointError, match="compared by their angle, far compares"):
        with_conversions(encoder(manhattan, "far"), pictures)
    other = Encoder(Turned(), Preprocess(mean=(0.0, 0.0, 0.0)), "c", {"method": "cyclegan"})
    with pytest.raises(CheckpointError, match="normalised as the encoder's are"):
        with_conversions(vectors, other)
