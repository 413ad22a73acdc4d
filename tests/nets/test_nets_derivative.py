"""Generators of derivative modalities: their parameters, what they start as, and grey images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visir.core.colours import DEVIATION, LUMA, MEAN
from visir.core.types import Modality
from visir.nets.derivative import Derivatives, GrayImage, PointwiseGenerator

BOTH = (Modality.VISIBLE, Modality.INFRARED)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_pointwise_generators_have_ten_parameters_each_and_share_none() -> None:
    derivatives = Derivatives("pointwise", BOTH)
    assert [count(encoder) for encoder in derivatives.encoders.values()] == [10, 10]
    assert count(derivatives) == 20
    assert count(Derivatives("pointwise", BOTH[:1])) == 10
    assert count(Derivatives("pointwise", ())) == 0


def test_pointwise_generator_starts_as_the_grey_image() -> None:
    images = torch.rand(2, 3, 4, 5)
    grey = images.mean(1, keepdim=True).expand_as(images)
    torch.testing.assert_close(PointwiseGenerator()(images), grey)
    assert (PointwiseGenerator()(-images) == 0).all()


def test_generator_of_mmn_is_that_of_the_paper() -> None:
    derivatives = Derivatives("mmn", BOTH)
    kinds = [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    for encoder in derivatives.encoders.values():
        assert [type(part) for part in encoder.children()] == kinds
        assert count(encoder) == 4 + 2 + 2
    assert [type(part) for part in derivatives.decoder.children()] == [nn.Conv2d, nn.ReLU]
    assert count(derivatives) == 2 * 8 + 6
    weights = [p for name, p in derivatives.named_parameters() if name.endswith("weight") and p.dim() == 4]
    assert len(weights) == 5
    assert all((weight == 1 / 3).all() for weight in weights)


def test_grey_image_is_the_luma_of_the_pixels() -> None:
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, DEVIATION))
    pixels = torch.rand(2, 3, 4, 5)
    found = GrayImage()((pixels - mean) / deviation) * deviation + mean
    luma = (pixels * torch.tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(found, luma.expand_as(pixels))


def test_grey_derivatives_have_nothing_to_learn_and_leave_infrared_alone() -> None:
    derivatives = Derivatives("gray", BOTH)
    images = torch.randn(2, 3, 4, 5)
    assert count(derivatives) == 0
    assert derivatives(images, Modality.INFRARED) is images
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, DEVIATION))
    infrared = (torch.rand(2, 1, 4, 5).expand(2, 3, 4, 5) - mean) / deviation
    torch.testing.assert_close(derivatives(infrared, Modality.VISIBLE), infrared)  # grey already


@pytest.mark.parametrize("kind", ["pointwise", "mmn", "gray"])
def test_every_kind_keeps_the_shape_and_lets_gradients_through(kind: str) -> None:
    derivatives = Derivatives(kind, BOTH)  # type: ignore[arg-type]
    for origin in BOTH:
        images = torch.rand(2, 3, 8, 4).requires_grad_()
        derived = derivatives(images, origin)
        assert derived.shape == images.shape
        (derived * torch.rand(2, 3, 8, 4)).sum().backward()
        assert images.grad is not None
        assert images.grad.abs().sum() > 0
    assert all(p.grad is not None for p in derivatives.parameters())
