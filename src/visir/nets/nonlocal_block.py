"""Non-local blocks: every cell of a map also gets a weighted sum of all cells."""

from __future__ import annotations

from torch import Tensor, nn

from visir.nets.stems import TwoStems


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


def add_non_local(network: TwoStems, *, second: int = 2, third: int = 3, width: int = 1) -> list[NonLocalBlock]:
    """Put non-local blocks behind the last blocks of the second and of the third stage of a ResNet, as AGW does.

    Args:
        network: changed in place.
        second: how many of the last blocks of the second stage get one; all, where it has fewer.
        third: the same for the third stage.
        width: see :class:`NonLocalBlock`.

    Returns:
        The new blocks.

    Raises:
        ConfigError: a network that is not a ResNet.
    """
    added = []
    for stage, count in ((1, second), (2, third)):
        blocks = len(network.stages[stage])
        for block in range(max(0, blocks - count), blocks):
            module = NonLocalBlock(network.stage_channels[stage], width=width)
            network.insert(stage, block, module)
            added.append(module)
    return added
