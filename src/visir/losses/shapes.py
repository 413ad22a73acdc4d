"""What every loss checks of its arguments, with one sentence when it does not hold."""

from __future__ import annotations

from torch import Tensor

from visir.core.errors import TrainingError


def check_pairs(loss: str, visible: Tensor, infrared: Tensor, expected: str) -> None:
    """The two halves of a batch of pairs: equal shapes, as many dimensions as ``expected`` names, nothing empty.

    Args:
        loss: name for the message.
        visible: the visible half.
        infrared: the infrared half, row j of the same identity as visible row j.
        expected: the shape in words, such as ``"(N, D)"``.

    Raises:
        TrainingError: otherwise; it gives both shapes.
    """
    if visible.shape == infrared.shape and visible.dim() == expected.count(",") + 1 and visible.numel():
        return
    raise TrainingError(
        f"{loss}: expected visible and infrared features of one shape {expected}, "
        f"got {tuple(visible.shape)} and {tuple(infrared.shape)}; draw the batch as pairs."
    )
