"""A grid of images as one picture with its headings written above and beside it."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from visir.core.grid import Grid
from visir.core.types import ByteArray

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
GAP, HEADING, MARGIN, LOWEST = 4, 18, 8, 96  # pixels; images lower than LOWEST are shown larger
PAPER, INK = 255, (40, 40, 40)


def mosaic(grid: Grid) -> ByteArray:
    """The grid on white paper, (h, w, 3) uint8; small images are enlarged by a whole number, every pixel a square.

    >>> import torch
    >>> mosaic(Grid(torch.zeros(2, 3, 3, 96, 48), ("a", "b", "c"), "black")).shape
    (218, 152, 3)
    """
    rows, columns, _, height, width = grid.images.shape
    times = max(1, -(-LOWEST // height))
    pixels = (grid.images.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()
    height, width = height * times, width * times
    font = ImageFont.load_default(12)
    wide = max(width, *(_length(name, font) for name in grid.columns))
    left = max((_length(name, font) + MARGIN for name in grid.rows), default=0)
    paper = np.full((HEADING + rows * (height + GAP), left + columns * (wide + GAP) - GAP, 3), PAPER, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, start = HEADING + row * (height + GAP), left + column * (wide + GAP) + (wide - width) // 2
            shown = cv2.resize(pixels[row, column], (width, height), interpolation=cv2.INTER_NEAREST)
            paper[top : top + height, start : start + width] = shown
    return _headed(paper, grid, font, left, wide, height)


def _headed(paper: ByteArray, grid: Grid, font: Font, left: int, wide: int, height: int) -> ByteArray:
    image = Image.fromarray(paper)
    pen = ImageDraw.Draw(image)
    for column, name in enumerate(grid.columns):
        pen.text((left + column * (wide + GAP) + wide / 2, HEADING / 2), name, fill=INK, font=font, anchor="mm")
    for row, name in enumerate(grid.rows):
        pen.text(
            (left - MARGIN / 2, HEADING + row * (height + GAP) + height / 2), name, fill=INK, font=font, anchor="rm"
        )
    return np.asarray(image)


def _length(text: str, font: Font) -> int:
    return int(font.getlength(text)) + MARGIN
