"""Pictures of exchanges for people to look at: every structure with every appearance, and structure as a grey map."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from visir.core.batch import Batch
from visir.core.grid import Grid
from visir.losses.precision import full
from visir.nets.ranges import shown

PEOPLE = 3  # each with a picture of both modalities: a matrix of six and the originals


def chosen(batch: Batch, images: int) -> tuple[Tensor, tuple[str, ...]]:
    """A picture of each of the first people in both modalities, (n, 3, H, W), and a heading for each.

    Args:
        batch: its visible half first, runs of ``images`` pictures of one person.
        images: number of pictures of a person in a half.
    """
    half = len(batch) // 2
    rows = list(range(0, half, images))[:PEOPLE]
    headings = (f"{kind} {number + 1}" for kind in ("visible", "infrared") for number in range(len(rows)))
    return batch.images[[*rows, *(half + row for row in rows)]], tuple(headings)


def exchange_matrix(
    images: Tensor, headings: tuple[str, ...], appearance: Tensor, structure: Tensor, paint: Callable[..., Tensor]
) -> Grid:
    """Rows: whose structure; columns: whose appearance; the first row and column are the pictures themselves.

    Args:
        images: (n, 3, H, W), normalised.
        headings: for each.
        appearance: (n, A), their codes.
        structure: (n, S, h, w), their structures.
        paint: (b, A), (b, S, h, w) -> (b, 3, H, W), normalised.
    """
    count = len(images)
    made = paint(appearance.repeat(count, 1), structure.repeat_interleave(count, dim=0))
    originals = _seen(images)
    cells = _seen(made).view(count, *originals.shape)
    top = torch.cat([torch.ones_like(originals[:1]), originals])
    return Grid(
        images=torch.cat([top.unsqueeze(0), torch.cat([originals.unsqueeze(1), cells], dim=1)]),
        columns=("", *headings),
        rows=("appearance of", *(f"structure of {heading}" for heading in headings)),
        caption="Each picture has the structure of its row (first column) and the appearance of its column (first row);"
        " on the diagonal it should be the picture itself. A good exchange keeps pose and background along a row, and "
        "clothes and spectrum along a column.",
    )


def structure_maps(images: Tensor, headings: tuple[str, ...], structure: Tensor) -> Grid:
    """What a structure keeps: beside each picture, the mean magnitude of all channels, darkest to brightest.

    Args:
        images: (n, 3, H, W), normalised.
        headings: for each.
        structure: (n, S, h, w), their structures.
    """
    magnitude = full(structure).abs().mean(dim=1, keepdim=True)
    low, high = magnitude.amin((2, 3), keepdim=True), magnitude.amax((2, 3), keepdim=True)
    grey = (magnitude - low) / (high - low).clamp_min(1e-6)
    enlarged = torch.nn.functional.interpolate(grey, size=images.shape[2:], mode="nearest")
    return Grid(
        images=torch.stack([_seen(images), enlarged.expand_as(images).float().cpu()], dim=1),
        columns=("picture", "structure"),
        rows=headings,
        caption="The structure that is found in a picture: bright where the channels are far from zero. It should show "
        "outline and background, and look alike for both modalities.",
    )


def _seen(images: Tensor) -> Tensor:
    return shown(full(images)).float().cpu()
