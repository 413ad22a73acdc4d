"""What sets of pictures are compared by, and how the comparison is stored and printed."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from visir.data.images import resize
from visir.experiment.quality import DIM, Likeness, form_and_colour, format_quality, grey, plain, read_quality


def test_features_are_of_form_and_of_colour() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (96, 48, 3)).astype(np.uint8)
    red = np.stack([image[..., 0], image[..., 1] // 2, image[..., 2] // 2], axis=-1)
    plain, tinted, small = form_and_colour([image, red, resize(image, 32, 16)])
    assert plain.shape == (DIM,) == (948,)
    assert (
        np.abs(plain[756 : 756 + 96].reshape(8, 4, 3) - image.reshape(8, 12, 4, 12, 3).mean((1, 3)) / 255).max() < 1e-6
    )
    deviation = (image / 255).reshape(8, 12, 4, 12, 3).std((1, 3))
    assert np.abs(plain[756 + 96 :].reshape(8, 4, 3) - deviation).max() < 1e-5
    assert np.linalg.norm(plain[:756]) == pytest.approx(1, abs=0.01)
    assert np.abs(plain[:756] - tinted[:756]).mean() < np.abs(plain[756:] - tinted[756:]).mean()
    assert np.abs(plain - small).max() > 0.01
    assert (form_and_colour([image])[0] == plain).all()
    assert (grey(image) == grey(grey(image))).all()


def test_quality_is_stored_and_printed() -> None:
    sides = {"converted": Likeness(1, math.inf, 1.0, 0.0, None), "unconverted": Likeness(1, 12.5, 0.25, 0.125, 3.0)}
    quality = {"v2ir": sides}
    assert read_quality(json.loads(json.dumps(plain(quality), allow_nan=False))) == quality
    lines = format_quality(quality).splitlines()
    assert lines[2].split() == ["visible", "to", "infrared", "converted", "1", "inf", "1.0000", "0.0000", "-"]
    assert lines[3].split()[-4:] == ["12.50", "0.2500", "0.1250", "3.0000"]
