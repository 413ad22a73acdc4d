"""Triples by fixed places: of a person's two pictures, and one of the person next to them in the batch."""

from __future__ import annotations

from torch import Tensor

from visir.core.batch import Batch
from visir.core.draws import IdentityBalanced, Stream
from visir.core.errors import ConfigError
from visir.methods._halves import check_halves
from visir.methods._partners import check_groups


def require_neighbours(method: str, stream: Stream) -> int:
    """How many pictures of a person and a spectrum a batch of the stream has.

    Raises:
        ConfigError: a stream that does not draw an even number of people.
    """
    draw = stream.draw
    if not isinstance(draw, IdentityBalanced):
        raise ConfigError(
            f"with.stream.draw: {method} finds another person at a fixed place of the batch, got kind {draw.kind!r}; "
            "use 'identity_balanced' with an even number of identities."
        )
    if draw.identities % 2:
        raise ConfigError(
            f"with.stream.draw.identities: {method} takes people two by two, got {draw.identities}; use an even number."
        )
    return draw.images


def of_neighbour(rows: Tensor, images: int) -> Tensor:
    """(P * K, ...) -> at each place what stands at the same place of the next person: 1 for 0, 0 for 1, 3 for 2, ...

    Args:
        rows: of one half of the batch, K in a row of each of P people.
        images: K.

    >>> import torch
    >>> of_neighbour(torch.arange(8), 2).tolist()
    [2, 3, 0, 1, 6, 7, 4, 5]
    """
    return rows.reshape(-1, 2, images, *rows.shape[1:]).flip(1).reshape(rows.shape)


def check_neighbours(method: str, batch: Batch, images: int) -> None:
    """Raise TrainingError unless both halves have K pictures in a row of each person, and an even number of people.

    It reads the labels, for which a GPU has to be waited for: look at the first batch only.
    """
    check_halves(method, batch)
    check_groups(method, batch, images)
