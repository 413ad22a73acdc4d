"""Features followed by a linear map of each modality that was learnt in closed form."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from visir.core.types import FloatArray


class Projected(nn.Module):
    """An encoder whose last part is fitted, not trained; until it is, the features pass as they are.

    Args:
        features: images (B, 3, H, W), modality (B,) -> (B, D), with the attribute ``dim`` = D.
        dim: k of the projection; fewer found directions are filled with zeros, which change no comparison.
        distance: how projected features are compared.
    """

    mean: Tensor
    visible: Tensor
    infrared: Tensor
    fitted: Tensor

    def __init__(self, features: nn.Module, *, dim: int, distance: Literal["cosine", "euclidean"]) -> None:
        super().__init__()
        self.features, self.projected_dim, self.distance = features, dim, distance
        raw = int(features.dim)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.zeros(2, raw))
        self.register_buffer("visible", torch.zeros(raw, dim))
        self.register_buffer("infrared", torch.zeros(raw, dim))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self._ready = False
        self.register_load_state_dict_post_hook(_look)  # type: ignore[no-untyped-call]

    @property
    def dim(self) -> int:
        """D before the fit, k after it."""
        return self.projected_dim if self._ready else int(self.features.dim)  # type: ignore[arg-type]

    def set(self, mean: FloatArray, visible: FloatArray, infrared: FloatArray) -> None:
        """Take what was learnt.

        Args:
            mean: subtracted first: (D,), or (2, D) for one of each modality, the visible one first.
            visible: (D, k') with k' <= k, the map of visible features.
            infrared: (D, k'), that of infrared ones.
        """
        self.mean.copy_(torch.from_numpy(mean))
        for buffer, found in ((self.visible, visible), (self.infrared, infrared)):
            buffer.zero_()
            buffer[:, : found.shape[1]] = torch.from_numpy(found)
        self.fitted.fill_(True)
        self._ready = True

    def forward(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W), (B,) -> (B, k), or (B, D) before the fit."""
        features: Tensor = self.features(images, modality)
        if not self._ready:
            return features
        with torch.autocast(features.device.type, enabled=False):
            seen, unseen = (
                (features.to(mean.dtype) - mean) @ own
                for mean, own in zip(self.mean, (self.visible, self.infrared), strict=True)
            )
            return torch.where((modality == 0)[:, None], seen, unseen)


def _look(module: nn.Module, incompatible: Any) -> None:
    """After weights were loaded: whether a fit was among them."""
    assert isinstance(module, Projected)
    module._ready = bool(module.fitted)
