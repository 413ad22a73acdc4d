"""Non-local blocks: every cell of a map also gets a weighted sum of all cells."""

from __future__ import annotations

from torch import Tensor, nn

from visir.nets.stems import TwoStems

LAST = {1: 2, 2: 3}  # stage, from 0 -> how many of its last blocks get a non-local one


class NonLocalBlock(nn.Module):
    """A residual block whose branch compares all cells by dot product, divided by their number.

    ``x + BN(W y)`` with ``y_i = 1/n sum_j (theta(x_i) . phi(x_j)) g(x_j)``. Wang et al., Non-local Neural Networks,
    CVPR 2018, the dot product version (eqs. 1, 4 and 6). The normalisation starts with weight 0, so that the block
    starts as the identity.

    Args:
        channels: C of the map.
        width: of theta, phi and g; AGW takes 1.
    """

    def __init__(self, channels: int, *, width: int = 1) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, width, 1)
        self.phi = nn.Conv2d(channels, width, 1)
        self.value = nn.Conv2d(channels, width, 1)
        self.out = nn.Conv2d(width, channels, 1, bias=False)  # the normalisation would undo a bias
        self.normalise = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.normalise.weight)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        theta, phi, value = (f(feature_map).flatten(2) for f in (self.theta, self.phi, self.value))
        # without a softmax the product may be taken from the right, where it needs no (n, n) matrix
        summed = (value @ phi.transpose(1, 2) / phi.shape[2]) @ theta
        shape = (-1, summed.shape[1], *feature_map.shape[2:])
        result: Tensor = feature_map + self.normalise(self.out(summed.reshape(shape)))
        return result


def add_non_local(network: TwoStems) -> list[NonLocalBlock]:
    """Put a non-local block behind each of the last two blocks of a ResNet's second stage and three of its third: AGW.

    A stage with fewer blocks gets one behind each.

    Args:
        network: changed in place.

    Returns:
        The new blocks.

    Raises:
        ConfigError: a network that is not a ResNet.
    """
    added = []
    for stage, last in LAST.items():
        blocks = len(network.stages[stage])
        for block in range(max(0, blocks - last), blocks):
            module = NonLocalBlock(network.stage_channels[stage])
            network.insert(stage, block, module)
            added.append(module)
    return added
