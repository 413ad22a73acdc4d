"""Decode, resize, normalise: the only place. Training, evaluation, export and service all use it."""

from __future__ import annotations

import functools
import io
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from visir.core.colours import DEVIATION, MEAN
from visir.core.errors import ImageError
from visir.core.files import is_image_name
from visir.core.types import ByteArray

MAX_PIXELS = 64_000_000  # a larger header is refused before anything is decoded


class _PillowQuiet:
    """Silences what Pillow warns of (large headers, odd metadata), as :func:`decode` itself refuses what is unsafe.

    The filters of ``warnings`` are shared by all threads, so the first thread in sets them and the last one out
    restores them; ``catch_warnings`` in each thread would restore them in the wrong order.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._saved = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._saved.__exit__(None, None, None)


_PILLOW_QUIET = _PillowQuiet()


@dataclass(frozen=True)
class Preprocess:
    """How a decoded picture becomes network input; part of every encoder's fingerprint.

    Shrinking averages areas, enlarging is bilinear; ``rule`` names that choice, so that a later one cannot be confused
    with it.
    """

    height: int = 288
    width: int = 144
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = DEVIATION
    rule: str = "area-or-bilinear-1"


def is_image(path: Path) -> bool:
    """Whether the suffix is one that visir reads and the file is not hidden (``._0001.jpg``)."""
    return is_image_name(path.name)


def encode_png(picture: ByteArray) -> bytes:
    """(H, W, 3) uint8 RGB -> the bytes of a PNG file.

    >>> bool((decode(encode_png(np.full((2, 3, 3), 7, np.uint8))) == 7).all())
    True
    """
    found, content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not found:
        raise ImageError(f"expected a picture of (H, W, 3) uint8 that can be encoded, got shape {picture.shape}.")
    return content.tobytes()


def decode(source: Path | bytes) -> ByteArray:
    """Decode an image file, or the bytes of one, to (H, W, 3) uint8 RGB; one channel is replicated to three.

    EXIF rotation is applied; 16-bit grey (thermal cameras) is scaled to 8 bits by its own range.

    Raises:
        ImageError: missing, empty, truncated, not an image, or more than 64 million pixels.
    """
    name = str(source) if isinstance(source, Path) else "image"
    try:
        content = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror or error}).") from error
    if not content:
        raise ImageError(f"{name}: expected an image, got an empty file; copy it again from the source.")
    try:
        with _PILLOW_QUIET, Image.open(io.BytesIO(content)) as opened:
            _check_size(name, opened.size)
            return _to_rgb(opened)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: its header claims more pixels than {MAX_PIXELS:,}; not decoded.") from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged input
        reason = str(error).split(" <_io", maxsplit=1)[0]
        raise ImageError(f"{name}: not a whole, readable image ({reason}); copy it again from the source.") from error


def _check_size(name: str, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: its header claims {width:,} x {height:,} pixels; expected a person crop of at most "
            f"{MAX_PIXELS:,} pixels. Not decoded."
        )


def _to_rgb(opened: Image.Image) -> ByteArray:
    if opened.getexif().get(0x0112, 1) != 1:
        from PIL import ImageOps

        opened = ImageOps.exif_transpose(opened)
    if opened.mode.startswith("I") or opened.mode == "F":
        values = np.asarray(opened, np.float32)
        low, high = float(values.min()), float(values.max())
        grey = ((values - low) * (255.0 / max(high - low, 1e-6))).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if opened.mode != "RGB":
        opened = opened.convert("RGB")
    return np.asarray(opened, np.uint8)


def resize(image: ByteArray, height: int, width: int) -> ByteArray:
    """(H, W, 3) uint8 -> (height, width, 3) uint8: area averaging to shrink, bilinear to enlarge."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    rule = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: ByteArray = np.asarray(cv2.resize(image, (width, height), interpolation=rule), np.uint8)
    return resized


def normalise(images: ByteArray | Tensor, preprocess: Preprocess) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32, zero mean and unit deviation by ``preprocess``. On any device."""
    pixels = torch.as_tensor(np.array(images) if isinstance(images, np.ndarray) else images)
    mean, std = _scale(preprocess.mean, preprocess.std, pixels.shape[2], pixels.device)
    rows = pixels.flatten(2).to(torch.float32, copy=True).sub_(mean).div_(std)  # along whole rows: several times faster
    return rows.view(pixels.shape).permute(0, 3, 1, 2)


@functools.cache
def _scale(mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Both times 255 for a row of pixels; kept, since moving even three numbers to a GPU makes the host wait for it."""
    row = (torch.tensor(values, device=device).mul(255.0).repeat(width) for values in (mean, std))
    return next(row), next(row)


def prepare(images: Sequence[ByteArray], preprocess: Preprocess) -> Tensor:
    """Decoded pictures of any sizes -> (B, 3, H, W) float32 network input."""
    stacked = np.stack([resize(image, preprocess.height, preprocess.width) for image in images])
    return normalise(stacked, preprocess)
