"""Small copies of pictures for ranked lists. A picture that cannot be read becomes a blank, never an error."""

from __future__ import annotations

import base64
import functools
import io
from pathlib import Path

import numpy as np
from PIL import Image

from visir.core.errors import ImageError
from visir.core.types import ByteArray
from visir.data.images import decode, resize

HEIGHT, WIDTH = 192, 96  # pixels: sharp at twice the size shown on the page
PAPER = 236  # grey level of blanks
QUALITY = 82


@functools.lru_cache(maxsize=512)
def thumbnail(path: Path) -> ByteArray | None:
    """(192, 96, 3) uint8: the whole picture in its own proportions; None where it cannot be decoded.

    What is left beside or above it is filled with a blurred copy, so that rows of pictures look even.
    """
    try:
        picture = decode(path)
    except ImageError:
        return None
    scale = min(HEIGHT / picture.shape[0], WIDTH / picture.shape[1])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    fitted = resize(resize(picture, 6, 3), HEIGHT, WIDTH)
    top, left = (HEIGHT - height) // 2, (WIDTH - width) // 2
    fitted[top : top + height, left : left + width] = resize(picture, height, width)
    fitted.flags.writeable = False
    return fitted


def blank() -> ByteArray:
    """What is shown where a picture cannot be read: light grey with a diagonal."""
    empty = np.full((HEIGHT, WIDTH, 3), PAPER, np.uint8)
    rows = np.arange(HEIGHT)
    for shift in (0, 1):
        empty[rows, np.minimum(rows // 2 + shift, WIDTH - 1)] = 190
    return empty


def jpeg_address(picture: ByteArray) -> str:
    """(H, W, 3) uint8 as a ``data:`` address that a page can show without another file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return data_address("image/jpeg", buffer.getvalue())


def data_address(kind: str, content: bytes) -> str:
    """Bytes as a ``data:`` address.

    >>> data_address("text/plain", b"hi")
    'data:text/plain;base64,aGk='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
