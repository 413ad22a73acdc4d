"""Non-local blocks against a loop over cells, and where AGW puts them."""

from __future__ import annotations

import pytest
import torch

from visir.core.errors import ConfigError
from visir.nets.nonlocal_block import NonLocalBlock, add_non_local
from visir.nets.stems import two_stems


@pytest.mark.parametrize("width", [1, 3])
def test_equals_the_loop_over_cells(width: int) -> None:
    torch.manual_seed(0)
    block = NonLocalBlock(4, width=width).double().eval()
    torch.nn.init.normal_(block.normalise.weight)
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64)
    with torch.no_grad():
        theta, phi, value = (f(x).flatten(2) for f in (block.theta, block.phi, block.value))
        summed = torch.zeros(2, width, 6, dtype=torch.float64)
        for image in range(2):
            for i in range(6):
                for j in range(6):
                    alike = theta[image, :, i] @ phi[image, :, j] / 6
                    summed[image, :, i] += alike * value[image, :, j]
        expected = x + block.normalise(block.out(summed.view(2, width, 3, 2)))
        torch.testing.assert_close(block(x), expected)


def test_starts_as_the_identity_and_learns() -> None:
    block = NonLocalBlock(4)
    x = torch.randn(2, 4, 3, 2)
    torch.testing.assert_close(block(x), x)
    block(x).square().sum().backward()
    assert block.normalise.weight.grad is not None
    assert block.normalise.weight.grad.abs().sum() > 0


def test_agw_puts_five_into_resnet50() -> None:
    with torch.device("meta"):
        network = two_stems("resnet50", weights="scratch", image_size=(288, 144))
        before = sum(p.numel() for p in network.parameters())
        added = add_non_local(network)
        assert network(torch.zeros(2, 3, 288, 144), torch.tensor([0, 1])).shape == (2, 2048, 18, 9)
    assert [block.normalise.num_features for block in added] == [512, 512, 1024, 1024, 1024]
    changed = [[isinstance(block, torch.nn.Sequential) for block in stage] for stage in network.stages]
    assert changed == [
        [False] * 3,
        [False, False, True, True],
        [False, False, False, True, True, True],
        [False] * 3,
    ]
    own = sum(p.numel() for p in network.parameters()) - before
    assert own == sum(3 * (c + 1) + c + 2 * c for c in (512, 512, 1024, 1024, 1024))


def test_shallow_networks_get_as_many_as_they_have_blocks() -> None:
    network = two_stems("tiny", weights="scratch", image_size=(48, 24)).eval()
    images, modality = torch.randn(2, 3, 48, 24), torch.tensor([0, 1])
    with torch.no_grad():
        before = network(images, modality)
        assert len(add_non_local(network)) == 2
        torch.testing.assert_close(network.eval()(images, modality), before)


def test_other_networks_are_refused() -> None:
    network = two_stems("test_vit", weights="scratch", image_size=(64, 32))
    with pytest.raises(ConfigError, match="'test_vit': expected a network with the four stages of a ResNet"):
        add_non_local(network)
