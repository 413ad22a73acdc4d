"""Numbers of colour that everything shares: what batches are normalised with, and how colour becomes grey."""

from __future__ import annotations

MEAN = (0.485, 0.456, 0.406)
"""Of ImageNet's red, green and blue, on the scale 0..1."""

DEVIATION = (0.229, 0.224, 0.225)
"""Their standard deviations."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey, ITU-R BT.601."""
