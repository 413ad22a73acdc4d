"""Pictures for people to look at, as values: rows and columns of images with their headings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Grid:
    """A table of images.

    Attributes:
        images: (rows, columns, 3, H, W) float on the CPU, red, green and blue in 0..1; what lies outside is cut.
        columns: a heading for each column, such as "visible".
        caption: a sentence that says what is seen and what to look for.
        rows: a heading for each row, or none at all.

    Raises:
        ValueError: headings that do not fit the images.
    """

    images: Tensor
    columns: tuple[str, ...]
    caption: str
    rows: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if len(shape) != 5 or shape[2] != 3 or shape[1] != len(self.columns) or len(self.rows) not in (0, shape[0]):
            raise ValueError(
                f"a grid needs (rows, columns, 3, H, W) images with a heading for each column, got {shape} with "
                f"{len(self.columns)} columns and {len(self.rows)} rows"
            )
