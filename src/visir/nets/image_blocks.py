"""The blocks that image-to-image networks are built of: padded convolutions, residual blocks, enlarging."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["none", "instance", "layer", "batch"]
Activation = Literal["none", "relu", "leaky", "tanh"]
Padding = Literal["reflect", "zeros", "replicate"]


class ImageLayerNorm(nn.Module):
    """Normalises each image over all channels and places, then scales and shifts each channel.

    Args:
        channels: C.
    """

    def __init__(self, channels: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return nn.functional.group_norm(images, 1, self.weight, self.bias, self.epsilon)


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """The normalisation of that name for (B, channels, H, W); instance norm learns nothing, as published."""
    match norm:
        case "instance":
            return nn.InstanceNorm2d(channels)
        case "layer":
            return ImageLayerNorm(channels)
        case "batch":
            return nn.BatchNorm2d(channels)
        case "none":
            return nn.Identity()


def activation_layer(activation: Activation) -> nn.Module:
    """The nonlinearity of that name; ``leaky`` has slope 0.2."""
    match activation:
        case "relu":
            return nn.ReLU()
        case "leaky":
            return nn.LeakyReLU(0.2)
        case "tanh":
            return nn.Tanh()
        case "none":
            return nn.Identity()


def still_bias(convolution: nn.Conv2d | nn.ConvTranspose2d, norm: nn.Module) -> None:
    """Set the bias to 0 and do not train it, if a normalisation of each channel behind it takes it away again.

    It stays in the network, as published. Its gradient is rounding noise, which Adam would scale up to steps of full
    size: weights would differ from one machine, or number of ranks, to the next for nothing.
    """
    if isinstance(norm, nn.InstanceNorm2d | nn.BatchNorm2d) and convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
        convolution.bias.requires_grad_(False)


class ConvolutionBlock(nn.Sequential):
    """Convolution with a bias, normalisation, nonlinearity; padded by (kernel - 1) // 2 pixels unless told otherwise.

    A bias in front of instance or batch norm is there, but is not trained: see :func:`still_bias`.

    Args:
        inputs: channels that come.
        outputs: channels that go.
        kernel: size in pixels.
        stride: step in pixels.
        norm: see :func:`norm_layer`.
        activation: see :func:`activation_layer`.
        padding: what lies outside the picture.
        dilation: distance between the places that a kernel looks at.

    >>> ConvolutionBlock(3, 8, 4, 2)(torch.zeros(1, 3, 16, 8)).shape
    torch.Size([1, 8, 8, 4])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        norm: Norm = "instance",
        activation: Activation = "relu",
        padding: Padding = "reflect",
        dilation: int = 1,
    ) -> None:
        around = dilation * (kernel - 1) // 2
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, around, dilation, padding_mode=padding)
        super().__init__(convolution, norm_layer(norm, outputs), activation_layer(activation))
        still_bias(convolution, self[1])


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose result is added to what came; the nonlinearity stands between them.

    Args:
        channels: C, in and out.
        norm: after each convolution.
        activation: between the convolutions.
        padding: what lies outside the picture.
    """

    def __init__(
        self, channels: int, *, norm: Norm = "instance", activation: Activation = "relu", padding: Padding = "reflect"
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvolutionBlock(channels, channels, 3, norm=norm, activation=activation, padding=padding),
            ConvolutionBlock(channels, channels, 3, norm=norm, activation="none", padding=padding),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return images + self.body(images)  # type: ignore[no-any-return]


def enlarged(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W), every pixel four times."""
    return nn.functional.interpolate(images, scale_factor=2.0, mode="nearest")


class Enlarge(nn.Module):
    """:func:`enlarged` as a layer."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        return enlarged(images)


def start_weights(network: nn.Module, *, deviation: float | None = None) -> None:
    """Initialise every convolution and linear layer anew: biases 0, weights by He's rule or N(0, deviation^2).

    Args:
        network: changed in place.
        deviation: of the weights, as CycleGAN (0.02) draws them; None for He et al. 2015 over the inputs, as the
            translators of UNIT and DG-Net do.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if deviation is None:
                nn.init.kaiming_normal_(module.weight, a=0.0, mode="fan_in")
            else:
                nn.init.normal_(module.weight, 0.0, deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
