"""Run jobs: skip what is finished, go on where something stopped, one row on each device, and go past what fails."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial
from pathlib import Path

from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.base import without_partition
from visir.core.errors import CheckpointError, ConfigError, StorageError, VisirError
from visir.core.files import write_text
from visir.experiment.evaluate import evaluate_run
from visir.experiment.folder import RunFolder
from visir.experiment.train import train
from visir.reproduce.jobs import Job, obstacle
from visir.reproduce.locks import FOLDER as LOCKS
from visir.reproduce.locks import hold, tidy
from visir.reproduce.outcome import finished
from visir.reproduce.workers import Workers

BUSY = "another visir runs it"
TRACES = "errors"  # what is no sentence for users
NOTHING: Mapping[str, str] = {}


def run_jobs(
    jobs: Sequence[Job], *, devices: Sequence[str] = (), parallel: int = 1, data: Mapping[str, str] = NOTHING
) -> dict[Path, str]:
    """Train and evaluate every job that is not finished.

    A job that fails is told and left, and the others go on; the same command again takes up what is left. A job that
    another process runs is left to it, and waited for at the end.

    Args:
        jobs: in this order.
        devices: one job at a time on each, such as ("cuda:0", "cuda:1"); none for what there is.
        parallel: jobs at a time on each device.
        data: benchmark -> what its data are called, to be kept beside the scores.

    Returns:
        run folder -> why the job was not finished.
    """
    unfinished: dict[Path, str] = {}
    waiting = []
    for job in jobs:
        reason = obstacle(job)
        if reason is not None:
            unfinished[job.folder] = reason
            say(f"{job.title}: left out; {reason}")
        elif finished(job) is None:
            waiting.append(job)
    ready = len(jobs) - len(waiting) - len(unfinished)
    say(f"{len(jobs)} {'run' if len(jobs) == 1 else 'runs'}: {ready} finished before, {len(waiting)} to do")
    places = [device for device in (devices or [""]) for _ in range(parallel)]
    unfinished |= _converted(waiting, places[0] or None)
    waiting = [job for job in waiting if job.folder not in unfinished]
    if len(places) == 1:
        return unfinished | _one_by_one(waiting, places[0] or None, data)
    return unfinished | _side_by_side(waiting, places[: len(waiting)], data)


def _converted(jobs: Sequence[Job], device: str | None) -> dict[Path, str]:
    """Make the converted images that jobs share, each set once; the jobs whose images could not be made, and why."""
    failed: dict[Path, str] = {}
    errors: dict[Path, str | None] = {}
    for job in jobs:
        needed = job.preparation
        if needed is None:
            continue
        if needed.images not in errors:
            say(f"{job.title}: first {needed.experiment.method}, and its converted images")
            errors[needed.images] = _made(job, partial(needed.make, device=device))
        error = errors[needed.images]
        if error is not None:
            _ended(job, f"no converted images: {error}", 0.0, failed)
    return failed


def _made(job: Job, make: Callable[[], None]) -> str | None:
    """Make what a job needs before, one process at a time; the error in a sentence."""
    assert job.preparation is not None
    base, place = job.folder.parents[1], job.preparation.images
    name = "-".join(place.parts[-2:])

    def work() -> None:
        with hold(base / LOCKS / name, waiting=lambda: say(f"{job.title}: another visir makes them; waiting")):
            tidy(place.parent)
            make()

    return attempt(work, base / TRACES / f"{name}.txt")


def attempt(work: Callable[[], object], traces: Path) -> str | None:
    """The error in a sentence, None when all went well; what nobody has foreseen is kept in the file ``traces``."""
    try:
        work()
    except VisirError as error:
        return str(error)
    except Exception as error:  # a lack of memory, a mistake in a method of one's own: the other rows go on
        with contextlib.suppress(StorageError):
            write_text(traces, traceback.format_exc())
        first = next(iter(str(error).splitlines()), "")
        return f"{type(error).__name__}: {first} ({traces} tells where)"
    traces.unlink(missing_ok=True)
    return None


def _one_by_one(jobs: Sequence[Job], device: str | None, data: Mapping[str, str]) -> dict[Path, str]:
    failed: dict[Path, str] = {}
    left = deque((number, job, False) for number, job in enumerate(jobs, start=1))
    while left:
        number, job, again = left.popleft()
        say(f"[{number}/{len(jobs)}] {job.title}")
        started = time.monotonic()
        error = run_job(job, device, data.get(job.benchmark, ""), patient=again)
        if error == BUSY:
            left.append(_postponed(number, job))
        else:
            _ended(job, error, time.monotonic() - started, failed)
    return failed


def _side_by_side(jobs: Sequence[Job], places: Sequence[str], data: Mapping[str, str]) -> dict[Path, str]:
    failed: dict[Path, str] = {}
    free = deque(range(len(places)))
    left = deque((number, job, False) for number, job in enumerate(jobs, start=1))
    running: dict[Future[str | None], tuple[int, Job, int, float]] = {}
    with Workers() as workers:
        while left or running:
            while left and free:
                (number, job, again), place = left.popleft(), free.popleft()
                device = places[place]
                say(f"[{number}/{len(jobs)}] {job.title}{f', {device}' if device else ''}")
                known = data.get(job.benchmark, "")
                future = workers.submit(place, run_job, job, device or None, known, patient=again)
                running[future] = (number, job, place, time.monotonic())
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number, job, place, started = running.pop(future)
                free.append(place)
                error = workers.error(place, future) or future.result()
                if error == BUSY:
                    left.append(_postponed(number, job))
                else:
                    _ended(job, error, time.monotonic() - started, failed)
    return failed


def _postponed(number: int, job: Job) -> tuple[int, Job, bool]:
    """The job for the end of the queue, where it is waited for."""
    say(f"{job.title}: {BUSY}; later")
    return number, job, True


def run_job(job: Job, device: str | None = None, data: str = "", *, patient: bool = True) -> str | None:
    """Train (or go on training) and evaluate one job.

    Args:
        job: what to run.
        device: where; None for what there is.
        data: what its data are called, kept beside the scores.
        patient: wait while another process runs it.

    Returns:
        the error in a sentence, :data:`BUSY` when it was not waited for, None when all went well.
    """
    base, name = job.folder.parents[1], job.folder.name
    busy = False

    def work() -> None:
        nonlocal busy
        lock = base / LOCKS / name
        with hold(lock, wait=patient, waiting=lambda: say(f"{job.title}: {BUSY}; waiting for it")) as held:
            busy = not held
            if held and finished(job) is None:
                tidy(job.folder)
                train_job(job, device)
                facts = {"data": data} if data else None
                evaluate_run(job.folder, protocols=_protocols(job), device=device, facts=facts)

    error = attempt(work, base / TRACES / f"{name}.txt")
    return BUSY if busy else error


def _protocols(job: Job) -> tuple[str, ...]:
    """What a job is scored by: with what it was scored by for another table, so that neither loses its figures."""
    before = finished(replace(job, protocols=()))
    known = map(without_partition, benchmarks.find(job.benchmark).protocols(job.experiment.benchmark.draw))
    scored = {without_partition(report["protocol"]) for report in (before or {"reports": []})["reports"]}
    return tuple(dict.fromkeys((*job.protocols, *(name for name in known if name in scored))))


def train_job(job: Job, device: str | None) -> None:
    """Train a job, or go on; errors name the folder to be removed where a training cannot be gone on with."""
    try:
        train(job.experiment, job.folder, device=device)
    except (CheckpointError, ConfigError) as error:
        resumed = isinstance(error, CheckpointError) and RunFolder(job.folder).checkpoints.is_dir()
        if not resumed and not str(error).startswith(str(job.folder)):
            raise
        said = str(error).replace(", or begin again with --fresh", "")  # an option of a single training
        raise type(error)(f"{said} Remove {job.folder} to begin this run again.") from error


def _ended(job: Job, error: str | None, seconds: float, failed: dict[Path, str]) -> None:
    if error is not None:
        failed[job.folder] = error
        say(f"{job.title}: FAILED: {error}")
        return
    found: Mapping[str, object] = (finished(job) or {"reports": [{}]})["reports"][0]
    mean = found.get("mean")
    shown = f"rank-1 {100 * mean['rank1']:.2f}, mAP {100 * mean['mAP']:.2f}" if isinstance(mean, Mapping) else "scored"
    say(f"{job.title}: {shown} ({found.get('protocol', '')}, {seconds:.0f} s)")


def say(line: str) -> None:
    """A line for people, beside the bars."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
