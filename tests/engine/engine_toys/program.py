"""Trains a toy, in the process of a test or in one of its own: killed, resumed, or as one rank of several."""

import os
import signal
import time

from visir.core.config import parse
from visir.core.types import ImageTable, Modality, Record
from visir.data.loading import sources
from visir.engine import checkpoint
from visir.engine.build import build
from visir.engine.fit import Stepped, fit
from visir.engine.runtime import Runtime, start
from visir.methods import catalog


def read(root):
    records = []
    for path in sorted(root.glob("*.png")):
        identity, modality, _ = path.stem.split("_")
        records.append(Record(path.name, int(identity), 1 + int(modality), Modality(int(modality))))
    return ImageTable.from_records(root, records)


def prepared(table, name, runtime, *, workers=0, seed=3, **options):
    """A fresh method and its batches."""
    config = parse(catalog.find(name).Config, options)
    method = build(name, config, len(table.identities()), seed=seed)
    return method, sources(
        table, method.streams(), seed=seed, rank=runtime.rank, world=runtime.world, workers=workers, cache_mib=1
    )


def train(table, name, *, epochs=2, runtime=None, workers=0, seed=3, resume=None, log_every=1, **options):
    """The method, and the generator of its training events."""
    runtime = runtime or Runtime()
    method, batches = prepared(table, name, runtime, workers=workers, seed=seed, **options)
    return method, fit(method, batches, runtime, epochs=epochs, resume=resume, seed=seed, log_every=log_every)


def die_in_save(number):
    calls = iter(range(1, number))
    real = os.fsync

    def fsync(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):  # noqa: PTH112 - a descriptor
            return real(handle)
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(handle)

    os.fsync = fsync


def job(root, run, names, epochs, environment, options):
    """Train with a checkpoint after every step, in a process of its own. KILL_IN_SAVE=n ends it in its n-th save."""
    os.environ.update(environment)
    if "KILL_IN_SAVE" in environment:
        die_in_save(int(environment["KILL_IN_SAVE"]))
    with start("cpu") as runtime:
        for name in names:
            newest = checkpoint.latest(run / name)
            state = None if newest is None else checkpoint.load(newest)
            _, events = train(read(root), name, epochs=epochs, runtime=runtime, resume=state, **options)
            for event in events:
                if isinstance(event, Stepped):
                    checkpoint.save(run / name if runtime.main else run / name / f"rank{runtime.rank}", event.state())
                    time.sleep(float(environment.get("PAUSE", 0)))
