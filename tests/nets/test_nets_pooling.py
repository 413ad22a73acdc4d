"""Pooling of a map, against formulas and in 16 bits."""

from __future__ import annotations

import pytest
import torch

from visir.nets.pooling import GeMPool, MeanPool, pooling


def test_mean_is_over_the_cells() -> None:
    feature_map = torch.randn(2, 5, 4, 3)
    torch.testing.assert_close(MeanPool()(feature_map), feature_map.mean((2, 3)))


def test_generalised_mean_of_known_numbers() -> None:
    feature_map = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    assert GeMPool(3.0)(feature_map).item() == pytest.approx(25 ** (1 / 3))
    assert GeMPool(1.0)(feature_map).item() == pytest.approx(2.5)
    assert GeMPool(100.0)(feature_map.double()).item() == pytest.approx(4.0, rel=0.02)


@pytest.mark.parametrize("power", [1.0, 3.0, 6.5])
def test_gradient_is_that_of_the_value(power: float) -> None:
    feature_map = torch.rand(2, 3, 4, 2, dtype=torch.float64) + 0.1
    assert torch.autograd.gradcheck(GeMPool(power), feature_map.requires_grad_())


@pytest.mark.parametrize("feature_map", [torch.zeros(1, 2, 2, 2), -torch.rand(1, 2, 2, 2)], ids=["zero", "negative"])
def test_cells_without_a_positive_value_stay_finite(feature_map: torch.Tensor) -> None:
    pooled = GeMPool()(feature_map.requires_grad_())
    pooled.sum().backward()
    assert torch.isfinite(pooled).all()
    assert feature_map.grad is not None
    assert torch.isfinite(feature_map.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["mean", "gem"])
def test_sixteen_bits_are_widened_first(kind: str, dtype: torch.dtype) -> None:
    feature_map = torch.full((1, 2, 3, 3), 50.0, dtype=dtype)  # 50^3 is beyond float16
    pooled = pooling(kind)(feature_map)  # type: ignore[arg-type]
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, torch.full((1, 2), 50.0))


def test_power_is_no_weight() -> None:
    assert GeMPool().state_dict() == {}
    assert isinstance(pooling("mean"), MeanPool)
    assert float(pooling("gem").power) == 3.0  # type: ignore[arg-type]


def test_power_must_be_positive() -> None:
    with pytest.raises(ValueError, match="power must be above 0"):
        GeMPool(0.0)
