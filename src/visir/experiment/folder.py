"""The files of a run, by name, and its log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from visir.core.errors import ConfigError
from visir.core.files import write_text
from visir.experiment.config import Experiment, build


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it made: configuration, log, checkpoints, encoder, features, scores."""

    path: Path

    @property
    def experiment_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "experiment.yaml"

    @property
    def log(self) -> Path:
        """JSON lines: steps, validations, notes."""
        return self.path / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files, the same values as the log."""
        return self.path / "tensorboard"

    @property
    def pictures(self) -> Path:
        """What the method showed of itself while it trained, and what each picture shows."""
        return self.path / "pictures"

    @property
    def checkpoints(self) -> Path:
        """One file for each kept checkpoint."""
        return self.path / "checkpoints"

    @property
    def encoder(self) -> Path:
        """The trained encoder alone, for evaluation, galleries and export."""
        return self.path / "encoder"

    @property
    def features(self) -> Path:
        """Features of the test images."""
        return self.path / "features.npz"

    @property
    def scores(self) -> Path:
        """Scores of the last evaluation."""
        return self.path / "scores.json"

    @property
    def converted_features(self) -> Path:
        """Features of the test images, the infrared ones also as a converter makes them visible."""
        return self.path / "features-converted.npz"

    @property
    def converted_scores(self) -> Path:
        """Scores of these."""
        return self.path / "scores-converted.json"

    @property
    def results(self) -> tuple[Path, ...]:
        """What is made from the trained weights, and goes with them."""
        names = ("features-untrained.npz", "report.html", "figures")
        files = (self.features, self.scores, self.converted_features, self.converted_scores)
        return (self.encoder, *files, *(self.path / name for name in names))

    def forget_results(self) -> None:
        """Remove what an earlier state of the weights gave, so that nothing old is taken for new."""
        for place in self.results:
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)

    def write_experiment(self, experiment: Experiment) -> None:
        """Store the resolved configuration."""
        text = yaml.safe_dump(experiment.resolved(), sort_keys=False, allow_unicode=True)
        write_text(self.experiment_file, text)

    def read_experiment(self) -> Experiment:
        """The configuration that this run was made with.

        Raises:
            ConfigError: the folder is not a run.
        """
        if not self.experiment_file.is_file():
            raise ConfigError(
                f"{self.path}: expected a run folder with experiment.yaml in it. "
                f"Train one: visir train CONFIG --run {self.path}"
            )
        from visir.core.config import read_yaml

        return build(read_yaml(self.experiment_file))

    def read_log(self) -> Iterator[Mapping[str, Any]]:
        """The lines of the log; a damaged one, such as one cut short by a crash, is left out."""
        if not self.log.is_file():
            return
        with self.log.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    found = json.loads(line)
                except json.JSONDecodeError:
                    continue
                if isinstance(found, dict):
                    yield found

    def trim_log(self, step: int) -> None:
        """Forget what was logged after ``step``, so that a resumed run has one log as if it had never stopped."""
        if self.log.is_file():
            kept = [line for line in self.read_log() if int(line.get("step", 0)) <= step]
            write_text(self.log, "".join(json.dumps(line) + "\n" for line in kept))
