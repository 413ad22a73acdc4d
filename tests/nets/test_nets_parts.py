"""Stripes, their reduction and their classifiers, against loops."""

from __future__ import annotations

import pytest
import torch

from visir.nets.parts import PartClassifiers, PartReduction


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_stripes_are_the_means_of_equal_bands() -> None:
    reduction = PartReduction(5, parts=6, dim=4).eval()
    feature_map = torch.randn(3, 5, 24, 8)
    with torch.no_grad():
        parts = reduction(feature_map)
        for k in range(6):
            band = feature_map[:, :, 4 * k : 4 * k + 4].mean(dim=(2, 3))
            expected = band @ reduction.reduce.weight[:, :, 0, 0].T / (1 + reduction.normalise.eps) ** 0.5
            torch.testing.assert_close(parts[:, k], expected)


def test_features_are_normalised_over_images_and_parts_and_keep_their_sign() -> None:
    parts = PartReduction(5, parts=6, dim=4)(torch.randn(8, 5, 12, 4) * 3 + 1)
    assert parts.shape == (8, 6, 4)
    torch.testing.assert_close(parts.mean(dim=(0, 1)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(parts.std(dim=(0, 1), correction=0), torch.ones(4), atol=1e-3, rtol=0)
    assert (parts < 0).any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_the_formula_in_any_memory_layout(layout: torch.memory_format) -> None:
    """A gradient arrives here transposed, which a kernel that goes by memory layout can misread."""
    reduction = PartReduction(3, parts=6, dim=4).double()
    feature_map = torch.randn(4, 3, 6, 2, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weights = torch.randn(4, 24, dtype=torch.float64)
    inputs = (feature_map, *reduction.parameters())
    assert torch.autograd.gradcheck(lambda *_: (reduction(feature_map).flatten(1) * weights).sum(), inputs)


def test_more_stripes_than_rows_share_rows() -> None:
    assert PartReduction(5, parts=6, dim=4)(torch.randn(2, 5, 4, 4)).shape == (2, 6, 4)


def test_classifiers_are_separate_and_without_bias() -> None:
    classifiers = PartClassifiers(parts=3, dim=4, num_identities=5)
    parts = torch.randn(2, 3, 4)
    logits = classifiers(parts)
    assert logits.shape == (2, 3, 5)
    for k in range(3):
        torch.testing.assert_close(logits[:, k], parts[:, k] @ classifiers.weight[k].T)
    assert not torch.equal(classifiers.weight[0], classifiers.weight[1])
    assert float(classifiers(torch.zeros(2, 3, 4)).detach().abs().sum()) == 0


def test_classifiers_start_nearly_undecided() -> None:
    torch.manual_seed(0)
    weight = PartClassifiers(parts=6, dim=256, num_identities=50).weight
    assert float(weight.std().detach()) == pytest.approx(0.001, rel=0.02)


def test_parameter_counts_of_the_paper() -> None:
    assert count(PartReduction(2048, parts=6, dim=256).reduce) == 524_288
    assert count(PartReduction(2048, parts=6, dim=256).normalise) == 512


@pytest.mark.parametrize(("num_identities", "expected"), [(206, 316_416), (296, 454_656), (395, 606_720)])
def test_parameter_counts_of_the_classifiers(num_identities: int, expected: int) -> None:
    assert count(PartClassifiers(parts=6, dim=256, num_identities=num_identities)) == expected
