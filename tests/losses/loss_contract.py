"""The questions that every loss answers; a test class names the loss, an example, and what must not be accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from visir.core.errors import TrainingError

Arguments = tuple[Any, ...]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Float64 numbers of N(0, 1) that need a gradient."""
    values = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values.requires_grad_()


def permuted(arguments: Arguments, order: Tensor) -> Arguments:
    """Every argument with its rows in another, common order."""
    return tuple(argument[order] for argument in arguments)


class LossContract:
    """Subclasses give ``loss``, ``example()``, ``bad()`` and ``degenerate()``."""

    loss: Callable[..., Tensor]

    def example(self) -> Arguments:
        raise NotImplementedError

    def bad(self) -> list[Arguments]:
        raise NotImplementedError

    def degenerate(self) -> list[Arguments]:
        raise NotImplementedError

    def test_gives_a_finite_scalar_of_the_same_type(self) -> None:
        for dtype in (torch.float64, torch.float32):
            arguments = (a.detach().to(dtype) if a.is_floating_point() else a for a in self.example())
            value = self.loss(*arguments)
            assert value.shape == ()
            assert value.dtype == dtype
            assert torch.isfinite(value)
            assert value >= 0

    def test_gradient_is_that_of_the_value(self) -> None:
        assert torch.autograd.gradcheck(self.loss, self.example())

    def test_every_example_gets_a_gradient(self) -> None:
        arguments = self.example()
        self.loss(*arguments).backward()
        for argument in arguments:
            if argument.requires_grad:
                assert (argument.grad.flatten(1).abs().sum(1) > 0).all()

    def test_order_of_the_batch_does_not_matter(self) -> None:
        arguments = self.example()
        order = torch.randperm(len(arguments[0]), generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(self.loss(*permuted(arguments, order)), self.loss(*arguments))

    def test_arguments_stay_as_they_are(self) -> None:
        arguments = self.example()
        before = [a.detach().clone() for a in arguments]
        self.loss(*arguments)
        assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))

    def test_bad_shapes_are_named(self) -> None:
        for arguments in self.bad():
            with pytest.raises(TrainingError, match="expected") as raised:
                self.loss(*arguments)
            for argument in arguments:
                assert str(tuple(argument.shape)) in str(raised.value)

    def test_degenerate_batches_stay_finite(self) -> None:
        for arguments in self.degenerate():
            value = self.loss(*arguments)
            value.backward()
            assert torch.isfinite(value)
            for argument in arguments:
                if argument.requires_grad:
                    assert torch.isfinite(argument.grad).all()
