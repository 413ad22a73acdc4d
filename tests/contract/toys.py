"""What the method contract trains on: small networks, and people who are a coarse pattern in both spectra."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from visir.core.batch import Batch
from visir.core.draws import Draw, IdentityBalanced, Pairs, Stream, Unpaired
from visir.core.seeds import generator
from visir.core.types import FloatArray, IntArray, Modality
from visir.engine.build import build
from visir.engine.fit import EpochEnded, Stepped, fit
from visir.engine.runtime import Runtime
from visir.engine.state import State
from visir.methods import catalog
from visir.methods.base import Method, MethodConfig

PEOPLE = 6
CPU = torch.device("cpu")


def small_draw(draw: Draw) -> Draw:
    """The same kind of batch with eight images of each modality."""
    match draw:
        case Pairs():
            return replace(draw, pairs=8)
        case IdentityBalanced():
            return replace(draw, identities=4, images=2)
        case Unpaired():
            return replace(draw, images=8)


def small(stream: Stream) -> Stream:
    return replace(stream, draw=small_draw(stream.draw), height=48, width=24)


EPOCHS = 20


def small_config(name: str, epochs: int = EPOCHS) -> MethodConfig:
    """The method's own options with the narrowest networks, pictures of 48x24, one rate and nothing dropped.

    Phases share ``epochs`` equally. Rates of generators and discriminators stay as published.
    """
    config = catalog.find(name).Config()
    assert isinstance(config, MethodConfig)
    known = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    changes: dict[str, Any] = {"backbone": "tiny"}
    changes |= {key: small(value) for key, value in known.items() if isinstance(value, Stream)}
    phases = [key for key in known if key.endswith("_epochs")]
    changes |= dict.fromkeys(phases, epochs / (len(phases) + 1))
    if "erase" in known:  # an erased box is flat: of its equal maxima rounding chooses one, on two ranks another
        changes["erase"] = 0.0
    if "width" in known:
        changes["width"] = known["width"] // 8
    if "narrowing" in known:  # 512 numbers tell 395 people apart, 8 six; identity loss leaves all others as they began
        changes["narrowing"] = 32
    if "mirror" in known:  # toy people are never seen mirrored
        changes["mirror"] = False
    if "recipe" in known:  # rates and drops of the paper are for pretrained networks and many epochs
        rates = {
            "optimizer": "sgd",
            "backbone_rate": 0.02,
            "head_rate": 0.02,
            "momentum": 0.9,
            "warmup": 0,
            "drops": (14.0,),
        }
        changes["recipe"] = replace(known["recipe"], **rates)
    if "dropout" in known:  # what is dropped differs from rank to rank
        changes["dropout"] = 0.0
    return replace(config, **changes)


def picture(identity: int, modality: Modality, rng: np.random.Generator) -> FloatArray:
    """(3, 48, 24) float32: the person's own pattern of 4x2 blocks in coloured noise.

    What is bright in one spectrum is dark in the other, and the whole is brighter one time than another: without
    training, pictures of one person are not alike across the spectra.
    """
    own = generator(identity, "toy person").standard_normal((4, 2))
    blocks = np.repeat(np.repeat(own, 12, 0), 12, 1)
    if modality == Modality.VISIBLE:
        return np.asarray(blocks + rng.normal(0, 0.5, (3, 1, 1)) + rng.normal(0, 0.3, (3, 48, 24)), np.float32)
    grey = -blocks + rng.normal(0, 0.5) + rng.normal(0, 0.3, (48, 24))
    return np.repeat(grey[None], 3, 0).astype(np.float32)


class ToySource:
    """Batches of toy people as :class:`visir.data.loading.Source` gives them; a function of the step."""

    def __init__(
        self,
        draw: Draw,
        *,
        steps_per_epoch: int,
        rank: int = 0,
        world: int = 1,
        dtype: torch.dtype = torch.float32,
        converted: bool = False,
    ) -> None:
        self.draw, self.steps_per_epoch, self.rank, self.world = draw, steps_per_epoch, rank, world
        self.dtype, self.converted = dtype, converted

    def batch(self, step: int) -> Batch:
        """This rank's share of the batch of all ranks: its visible half, then its infrared half."""
        rng = generator(0, "toy batch", step)
        people = self._people(rng)
        share = len(people[0]) // self.world
        mine = slice(self.rank * share, (self.rank + 1) * share)
        images = [
            np.stack([picture(person, modality, rng) for person in people[modality].tolist()])[mine]
            for modality in Modality
        ]
        made = [
            np.stack([picture(person, Modality(1 - m), rng) for person in people[m].tolist()])[mine] for m in Modality
        ]
        return Batch(
            converted=torch.from_numpy(np.concatenate(made)).to(self.dtype) if self.converted else None,
            images=torch.from_numpy(np.concatenate(images)).to(self.dtype),
            identity=torch.from_numpy(np.concatenate([half[mine] for half in people])),
            camera=torch.arange(1, 3).repeat_interleave(share),
            modality=torch.arange(2).repeat_interleave(share),
        )

    def batches(self, first: int, last: int, device: torch.device) -> Iterator[Batch]:
        """Batches in order."""
        for step in range(first, last):
            yield self.batch(step).to(device)

    def _people(self, rng: np.random.Generator) -> list[IntArray]:
        match self.draw:
            case Pairs(pairs=pairs):
                return [rng.integers(0, PEOPLE, pairs)] * 2
            case IdentityBalanced(identities=identities, images=images):
                return [np.repeat(rng.choice(PEOPLE, identities, replace=False), images)] * 2
            case Unpaired(images=images):
                return [rng.integers(0, PEOPLE, images) for _ in Modality]


