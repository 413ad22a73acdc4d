"""Training-time changes of pictures: drawn for a whole batch at once, applied to uint8 pixels one picture at a time.

What is drawn depends on (seed, step) and on the place of a picture in the batch of all ranks, on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from visir.core.colours import LUMA
from visir.core.draws import Augment
from visir.core.errors import ConfigError
from visir.core.seeds import generator
from visir.core.types import BoolArray, ByteArray, IntArray, Modality

FILL = np.array([124, 116, 104], np.uint8)  # ImageNet's mean colour: an erased patch is near zero once normalised
GREY = np.array(LUMA)
GREY_CHANNEL = 3  # the one behind red, green and blue
AREA = (0.02, 0.4)  # share of the picture that is erased, and
ASPECT = (0.3, 1 / 0.3)  # its height to width: Zhong et al., Random Erasing Data Augmentation, AAAI 2020


@dataclass(frozen=True, eq=False)
class Changes:
    """What is done to each of B pictures.

    Attributes:
        flip: (B,) bool, mirror left to right.
        shift: (B, 2) int64, top and left of the crop in the padded picture, 0..enlarge + 2*pad.
        pad: border in pixels.
        edge: whether the border repeats the pixels of the edge; otherwise it is zero.
        box: (B, 4) int64, top, left, height and width of the erased patch; height 0 where nothing is erased.
        channel: (B,) int64, the channel that is replicated, 3 for the luma in the place of all three, -1 for none.
        light: (B, 2) float64, factors of brightness and contrast, 1 for none.
    """

    flip: BoolArray
    shift: IntArray
    pad: int
    edge: bool
    box: IntArray
    channel: IntArray
    light: npt.NDArray[np.float64]

    def apply(self, place: int, picture: ByteArray, out: ByteArray) -> None:
        """Write the picture of the given place, changed, into ``out``, (H, W, 3) uint8.

        Args:
            place: in the batch of all ranks.
            picture: (H + enlarge, W + enlarge, 3) uint8.
            out: is filled.
        """
        if self.flip[place]:
            picture = picture[:, ::-1]
        if self.pad:
            picture = _bordered(picture, self.pad, edge=self.edge)
        top, left = self.shift[place]
        out[...] = picture[top : top + out.shape[0], left : left + out.shape[1]]
        if (self.light[place] != 1.0).any():
            _relight(out, *self.light[place])
        channel = self.channel[place]
        if channel == GREY_CHANNEL:
            out[...] = cv2.cvtColor(out, cv2.COLOR_RGB2GRAY)[:, :, None]
        elif channel >= 0:
            out[...] = out[:, :, channel, None].copy()
        top, left, height, width = self.box[place]
        out[top : top + height, left : left + width] = FILL


def draw_changes(augment: Augment, modality: IntArray, height: int, width: int, *, seed: int, step: int) -> Changes:
    """Draw what is done to the pictures of one batch of all ranks.

    Args:
        augment: probabilities and strengths.
        modality: (B,) int64 by place; only visible pictures get a channel replicated or become grey.
        height: of the pictures after the crop, pixels.
        width: of the pictures after the crop, pixels.
        seed: of the run and stream.
        step: of the batch.
    """
    count = len(modality)
    chance = generator(seed, "augment", step).random((count, 12))
    light = 1.0 + augment.jitter * (2.0 * chance[:, 7:9] - 1.0)
    visible = modality == Modality.VISIBLE
    grey = (generator(seed, "grey", step).random(count) < augment.grey) & visible
    replicate = (chance[:, 5] < augment.channels) & visible
    return Changes(
        flip=chance[:, 0] < augment.flip,
        shift=(chance[:, 1:3] * (augment.enlarge + 2 * augment.pad + 1)).astype(np.int64),
        pad=augment.pad,
        edge=augment.border == "edge",
        box=_boxes(chance[:, [3, 4, 9, 10, 11]], augment.erase, height, width),
        channel=np.where(replicate, (chance[:, 6] * 3).astype(np.int64), np.where(grey, GREY_CHANNEL, -1)),
        light=light,
    )


def check(augment: Augment) -> None:
    """Raise ConfigError on a probability outside 0..1 or a negative strength."""
    for name in ("flip", "erase", "channels", "jitter", "grey"):
        value = getattr(augment, name)
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"stream.augment.{name}: expected a number from 0 to 1, got {value}.")
    for name in ("enlarge", "pad"):
        if getattr(augment, name) < 0:
            raise ConfigError(f"stream.augment.{name}: expected 0 or more pixels, got {getattr(augment, name)}.")


def _boxes(chance: npt.NDArray[np.float64], erase: float, height: int, width: int) -> IntArray:
    """(B, 4) patches from (B, 5) uniform numbers: whether, area, aspect, top, left; cut to fit the picture."""
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * chance[:, 1])
    low, high = np.log(ASPECT)
    aspect = np.exp(low + (high - low) * chance[:, 2])
    tall = np.minimum(np.sqrt(area * aspect).round(), height).astype(np.int64)
    wide = np.minimum(np.sqrt(area / aspect).round(), width).astype(np.int64)
    top = (chance[:, 3] * (height - tall + 1)).astype(np.int64)
    left = (chance[:, 4] * (width - wide + 1)).astype(np.int64)
    boxes = np.stack([top, left, tall, wide], axis=1)
    boxes[chance[:, 0] >= erase] = 0
    return boxes


def _bordered(picture: ByteArray, width: int, *, edge: bool) -> ByteArray:
    """(H, W, 3) -> (H + 2*width, W + 2*width, 3), with zeros or the pixels of the edge around it."""
    around = ((width, width), (width, width), (0, 0))
    return np.pad(picture, around, mode="edge") if edge else np.pad(picture, around)


def _relight(out: ByteArray, brightness: float, contrast: float) -> None:
    """Scale by ``brightness``, then the distance from the mean grey by ``contrast``, in place."""
    grey = brightness * float(cv2.mean(out)[:3] @ GREY)
    values = (np.arange(256) * brightness - grey) * contrast + grey
    cv2.LUT(out, values.round().clip(0, 255).astype(np.uint8), dst=out)
