"""Train an experiment: read the events of the engine; log, validate and save."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.base import Benchmark
from visir.core.config import digest
from visir.core.errors import CheckpointError, ConfigError, TrainingError
from visir.core.progress import Progress, progress
from visir.core.types import ImageTable
from visir.data.converted import converted_images
from visir.data.loading import sources
from visir.data.sampling import usable
from visir.engine import checkpoint
from visir.engine.build import build
from visir.engine.embedder import Embedder
from visir.engine.encoders import save_encoder
from visir.engine.fit import EpochEnded, Stepped, fit
from visir.engine.fitted import fit_sample
from visir.engine.runtime import Runtime, start
from visir.engine.state import State, about, check
from visir.evaluation.evaluate import evaluate
from visir.experiment.config import Experiment
from visir.experiment.evaluate import choose_protocols
from visir.experiment.folder import RunFolder
from visir.experiment.log import RunLog
from visir.experiment.pictures import Looks
from visir.methods.base import ConversionMethod, FittedMethod, Method


def train(experiment: Experiment, run: Path, *, fresh: bool = False, device: str | None = None) -> RunFolder:
    """Train into a run folder, going on from its newest checkpoint if it has one.

    Leaves experiment.yaml, log.jsonl, tensorboard/, checkpoints/ and, at the end, encoder/. The encoder is the one of
    the last epoch: validation is reported, nothing is chosen by it, and test images are not even read.

    Args:
        experiment: see :func:`visir.experiment.config.load`.
        run: folder of the run.
        fresh: forget what the folder holds and begin again.
        device: None or "auto" for a GPU where there is one, or "cpu", "cuda", "cuda:1".

    Raises:
        ConfigError: the folder holds a run of another experiment.
        DatasetError: the data set is missing or damaged.
        TrainingError: a loss became infinite or NaN; the last checkpoint is kept.
    """
    folder = RunFolder(run)
    benchmark = benchmarks.find(experiment.benchmark.name)
    _check_draw(experiment, benchmark)
    choose_protocols(experiment)  # a misspelt protocol is told now, not after the training
    table = usable(benchmark.read(experiment.root(), experiment.benchmark.split, experiment.benchmark.draw))
    settings = experiment.train
    with start(
        device or "auto",
        precision=settings.precision,
        channels_last=settings.channels_last,
        compile=settings.compile,
    ) as runtime:
        _check_folder(folder, experiment, fresh=fresh)
        method = build(experiment.method, experiment.options, len(table.identities()), seed=experiment.seed)
        training = Training(experiment, folder, runtime, method, table, benchmark, fresh=fresh)
        runtime.barrier()  # every rank has looked at the folder, and nothing is written before all is well
        if runtime.main:
            _claim(folder, experiment, fresh=fresh)
        runtime.barrier()
        training.run()
    return folder


BESIDE = {"twin", "gallery", "converter", "converted"}  # what else the demo, and what is made for a run, keep there


def _check_draw(experiment: Experiment, benchmark: Benchmark) -> None:
    if not 1 <= experiment.benchmark.draw <= benchmark.draws:
        raise ConfigError(
            f"benchmark.draw: {benchmark.title} has draws 1 to {benchmark.draws}, got {experiment.benchmark.draw}."
        )


def _check_folder(folder: RunFolder, experiment: Experiment, *, fresh: bool) -> None:
    """Raise ConfigError unless the folder is new, empty, or a run of this experiment (or is to be replaced)."""
    if folder.path.exists() and not folder.path.is_dir():
        raise ConfigError(f"{folder.path}: expected a folder for the run, got a file.")
    if folder.experiment_file.is_file():
        trained = folder.encoder.is_dir() or checkpoint.found(folder.checkpoints)
        if trained and not fresh and folder.read_experiment().digest() != experiment.digest():
            raise ConfigError(
                f"{folder.path}: holds a run of another experiment (its experiment.yaml differs from this one). "
                "Give another --run, or --fresh to replace it."
            )
    elif folder.path.is_dir() and {entry.name for entry in folder.path.iterdir()} - BESIDE:
        raise ConfigError(f"{folder.path}: holds files that are no run's. Give an empty or a new folder.")


def _claim(folder: RunFolder, experiment: Experiment, *, fresh: bool) -> None:
    """Store the configuration; with ``fresh``, first remove what an earlier training left."""
    if fresh:
        for old in (folder.checkpoints, folder.tensorboard, folder.pictures):
            shutil.rmtree(old, ignore_errors=True)
        folder.log.unlink(missing_ok=True)
        folder.forget_results()
    folder.write_experiment(experiment)


def _digest(table: ImageTable) -> str:
    """Names the training images by their places below the root, labels and sizes; the root itself may move."""
    sizes = [table.file(i).stat().st_size if path else 0 for i, path in enumerate(table.paths)]
    return digest([list(table.paths), table.identity.tolist(), table.camera.tolist(), sizes])


class Training:
    """One training in one process; rank 0 is the one that writes and talks."""

    def __init__(
        self,
        experiment: Experiment,
        folder: RunFolder,
        runtime: Runtime,
        method: Method[Any],
        table: ImageTable,
        benchmark: Benchmark,
        *,
        fresh: bool,
    ) -> None:
        self.experiment, self.folder, self.runtime = experiment, folder, runtime
        self.method, self.table, self.benchmark = method, table, benchmark
        self.validation = self._read_validation()
        settings = experiment.train
        folder_of_converted = experiment.converted()
        asked = experiment.converts()
        self.converted = converted_images(table, folder_of_converted, asked) if folder_of_converted and asked else None
        self.sources = sources(
            table,
            {} if isinstance(method, FittedMethod) else method.streams(),
            seed=experiment.seed,
            rank=runtime.rank,
            world=runtime.world,
            workers=settings.workers,
            cache_mib=settings.cache_mib,
            pin=runtime.device.type == "cuda",
            converted=self.converted,
        )
        self.looks = Looks(method, self.sources, runtime, folder)
        counted = [source.steps_per_epoch for source in self.sources.values()]
        self.steps_per_epoch = settings.steps_per_epoch or (counted[0] if counted else 1)
        self.data = _digest(table) if self.converted is None else digest([_digest(table), _digest(self.converted)])
        self.resume = self._newest(fresh)

    def _read_validation(self) -> ImageTable | None:
        section = self.experiment.benchmark
        if isinstance(self.method, ConversionMethod):
            return None
        if section.split != "train" or not self.experiment.train.validate_every:
            return None
        table = self.benchmark.read(self.experiment.root(), "validation", section.draw)
        return table if len(table) else None

    def run(self) -> None:
        """Train to the last epoch and save the encoder."""
        done = self.resume.step if self.resume else 0
        if self.runtime.main:
            self.folder.trim_log(done if self.resume else -1)
            if done < self.total:
                self.folder.forget_results()
            self._say(
                f"{self.experiment.method} on {self.benchmark.title}: {len(self.table):,} images of "
                f"{self.method.num_identities} identities, {self._steps()}"
                f"{self.runtime.device} {self.runtime.precision}, {self._beginning(done)}"
            )
            with RunLog(self.folder, first=done) as log:
                if self.total:
                    with progress("training", self.total) as shown:
                        shown.advance(done)
                        self._follow(log, shown)
                self._fit(log)
            save_encoder(self.folder.encoder, self.method)
        elif self.total:
            self._follow(None, None)
        self.runtime.barrier()

    def _fit(self, log: RunLog) -> None:
        """The closed-form stage, if the method has one."""
        if self.method.raw() is None:
            return
        figures = fit_sample(
            self.method,
            self.table,
            device=self.runtime.device,
            scratch=self.folder.path / "training-features.npy",
            workers=self.experiment.train.workers,
        )
        text = ", ".join(f"{name} {value:g}" for name, value in figures.items())
        log.write("note", step=self.total, text=f"fitted to {len(self.table):,} training images: {text}")
        if self.validation is not None:
            scores = self._validate(self.validation)
            log.write("validation", step=self.total, epoch=self.experiment.train.epochs, **scores)

    def _steps(self) -> str:
        return f"{self.steps_per_epoch} steps an epoch, " if self.total else ""

    def _beginning(self, done: int) -> str:
        weights = self.experiment.options.weights
        if isinstance(self.method, FittedMethod):
            return "fitted once to all images, without steps"
        if done:
            return f"resumed at step {done}"
        if weights == "scratch":
            return "from scratch: random weights (--pretrained starts from ImageNet's)"
        return f"starting from {weights} weights"

    @property
    def total(self) -> int:
        """Steps of the whole training; none for a method that is only fitted."""
        if isinstance(self.method, FittedMethod):
            return 0
        return self.experiment.train.epochs * self.steps_per_epoch

    def _newest(self, fresh: bool) -> State | None:
        newest = None if fresh else checkpoint.latest(self.folder.checkpoints)
        if newest is None:
            damaged = 0 if fresh else len(checkpoint.found(self.folder.checkpoints))
            if damaged:
                raise CheckpointError(
                    f"{self.folder.checkpoints}: none of the {damaged} checkpoints can be read. Restore one from a "
                    "backup, or begin again with --fresh."
                )
            return None
        state = checkpoint.load(newest)
        if state.step > self.total:
            raise ConfigError(
                f"{self.folder.path}: already trained for {state.epoch:g} epochs, more than the "
                f"{self.experiment.train.epochs} asked for. Give another --run, or --fresh to begin again."
            )
        check(state, self._origin())
        return state

    def _origin(self) -> dict[str, Any]:
        seed = self.experiment.seed
        return about(self.method, seed=seed, steps_per_epoch=self.steps_per_epoch, data=self.data)

    def _follow(self, log: RunLog | None, shown: Progress | None) -> None:
        settings = self.experiment.train
        events = fit(
            self.method,
            self.sources,
            self.runtime,
            epochs=settings.epochs,
            steps_per_epoch=self.steps_per_epoch,
            resume=self.resume,
            seed=self.experiment.seed,
            data=self.data,
            log_every=settings.log_every,
        )
        try:
            for event in events:
                if log is None or shown is None:
                    continue
                if isinstance(event, Stepped):
                    self._stepped(event, log, shown)
                else:
                    self._epoch_ended(event, log, shown)
        except TrainingError as error:
            if log is not None and shown is not None:
                log.write("note", step=shown.done + 1, text=str(error))
            raise

    def _stepped(self, event: Stepped, log: RunLog, shown: Progress) -> None:
        log.write(
            "step",
            step=event.step,
            epoch=round(event.epoch, 6),
            losses=dict(event.losses),
            learning_rate=dict(event.rates),
            seconds=round(event.seconds, 4),
            waited=round(event.waited, 4),
            images=event.images,
        )
        shown.advance(event.step - shown.done, note=f"loss {sum(event.losses.values()):.3f}")

    def _epoch_ended(self, event: EpochEnded, log: RunLog, shown: Progress) -> None:
        settings = self.experiment.train
        last = event.epoch == settings.epochs
        every = settings.validate_every
        try:
            if self.validation is not None and (last or event.epoch % every == 0):
                scores = self._validate(self.validation)
                log.write("validation", step=event.step, epoch=event.epoch, **scores)
                shown.advance(0, note=f"validation rank-1 {100 * scores['rank1']:.1f} %")
            if last or event.epoch % settings.pictures_every == 0:
                self.looks.write(log, epoch=event.epoch, step=event.step)
        finally:  # an image that cannot be validated on does not cost the epoch
            if last or event.epoch % settings.save_every == 0:
                checkpoint.save(self.folder.checkpoints, event.state(), keep=settings.keep)

    def _validate(self, table: ImageTable) -> dict[str, Any]:
        """Scores on held-out training identities."""
        embedder = Embedder.of(self.method, device=self.runtime.device)
        features = embedder.embed_table(table, workers=self.experiment.train.workers, show_progress=False)
        protocol = self.benchmark.validation(self.experiment.benchmark.draw)
        report = evaluate(features, table, protocol, distance=embedder.distance)
        return {"protocol": report.protocol, **{k: report.mean()[k] for k in ("rank1", "mAP", "mINP")}}

    @staticmethod
    def _say(text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
