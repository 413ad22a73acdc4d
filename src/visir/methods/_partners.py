"""Who exchanges with whom inside a batch: found by places alone, on every rank for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from visir.core.batch import Batch
from visir.core.draws import IdentityBalanced, Stream
from visir.core.errors import ConfigError, TrainingError


class Partners(NamedTuple):
    """Places in a batch of B images, its visible half first.

    Attributes:
        same: (B,) int64, another image of the same identity and modality.
        other: (B,) int64, an image of another identity; the partner of a partner is the image itself.
    """

    same: Tensor
    other: Tensor


@dataclass(frozen=True, eq=False)
class Exchange:
    """A batch taken apart and put together.

    Attributes:
        images: (B, 3, H, W).
        identity: (B,).
        partners: who exchanges with whom.
        boxes: (B, 4), what is erased where identity is learnt.
        tunes: whether this step trains the structure encoder on made pictures.
        appearance: (B, 4C) codes.
        structure: (B, S, h, w).
        own: (B, 3, H, W), made of the picture's own two codes.
        same: with the appearance of another picture of the same person.
        swapped: with the appearance of another person.
    """

    images: Tensor
    identity: Tensor
    partners: Partners
    boxes: Tensor
    tunes: bool
    appearance: Tensor
    structure: Tensor
    own: Tensor
    same: Tensor
    swapped: Tensor


def require_groups(method: str, stream: Stream) -> IdentityBalanced:
    """The draw of the stream; raise ConfigError unless batches hold pairs of people with several pictures each."""
    draw = stream.draw
    if isinstance(draw, IdentityBalanced) and draw.images >= 2 and draw.identities >= 2 and not draw.identities % 2:
        return draw
    raise ConfigError(
        f"with.stream.draw: {method} exchanges codes between two pictures of a person and between two people, got "
        f"{draw}; use kind 'identity_balanced' with an even number of identities and at least 2 images."
    )


def check_groups(method: str, batch: Batch, images: int) -> None:
    """Raise TrainingError unless each half is runs of ``images`` pictures of one person, two people at a time.

    It reads the labels, for which a GPU has to be waited for: look at the first batch only.
    """
    half = len(batch) // 2
    people = batch.identity[:half].tolist()
    runs = [people[first : first + images] for first in range(0, half, images)]
    fits = not half % (2 * images) and all(len(set(run)) == 1 for run in runs)
    if not fits or any(one[0] == other[0] for one, other in zip(runs[::2], runs[1::2], strict=True)):
        raise TrainingError(
            f"{method}: expected {images} visible pictures of a person, then of the next one, an even number of people "
            f"on each rank, got {half} visible pictures in another order; draw the batch as with.stream says, with an "
            "even number of identities for each rank."
        )


def partners(half: int, images: int, crossing: Tensor) -> Partners:
    """The partners of every image of a batch that :func:`check_groups` takes.

    People exchange two by two, picture k of one with picture k of the other. Where they cross, visible pictures
    exchange with infrared ones, otherwise each half by itself; the four pictures concerned do the same.

    Args:
        half: number of images of each modality.
        images: number of pictures of a person in a half.
        crossing: (half / 2,) bool on the CPU, for pair of people 0 with picture 0, with picture 1, and so on.

    >>> found = partners(4, 2, torch.tensor([False, True]))  # persons a, a, b, b in both halves
    >>> found.same.tolist(), found.other.tolist()
    ([1, 0, 3, 2, 5, 4, 7, 6], [2, 7, 0, 5, 6, 3, 4, 1])
    """
    place = torch.arange(half)
    person, picture = place // images, place % images
    same = person * images + (picture + 1) % images
    neighbour = (person ^ 1) * images + picture
    crosses = crossing[(person // 2) * images + picture]
    moved = torch.where(crosses, half, 0)
    return Partners(torch.cat([same, half + same]), torch.cat([neighbour + moved, neighbour + half - moved]))
