"""Every method with a network trains and embeds with a transformer; a new one is found by its presence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
import timm
import torch
import yaml

from visir.core.batch import Batch
from visir.core.draws import Draw, IdentityBalanced, Pairs, Stream, Unpaired
from visir.core.errors import ConfigError
from visir.engine.build import build
from visir.engine.fit import Stepped, fit
from visir.engine.runtime import Runtime
from visir.methods import catalog
from visir.methods.base import FittedMethod, Method, MethodConfig

TRANSFORMER = "test_vit"  # patches of 16x16 pixels, a class token, 64 channels
HEIGHT, WIDTH = 64, 32
PEOPLE = 4
HINT = re.compile(r"with\.(\w+) to (\w+)")  # "set with.non_local to false": what such a network needs


def small_draw(draw: Draw) -> Draw:
    match draw:
        case Pairs():
            return replace(draw, pairs=4)
        case IdentityBalanced():
            return replace(draw, identities=2, images=2)
        case Unpaired():
            return replace(draw, images=4)


class Noise:
    """Batches of four visible and four infrared images of noise, as a source of images gives them."""

    steps_per_epoch = 2

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def batches(self, first: int, last: int, device: torch.device) -> Iterator[Batch]:
        for step in range(first, last):
            noise = torch.Generator().manual_seed(step)
            shape = (8, 3, self.stream.height, self.stream.width)
            yield Batch(
                images=torch.randn(shape, generator=noise),
                identity=torch.tensor([0, 0, 1, 1]).repeat(2) + 2 * (step % 2),
                camera=torch.ones(8, dtype=torch.int64),
                modality=torch.arange(2).repeat_interleave(4),
                converted=torch.randn(shape, generator=noise) if self.stream.converted else None,
            )


def with_transformer(name: str, config: MethodConfig) -> Method[Any]:
    """The method with the small transformer, and what it says that such a network needs."""
    given = {field.name: getattr(config, field.name) for field in fields(config)}
    streams = {
        key: replace(stream, draw=small_draw(stream.draw), height=HEIGHT, width=WIDTH)
        for key, stream in given.items()
        if isinstance(stream, Stream)
    }
    config = replace(config, backbone=TRANSFORMER, **streams)
    try:
        return build(name, config, PEOPLE, seed=0)
    except ConfigError as error:
        needs = {key: yaml.safe_load(value) for key, value in HINT.findall(str(error))}
        if not needs:
            raise
        return build(name, replace(config, **needs), PEOPLE, seed=0)


@pytest.mark.parametrize("name", catalog.available())
def test_trains_and_embeds_with_a_transformer(name: str) -> None:
    kind = catalog.find(name)
    config = kind.Config()
    if issubclass(kind, FittedMethod):
        pytest.skip(f"{name} is fitted to features that are given; it has no network to choose")
    try:
        method = with_transformer(name, config)
    except ConfigError as error:
        if timm.is_model(config.backbone):
            raise
        pytest.skip(
            f"{name} is published with {config.backbone!r}, none of timm's networks, and takes no other: {error}"
        )
    other = build(name, replace(method.config, backbone="tiny"), PEOPLE, seed=0)
    if set(other.state_dict()) == set(method.state_dict()):
        pytest.skip(f"{name} has networks of its own and no backbone to choose")
    before = {key: value.clone() for key, value in method.state_dict().items()}
    sources: Any = {key: Noise(stream) for key, stream in method.streams().items()}
    events = list(fit(method, sources, Runtime(), epochs=1, steps_per_epoch=2, log_every=1))
    assert sum(isinstance(event, Stepped) for event in events) == 2
    assert any("attn" in key for key in before), "there is no attention in it"
    assert any(not torch.equal(value, before[key]) for key, value in method.state_dict().items())
    batch = next(iter(Noise(Stream(height=HEIGHT, width=WIDTH)).batches(0, 1, torch.device("cpu"))))
    method.eval()
    with torch.no_grad():
        vectors = method.encoder(batch.images, batch.modality)
    assert vectors.shape == (8, method.encoder.dim)
    assert torch.isfinite(vectors).all()
    assert vectors.std(0).max() > 0


def test_some_methods_take_a_transformer() -> None:
    takes = [name for name in catalog.available() if timm.is_model(catalog.find(name).Config().backbone)]
    assert {"agw", "caj", "deen", "dfe"} <= set(takes)
