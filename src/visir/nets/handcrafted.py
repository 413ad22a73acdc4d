"""Hand-crafted features as networks without parameters: HOG and LOMO.

Both are torch operations, so they run on any device and export. Wherever a value decides about a bin of a histogram it
is rounded or compared exactly: a feature does not depend on the batch that its image is in, nor on the processor.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from visir.core.colours import DEVIATION, MEAN
from visir.core.errors import ConfigError

LUMA = (299, 587, 114)  # thousandths
HSV_BINS = 8


def bytes_of(images: Tensor) -> Tensor:
    """ImageNet-normalised (B, 3, H, W) -> float64 whole numbers 0..255, exactly those that were normalised."""
    rows = (torch.tensor(row, dtype=torch.float64, device=images.device) for row in (MEAN, DEVIATION))
    mean, deviation = (row.view(3, 1, 1) for row in rows)
    return ((images.double() * deviation + mean) * 255).round().clamp(0, 255)


def luma_of(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) 0..255 -> (B, H, W) 0..255,000: thousandths of luma, which are exact for whole numbers."""
    red, green, blue = pixels.unbind(1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


class Hog(nn.Module):
    """Histograms of oriented gradients of the grey image (Dalal and Triggs, CVPR 2005).

    Central differences (zero at the border), nine bins of 20 degrees without sign, weighted by the length of the
    gradient, over cells of 8x8 pixels; blocks of 2x2 cells, one cell apart, normalised by their length, cut at 0.2 and
    normalised again (L2-Hys). A gradient votes for its one bin and cell. Equal to ``skimage.feature.hog`` of the luma.

    Args:
        height: of the images; rows below the last whole cell are not used.
        width: likewise.

    Attributes:
        dim: 36 times the number of blocks; 15 * 7 * 36 = 3,780 for 128x64.
        distance: how vectors are compared where no metric is learnt.

    Raises:
        ConfigError: images of less than one block.
    """

    CELL, BINS, BLOCK = 8, 9, 2
    CUT, FLOOR = 0.2, 1e-5
    distance = "euclidean"

    def __init__(self, height: int = 128, width: int = 64) -> None:
        super().__init__()
        down, across = (size // self.CELL - self.BLOCK + 1 for size in (height, width))
        if min(down, across) < 1:
            raise ConfigError(f"HOG: expected images of at least 16x16 pixels, got {height}x{width}.")
        self.size = (height, width)
        self.dim = down * across * self.BINS * self.BLOCK**2

    def forward(self, images: Tensor, modality: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) ImageNet-normalised images, of any modality -> (B, dim) float32, [0, 1]."""
        with torch.autocast(images.device.type, enabled=False):
            grey = luma_of(bytes_of(images)) / 255_000
            votes = self._votes(grey)
            cells = functional.avg_pool2d(votes, self.CELL)  # (B, 9, h, w)
            return self._blocks(cells).flatten(1).float()

    def _votes(self, grey: Tensor) -> Tensor:
        """(B, H, W) -> (B, 9, H, W): the length of each gradient in the plane of its bin."""
        down, across = torch.zeros_like(grey), torch.zeros_like(grey)
        down[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
        across[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
        turn = torch.where((down < 0) | ((down == 0) & (across < 0)), -1.0, 1.0)
        down, across = down * turn, across * turn  # angles of 0 up to, not including, 180 degrees
        place = torch.zeros_like(grey, dtype=torch.int64)
        for k in range(1, self.BINS):  # which boundaries it has passed; exact, which an arc tangent is not
            angle = math.pi * k / self.BINS
            place += math.cos(angle) * down >= math.sin(angle) * across
        length = (down * down + across * across).sqrt()
        bins = torch.arange(self.BINS, device=grey.device).view(-1, 1, 1)
        return torch.where(place.unsqueeze(1) == bins, length.unsqueeze(1), 0.0)

    def _blocks(self, cells: Tensor) -> Tensor:
        """(B, 9, h, w) -> (B, h - 1, w - 1, 36), row by row of cells inside a block."""
        corners = [cells[:, :, i : i + cells.shape[2] - 1, j : j + cells.shape[3] - 1] for i in (0, 1) for j in (0, 1)]
        blocks = torch.stack(corners, 1).flatten(1, 2).permute(0, 2, 3, 1)
        for cut in (self.CUT, math.inf):
            blocks = blocks / (blocks.square().sum(-1, keepdim=True) + self.FLOOR**2).sqrt()
            blocks = blocks.clamp(max=cut)
        return blocks


class Lomo(nn.Module):
    """Local maximal occurrence (Liao, Hu, Zhu and Li, CVPR 2015).

    Windows of 10x10 pixels, 5 apart, at three scales (halved by averaging 2x2 pixels). In each, the joint histogram of
    8x8x8 HSV colours after Retinex, and the histograms of SILTP codes of the grey image for two radii; of each bin the
    maximum along every row of windows, then log(1 + count). Colours and texture are scaled to unit length apart.
    Infrared images have no colour: only 8 of their 512 HSV bins are ever filled.

    Args:
        height: of the images.
        width: likewise; a scale smaller than a window has one window, of what there is.
        sigmas: standard deviations of the Retinex surrounds, in pixels.
        radii: of the four SILTP neighbours, in pixels.
        tolerance: of SILTP, a share of the centre's grey.

    Attributes:
        dim: (512 + 81 * number of radii) * rows of windows; (512 + 162) * (24 + 11 + 5) = 26,960 for 128x48.
        distance: how vectors are compared where no metric is learnt.

    Raises:
        ConfigError: images too small for three scales.
    """

    CELL, SCALES = 5, 3  # two cells are one window, 5 pixels before the next
    distance = "euclidean"

    surround_down: Tensor
    surround_across: Tensor

    def __init__(
        self,
        height: int = 128,
        width: int = 48,
        *,
        sigmas: tuple[float, ...] = (5.0, 20.0),
        radii: tuple[int, ...] = (3, 5),
        tolerance: float = 0.3,
    ) -> None:
        super().__init__()
        smallest = self.CELL << (self.SCALES - 1)
        if min(height, width) < smallest:
            raise ConfigError(f"LOMO: expected images of at least {smallest}x{smallest} pixels, got {height}x{width}.")
        self.size, self.radii, self.tolerance = (height, width), radii, tolerance
        rows = sum(max(1, (height >> scale) // self.CELL - 1) for scale in range(self.SCALES))
        self.dim = (HSV_BINS**3 + 3**4 * len(radii)) * rows
        for name, size in (("down", height), ("across", width)):
            blurs = torch.stack([_surround(size, sigma) for sigma in sigmas])
            self.register_buffer(f"surround_{name}", blurs, persistent=False)

    def forward(self, images: Tensor, modality: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) ImageNet-normalised images, of any modality -> (B, dim) float32, two parts of unit length."""
        with torch.autocast(images.device.type, enabled=False):
            pixels = bytes_of(images)
            lit, grey = self.retinex(pixels), luma_of(pixels)
            colour: list[Tensor] = []
            texture: list[Tensor] = []
            for scale in range(self.SCALES):
                if scale:
                    lit, grey = _halved(lit), _halved(grey)
                colour.append(self._occurrence(hsv_bin(lit), HSV_BINS**3))
                texture.extend(self._occurrence(siltp(grey, radius, self.tolerance), 3**4) for radius in self.radii)
            parts = [functional.normalize(torch.cat(part, 1).log1p()) for part in (colour, texture)]
            return torch.cat(parts, 1).float()

    def retinex(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) 0..255 -> whole numbers 0..255 without what the light does (Jobson et al., 1997).

        The mean, over the surrounds, of log(1 + pixel) - log(1 + blurred pixel), stretched from its smallest to its
        largest value in the image, of all channels alike, so that colours keep their proportion.
        """
        down, across = self.surround_down.double(), self.surround_across.double()
        blurred = down @ pixels.unsqueeze(2) @ across.transpose(1, 2)  # (B, 3, S, H, W)
        ratio = pixels.log1p() - blurred.log1p().mean(2)
        low, high = ratio.amin((1, 2, 3), keepdim=True), ratio.amax((1, 2, 3), keepdim=True)
        return ((ratio - low) / (high - low).clamp_min(1e-6) * 255).round()

    def _occurrence(self, codes: Tensor, bins: int) -> Tensor:
        """(B, h, w) int64 codes 0..bins-1 -> (B, windows down * bins): the largest counts along each row."""
        batch, (height, width) = codes.shape[0], codes.shape[1:]
        down, across = height // self.CELL, width // self.CELL
        codes = codes[:, : down * self.CELL, : across * self.CELL]
        cell_down = torch.arange(down, device=codes.device).repeat_interleave(self.CELL)
        cell_across = torch.arange(across, device=codes.device).repeat_interleave(self.CELL)
        places = (cell_down[:, None] * across + cell_across) * bins + codes
        counts = torch.zeros(batch, down * across * bins, dtype=torch.int64, device=codes.device)
        counts = counts.scatter_add(1, places.flatten(1), torch.ones_like(places.flatten(1)))
        windows = counts.view(batch, down, across, bins)
        if down > 1:
            windows = windows[:, 1:] + windows[:, :-1]
        if across > 1:
            windows = windows[:, :, 1:] + windows[:, :, :-1]
        return windows.amax(2).flatten(1).double()


def hsv_bin(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) RGB of 0..255 -> (B, H, W) int64 0..511: 64 * hue + 8 * saturation + value, eight steps each."""
    red, green, blue = pixels.unbind(1)
    value, low = pixels.amax(1), pixels.amin(1)
    chroma = value - low
    safe = torch.where(chroma > 0, chroma, 1.0)
    sixths = torch.where(
        value == red,
        torch.remainder((green - blue) / safe, 6),
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = torch.where(chroma > 0, sixths / 6, 0.0)
    saturation = torch.where(value > 0, chroma / value.clamp_min(1e-12), 0.0)
    steps = [(part * HSV_BINS).long().clamp(max=HSV_BINS - 1) for part in (hue, saturation, value / 255)]
    return (steps[0] * HSV_BINS + steps[1]) * HSV_BINS + steps[2]


def siltp(grey: Tensor, radius: int, tolerance: float) -> Tensor:
    """Scale-invariant local ternary patterns (Liao et al., CVPR 2010): (B, H, W) -> (B, H, W) int64 0..80.

    Each of four neighbours (right, above, left, below), ``radius`` pixels away, gives a digit to base three: 1 if it is
    above (1 + tolerance) times the centre, 2 if below (1 - tolerance) times, 0 otherwise. Beyond the border the image
    goes on with its last pixels.
    """
    height, width = grey.shape[1:]
    padded = functional.pad(grey.unsqueeze(1), (radius,) * 4, mode="replicate").squeeze(1)
    codes = torch.zeros_like(grey, dtype=torch.int64)
    upper, lower = (1 + tolerance) * grey, (1 - tolerance) * grey
    for k, (down, across) in enumerate(((0, radius), (-radius, 0), (0, -radius), (radius, 0))):
        shifted = padded[:, radius + down : radius + down + height, radius + across : radius + across + width]
        codes = codes + 3**k * ((shifted > upper).long() + 2 * (shifted < lower).long())
    return codes


def _halved(planes: Tensor) -> Tensor:
    """Means of 2x2 pixels; an odd last row or column is dropped."""
    height, width = planes.shape[-2] // 2 * 2, planes.shape[-1] // 2 * 2
    even = planes[..., :height, :width]
    rows = even[..., ::2, :] + even[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _surround(size: int, sigma: float) -> Tensor:
    """(size, size) float64: a Gaussian blur along one axis as a matrix; beyond the border is the last pixel."""
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-offsets.double().square() / (2 * sigma**2))
    weights = weights / weights.sum()
    blur = torch.zeros(size, size, dtype=torch.float64)
    rows = torch.arange(size).unsqueeze(1)
    columns = (rows + offsets).clamp(0, size - 1)
    return blur.scatter_add_(1, columns, weights.expand(size, -1))