def sources(method: Method[Any], *, steps_per_epoch: int, rank: int = 0, world: int = 1) -> dict[str, ToySource]:
    """A source for every stream of the method."""
    dtype = next(method.parameters()).dtype
    return {
        name: ToySource(
            small_draw(stream.draw),
            steps_per_epoch=steps_per_epoch,
            rank=rank,
            world=world,
            dtype=dtype,
            converted=stream.converted,
        )
        for name, stream in method.streams().items()
    }


def made(name: str, epochs: int = EPOCHS) -> Method[Any]:
    """The method with small networks, untrained; its phases share ``epochs`` equally."""
    return build(name, small_config(name, epochs), PEOPLE, seed=3)


def trained(
    method: Method[Any],
    *,
    epochs: int,
    steps_per_epoch: int,
    runtime: Runtime | None = None,
    resume: State | None = None,
) -> tuple[State, list[Mapping[str, float]]]:
    """The state after training on toy people, and the loss terms of each epoch."""
    runtime = runtime or Runtime()
    given = sources(method, steps_per_epoch=steps_per_epoch, rank=runtime.rank, world=runtime.world)
    state, terms = None, []
    for event in fit(method, given, runtime, epochs=epochs, steps_per_epoch=steps_per_epoch, resume=resume, seed=5):
        match event:
            case Stepped():
                terms.append(event.losses)
            case EpochEnded():
                state = event.state()
    assert state is not None
    return state, terms


def rank1(method: Method[Any]) -> float:
    """Share of fresh infrared pictures whose nearest fresh visible picture shows the same person."""
    rng = generator(0, "toy test")
    people = np.arange(PEOPLE).repeat(8)
    embedded = []
    method.eval()
    with torch.no_grad():
        for modality in Modality:
            images = torch.from_numpy(np.stack([picture(person, modality, rng) for person in people.tolist()]))
            features = method.encoder(images, torch.full((len(people),), int(modality)))
            embedded.append(torch.nn.functional.normalize(features.float()))
    nearest = (embedded[1] @ embedded[0].T).argmax(1)
    return float((torch.from_numpy(people)[nearest] == torch.from_numpy(people)).float().mean())
