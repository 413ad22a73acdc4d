"""What methods that compare the spectra check of their streams and batches."""

from __future__ import annotations

from visir.core.batch import Batch
from visir.core.draws import IdentityBalanced, Pairs, Stream
from visir.core.errors import ConfigError, TrainingError
from visir.core.types import Modality


def require_pairs(method: str, stream: Stream) -> None:
    """Raise ConfigError unless the stream draws images of one identity in both spectra."""
    if not isinstance(stream.draw, Pairs | IdentityBalanced):
        raise ConfigError(
            f"with.stream.draw: {method} compares images of one identity across spectra, got kind "
            f"{stream.draw.kind!r}; use 'pairs' or 'identity_balanced'."
        )


def check_halves(method: str, batch: Batch) -> None:
    """Raise TrainingError unless N visible images come first, then N infrared ones of the same identities in order.

    It reads the labels, for which a GPU has to be waited for: look at the first batch only.
    """
    half = len(batch) // 2
    modality, identity = batch.modality.tolist(), batch.identity.tolist()
    expected = [int(Modality.VISIBLE)] * half + [int(Modality.INFRARED)] * half
    if not half or modality != expected or identity[:half] != identity[half:]:
        raise TrainingError(
            f"{method}: expected a batch of N visible images followed by N infrared ones of the same identities in the "
            f"same order, got {len(batch)} images in another order; draw it with Pairs or IdentityBalanced."
        )
