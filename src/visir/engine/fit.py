"""The training loop, as an iterator of events: whoever reads it logs, draws the bar, validates, saves or stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from visir.core.errors import TrainingError
from visir.engine import ranks
from visir.engine.incoming import Incoming, Source
from visir.engine.runtime import Runtime
from visir.engine.state import State, about, capture, check, restore
from visir.engine.step import EngineStep
from visir.engine.window import Window
from visir.methods.base import Method


@dataclass(frozen=True, eq=False)
class Stepped:
    """``log_every`` steps were done, or those to the end of the epoch.

    Attributes:
        step: number of steps done since the training began.
        epoch: fractional epochs done.
        losses: term -> mean over these steps and all ranks.
        rates: optimizer (and group) -> learning rate of the last of these steps.
        seconds: wall time of these steps, without what the reader of the events did.
        waited: the part of it that was spent waiting for batches.
        images: number of images in these steps over all ranks.
        state: copies the state after this step; call it before going on.
    """

    step: int
    epoch: float
    losses: Mapping[str, float]
    rates: Mapping[str, float]
    seconds: float
    waited: float
    images: int
    state: Callable[[], State]


@dataclass(frozen=True, eq=False)
class EpochEnded:
    """A whole epoch was done; the :class:`Stepped` of its last step came before.

    Attributes:
        epoch: number of epochs done.
        step: number of steps done.
        state: copies the state after this step; call it before going on.
    """

    epoch: int
    step: int
    state: Callable[[], State]


Event = Stepped | EpochEnded


def fit(
    method: Method[Any],
    sources: Mapping[str, Source],
    runtime: Runtime,
    *,
    epochs: int,
    steps_per_epoch: int | None = None,
    resume: State | None = None,
    seed: int = 0,
    data: str = "",
    log_every: int = 50,
) -> Iterator[Event]:
    """Train.

    The method is moved to the runtime's device. All ranks must read the events alike; only one should write files.
    Between events the reader may use the method as it likes (``eval()``, embedding) as long as it leaves the weights.
    A training that goes on from a state gives the same bits as one that never stopped, on the same machine.

    Args:
        method: fresh from :func:`visir.engine.build.build`.
        sources: the batches of every stream that the method asks for.
        runtime: from :func:`visir.engine.runtime.start`.
        epochs: where to stop, counted from the beginning, not from ``resume``.
        steps_per_epoch: None for the count of the first source.
        resume: a state to go on from.
        seed: of the run.
        data: names the training images, such as a digest of them; a state that was made with others is refused.
        log_every: steps between :class:`Stepped` events; on a GPU also between looks for non-finite losses.

    Raises:
        CheckpointError: ``resume`` is of another method, configuration, number of identities, seed or data.
        TrainingError: while running, the first loss term that is not finite; step and terms are named.
        ImageError: while running, a file that cannot be decoded.
    """
    missing = set(method.streams()) - set(sources)
    if missing:
        raise TrainingError(f"the method asks for batches named {sorted(missing)}; sources has {sorted(sources)}.")
    per_epoch = steps_per_epoch or next(iter(sources.values())).steps_per_epoch
    origin = about(method, seed=seed, steps_per_epoch=per_epoch, data=data)
    if resume is not None:
        check(resume, origin)
    method.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
    optims = method.optimizers()
    step = EngineStep(optims, runtime, seed=seed, steps_per_epoch=per_epoch)
    first = 0
    if resume is not None:
        restore(resume, method, optims, step)
        first = resume.step
    if runtime.world > 1:
        ranks.broadcast(method.state_dict().values())
    if runtime.compile:
        method.encoder.compile()

    def state(done: int) -> Callable[[], State]:
        return lambda: capture(method, optims, step, done=done, origin=origin)

    return _loop(method, sources, runtime, step, range(first, epochs * per_epoch), log_every, state)


def _loop(
    method: Method[Any],
    sources: Mapping[str, Source],
    runtime: Runtime,
    step: EngineStep,
    indices: range,
    log_every: int,
    state: Callable[[int], Callable[[], State]],
) -> Iterator[Event]:
    with closing(Incoming(method, sources, runtime, indices.stop)) as incoming:
        window = Window(runtime)
        for index in indices:
            step.begin(index)
            with window.waiting():
                batches = incoming.at(index, step.epoch)
            method.train()
            with runtime.autocast(), runtime.joint():
                terms = method.train_step(batches, step)
            window.add(index, terms, sum(len(batch) for batch in batches.values()))
            del batches, terms  # with what their graphs still hold, before the next step needs the room
            if (index + 1) % log_every and not step.ends_epoch and not step.halted:
                continue
            yield from _events(window, runtime, step, state(index + 1))
            window.restart()


def _events(window: Window, runtime: Runtime, step: EngineStep, state: Callable[[], State]) -> Iterator[Event]:
    losses = window.read()
    if step.halted:
        raise TrainingError(
            f"step {step.index}: the minimized loss is not finite although every named term is "
            f"({', '.join(f'{name} {value:.6g}' for name, value in losses.items())}). Training stops; saved "
            "checkpoints are untouched."
        )
    done = step.index + 1
    images = window.images * runtime.world
    yield Stepped(done, step.epoch_after, losses, step.rates, window.seconds, window.waited, images, state)
    if step.ends_epoch:
        yield EpochEnded(round(step.epoch_after), done, state)
