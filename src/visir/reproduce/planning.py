"""The runs that a command needs: planned, looked for, made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.manifest import read_manifest
from visir.core.errors import ConfigError
from visir.experiment.ablation import Ablation, Row
from visir.methods import catalog as methods
from visir.reproduce.jobs import Job, Setup, jobs, obstacle, unique
from visir.reproduce.outcome import Outcome, finished, outcome
from visir.reproduce.places import TWIN, make_start, make_twin, name_data
from visir.reproduce.protocols import benchmark_of
from visir.reproduce.request import Request, shortened
from visir.reproduce.run import run_jobs

Need = tuple[str, str]  # system, benchmark


class Runs:
    """The runs that are needed, by system and benchmark, and why others cannot be had.

    Args:
        setup: what all runs share; its data sets and weights need not be made yet.
        request: what the user asked for.
        choose: the option that chooses rows, for messages.
    """

    def __init__(self, setup: Setup, request: Request, *, choose: str) -> None:
        self.setup, self.request, self.choose = setup, request, choose
        self.jobs: dict[Need, list[Job]] = {}
        self.reasons: dict[Need, str] = {}
        self.failed: set[Need] = set()
        self.advice = ""
        self.comparable = not (setup.budget or request.twin or any(read_manifest(r) for r in setup.roots.values()))
        self._misfits: dict[Need, tuple[Ablation, Row, ConfigError]] = {}

    def want(self, ablation: Ablation, row: Row, benchmark: str, protocols: Iterable[str]) -> None:
        """Plan the runs of one row on one benchmark; what does not fit the row is told by :meth:`run`."""
        need = (ablation.system(row), benchmark)
        if benchmark not in self.setup.roots and not self.request.finished:
            self.reasons[need] = f"no folder of {benchmarks.find(benchmark).title} was given"
        elif benchmark not in ablation.benchmarks(row):
            self.reasons[need] = f"no experiment of it on {benchmarks.find(benchmark).title}"
        else:
            try:
                found = self.jobs.setdefault(need, [])
                found += jobs(ablation, row, benchmark, protocols, self.setup)
                if self.setup.settings and not self.request.finished:
                    _check_built(found[-1])
            except ConfigError as error:
                del self.jobs[need]
                self._misfits[need] = (ablation, row, error)

    def run(self) -> None:
        """Run what is missing, unless only finished runs are asked for.

        Raises:
            ConfigError: a setting that does not fit some rows, runs on other data, or nothing finished; nothing was
                run or made.
            DatasetError: a data set is not whole.
        """
        self._check_fit()
        self.jobs = {need: unique(found) for need, found in self.jobs.items()}
        wanted = unique([job for found in self.jobs.values() for job in found])
        if not wanted:
            why = [f"{system} on {benchmarks.find(name).title}: {why}" for (system, name), why in self.reasons.items()]
            raise ConfigError(f"nothing to run; {shortened(why, 3) or 'no row is left'}. Choose other rows or data.")
        missing = [job for job in wanted if obstacle(job) is None and finished(job) is None]
        if self.request.finished and not any(finished(job) for job in wanted):
            raise ConfigError(
                f"--finished: expected finished runs in {self.setup.output / 'runs'}, found none of the {len(wanted)} "
                "that are asked for; leave --finished out to run them, or give their --output and the same options."
            )
        failed: dict[Path, str] = {}
        if not self.request.finished:
            data = self._named_data(wanted)
            self._check_data(wanted, data)
            self._make_start(missing)
            failed = run_jobs(wanted, devices=self.request.devices, parallel=self.request.parallel, data=data)
        for need, found in self.jobs.items():
            for job in found:
                reason = obstacle(job)
                if reason is not None:
                    self.reasons[need] = reason
                elif job.folder in failed:
                    self.reasons[need] = f"not finished: {failed[job.folder]}"
                    self.failed.add(need)
                    if self.request.twin and str(self.setup.roots[need[1]]) in failed[job.folder]:
                        self.advice = "A twin is made again by the same command when its folder is removed."
        self.comparable = self.comparable and not any(_data(job).startswith(TWIN) for job in wanted)

    def _named_data(self, wanted: Iterable[Job]) -> dict[str, str]:
        """Benchmark -> name of its data, made first where it is a twin."""
        data = {}
        for name in sorted({job.benchmark for job in wanted}):
            if self.request.twin:
                make_twin(self.request, name, self.setup.output)
            data[name] = name_data(benchmarks.find(name), self.setup.roots[name], self.setup.draws)
        return data

    def _make_start(self, missing: Iterable[Job]) -> None:
        """Make the common weights, if a run starts from them."""
        budget, weights = self.setup.budget, self.setup.weights
        if budget is not None and any(job.experiment.options.weights == weights != "scratch" for job in missing):
            make_start(budget, self.setup.output)

    def _check_data(self, wanted: Iterable[Job], data: dict[str, str]) -> None:
        for job in wanted:
            theirs, ours = _data(job), data.get(job.benchmark, "")
            if theirs and ours and theirs != ours:
                raise ConfigError(
                    f"--output {self.setup.output}: {job.folder} is of other data ({theirs}) than "
                    f"{self.setup.roots[job.benchmark]} holds now ({ours}); give another --output."
                )

    def _check_fit(self) -> None:
        """Raise ConfigError for the first row that cannot be planned, naming all that a setting does not fit."""
        if not self._misfits:
            return
        unknown = [need for need, (_, _, error) in self._misfits.items() if "unknown key" in str(error)]
        need = next((need for need in self._misfits if need not in unknown), next(iter(self._misfits)))
        error = self._misfits[need][2]
        said = f"{need[0]} on {benchmarks.find(need[1]).title}: {error}"
        unfit = list(dict.fromkeys(system for system, _ in self._misfits))
        fit = list(dict.fromkeys(system for system, _ in self.jobs if system not in unfit))
        guilty = next((one for one in self.setup.settings if not self._fits(need, one)), None)
        if guilty is None:
            raise ConfigError(said) from error
        if not fit:
            raise ConfigError(f"--set {guilty} fits none of these rows ({said.rstrip('.')}).") from error
        raise ConfigError(
            f"--set {guilty} does not fit {shortened(unfit)} ({said.rstrip('.')}). It fits {shortened(fit)}: choose "
            f"rows that it fits with {self.choose}."
        ) from error

    def _fits(self, need: Need, setting: str) -> bool:
        ablation, row, _ = self._misfits[need]
        try:
            jobs(ablation, row, need[1], (), replace(self.setup, settings=(setting,)))
        except ConfigError:
            return False
        return True

    def outcome(self, system: str, protocol: str) -> Outcome | None:
        """The figures of a system by a protocol, if all of its runs are finished."""
        return outcome(self.jobs.get((system, benchmark_of(protocol)), []), protocol)


def _check_built(job: Job) -> None:
    """Raise ConfigError where a setting names a network, or a size for it, that the method cannot be built with.

    It is built without memory for weights, so that this is told before hours of other rows.
    """
    options = replace(job.experiment.options, weights="scratch")
    with torch.device("meta"):
        methods.find(job.experiment.method)(options, 8)


def _data(job: Job) -> str:
    """The name of the data that a finished run was scored on, as far as it says so."""
    found = finished(job)
    return "" if found is None else str(found.get("data", ""))
