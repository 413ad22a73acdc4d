"""Diverse embedding expansion: what a branch computes, where its results lie, and its size."""

from __future__ import annotations

import torch
from torch.nn import functional

from visir.nets.expansion import DiverseExpansion, GeneratingBranch


def test_branch_is_the_equation_of_the_paper() -> None:
    torch.manual_seed(0)
    branch, x = GeneratingBranch(8), torch.randn(2, 8, 5, 4)
    summed = sum(
        functional.conv2d(x, look.weight, padding=dilation, dilation=dilation)
        for look, dilation in zip(branch.looks, (1, 2, 3), strict=True)
    )
    expected = functional.conv2d(functional.relu(summed), branch.out.weight)
    torch.testing.assert_close(branch(x), expected)
    assert [look.weight.shape for look in branch.looks] == [(2, 8, 3, 3)] * 3


def test_originals_come_first_then_branch_after_branch() -> None:
    torch.manual_seed(0)
    expansion, x = DiverseExpansion(8, branches=3), torch.randn(2, 8, 6, 3)
    every = expansion(x)
    assert every.shape == (6, 8, 6, 3)
    torch.testing.assert_close(every[:2], x)
    for number, generator in enumerate(expansion.generators):
        torch.testing.assert_close(every[2 + 2 * number : 4 + 2 * number], generator(x))
    assert not torch.allclose(every[2:4], every[4:])


def test_one_branch_is_the_original_alone() -> None:
    expansion, x = DiverseExpansion(8, branches=1), torch.randn(2, 8, 6, 3)
    assert not list(expansion.parameters())
    torch.testing.assert_close(expansion(x), x)


def test_what_is_made_starts_at_the_scale_of_the_map() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 256, 12, 6).relu()
    made = DiverseExpansion(256, branches=2)(x)[4:]
    assert 0.3 < (made.square().mean() / x.square().mean()).item() < 3


def test_size_behind_the_third_stage_of_a_resnet_50() -> None:
    with torch.device("meta"):
        branch = GeneratingBranch(1024)
    assert sum(p.numel() for p in branch.parameters()) == 3 * 9 * 1024 * 256 + 256 * 1024
