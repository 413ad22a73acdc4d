"""Run jobs: skip what is finished, go on where something stopped, one row on each device, and go past what fails."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from visir.core.errors import VisirError
from visir.experiment.evaluate import evaluate_run
from visir.experiment.train import train
from visir.reproduce.jobs import Job, obstacle, scores


def run_jobs(jobs: Sequence[Job], *, devices: Sequence[str] = (), parallel: int = 1) -> dict[Path, str]:
    """Train and evaluate every job that is not finished.

    A job that fails is told and left, and the others go on; the same command again takes up what is left.

    Args:
        jobs: in this order.
        devices: one job at a time on each, such as ("cuda:0", "cuda:1"); none for what there is.
        parallel: jobs at a time on each device.

    Returns:
        run folder -> why the job was not finished.
    """
    unfinished: dict[Path, str] = {}
    waiting = []
    for job in jobs:
        reason = obstacle(job)
        if reason is not None:
            unfinished[job.folder] = reason
            _say(f"{job.title}: left out; {reason}")
        elif scores(job) is None:
            waiting.append(job)
    ready = len(jobs) - len(waiting) - len(unfinished)
    _say(f"{len(jobs)} runs: {ready} finished before, {len(waiting)} to do")
    places = [device for device in (devices or [""]) for _ in range(parallel)]
    if len(places) == 1:
        return unfinished | _one_by_one(waiting, places[0] or None)
    return unfinished | _side_by_side(waiting, places)


def _one_by_one(jobs: Sequence[Job], device: str | None) -> dict[Path, str]:
    failed: dict[Path, str] = {}
    for number, job in enumerate(jobs, start=1):
        _say(f"[{number}/{len(jobs)}] {job.title}")
        started = time.monotonic()
        error = run_job(job, device)
        _ended(job, error, time.monotonic() - started, failed)
    return failed


def _side_by_side(jobs: Sequence[Job], places: Sequence[str]) -> dict[Path, str]:
    failed: dict[Path, str] = {}
    free, left = list(places), list(enumerate(jobs, start=1))
    running: dict[Future[str | None], tuple[Job, str, float]] = {}
    with ProcessPoolExecutor(len(places), mp_context=multiprocessing.get_context("spawn")) as pool:
        while left or running:
            while left and free:
                number, job = left.pop(0)
                place = free.pop(0)
                _say(f"[{number}/{len(jobs)}] {job.title}{f', {place}' if place else ''}")
                running[pool.submit(run_job, job, place or None)] = (job, place, time.monotonic())
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, place, started = running.pop(future)
                free.append(place)
                error = future.exception()
                said = future.result() if error is None else f"{type(error).__name__}: {error}"
                _ended(job, said, time.monotonic() - started, failed)
    return failed


def run_job(job: Job, device: str | None = None) -> str | None:
    """Train (or go on training) and evaluate one job; the error in a sentence, None when all went well."""
    try:
        train(job.experiment, job.folder, device=device)
        evaluate_run(job.folder, protocols=job.protocols, device=device)
    except VisirError as error:
        return str(error)
    return None


def _ended(job: Job, error: str | None, seconds: float, failed: dict[Path, str]) -> None:
    if error is not None:
        failed[job.folder] = error
        _say(f"{job.title}: FAILED: {error}")
        return
    found: Mapping[str, object] = (scores(job) or {"reports": [{}]})["reports"][0]
    mean = found.get("mean")
    shown = f"rank-1 {100 * mean['rank1']:.2f}, mAP {100 * mean['mAP']:.2f}" if isinstance(mean, Mapping) else "scored"
    _say(f"{job.title}: {shown} ({found.get('protocol', '')}, {seconds:.0f} s)")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
