"""What an experiment needs before it can train: its images as another network converted them to the other modality."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from visir.benchmarks import catalog as benchmarks
from visir.core.draws import Unpaired
from visir.core.errors import ConfigError
from visir.core.types import Modality
from visir.engine.runtime import start
from visir.experiment.config import Experiment, load
from visir.experiment.quality import WAYS
from visir.experiment.shipped import find_config
from visir.experiment.train import train
from visir.experiment.translate import convert_images
from visir.methods import catalog
from visir.methods.base import ConversionMethod


@dataclass(frozen=True)
class Preparation:
    """How the converted images of an experiment are made.

    Attributes:
        experiment: of the network that converts, on the same data.
        run: where it is trained.
        images: where the converted images go.
        direction: ``ir2v``, ``v2ir`` or ``both``: the ones that are wanted.
        per: ``modality`` for one network; ``camera_pair`` for one for each pair of a visible and an infrared camera,
            in folders ``cameras-<visible>-<infrared>`` below ``run`` and ``images``.
    """

    experiment: Experiment
    run: Path
    images: Path
    direction: str = "both"
    per: Literal["modality", "camera_pair"] = "modality"

    def make(self, *, device: str | None = None) -> None:
        """Train the networks and convert the training images; what is there already is not made again.

        Raises:
            VisirError: as :func:`visir.experiment.train.train` and :func:`visir.experiment.translate.convert_images`.
        """
        for experiment, run, images in self._parts():
            train(experiment, run, device=device)
            with start(device or "auto") as runtime:
                if runtime.main:
                    convert_images(run, images, direction=self.direction, device=device)
                runtime.barrier()

    def _parts(self) -> list[tuple[Experiment, Path, Path]]:
        """Each network: its experiment, its run, and the folder of what it converts."""
        if self.per == "modality":
            return [(self.experiment, self.run, self.images)]
        section = self.experiment.benchmark
        table = benchmarks.find(section.name).read(self.experiment.root(), section.split, section.draw)
        seen = {modality: np.unique(table.camera[table.modality == modality]).tolist() for modality in Modality}
        found = []
        for pair in itertools.product(seen[Modality.VISIBLE], seen[Modality.INFRARED]):
            name = f"cameras-{pair[0]}-{pair[1]}"
            found.append((_restricted(self.experiment, pair), self.run / name, self.images / name))
        return found


def _restricted(experiment: Experiment, cameras: tuple[int, ...]) -> Experiment:
    """The experiment on pictures of these cameras alone."""
    changes: dict[str, Any] = {
        name: replace(stream, draw=replace(stream.draw, cameras=cameras))
        for name, stream in experiment.streams().items()
        if isinstance(stream.draw, Unpaired)
    }
    if not changes:
        raise ConfigError(
            f"benchmark.converter_per: expected 'modality' for {experiment.method}, whose streams draw people: only "
            "draws of kind 'unpaired' can be restricted to a pair of cameras."
        )
    return replace(experiment, options=replace(experiment.options, **changes))


def converter(experiment: Experiment) -> Experiment | None:
    """The experiment that makes the converted images of another; None where none are needed or they are there.

    Raises:
        ConfigError: ``benchmark.converter`` names no experiment of a network that converts.
    """
    section = experiment.benchmark
    if not experiment.converts() or section.converted or not section.converter:
        return None
    made = load(find_config(Path(section.converter)))
    if not issubclass(catalog.find(made.method), ConversionMethod):
        raise ConfigError(
            f"benchmark.converter: expected the experiment of a network that converts pictures, such as "
            f"cyclegan/sysu_mm01, got {section.converter}, which trains {made.method}."
        )
    own = replace(
        made.benchmark, name=section.name, root=section.root, draw=section.draw, split=section.split, protocols=()
    )
    return replace(made, benchmark=own, seed=experiment.seed)


def prepared(experiment: Experiment, run: Path, *, device: str | None = None) -> Experiment:
    """The experiment with everything at hand that it needs; made below its run folder where it is missing.

    Args:
        experiment: to be trained next.
        run: its folder; the network that converts goes to ``converter/`` and what it makes to ``converted/``.
        device: as :func:`visir.experiment.train.train` takes it.

    Raises:
        VisirError: as :meth:`Preparation.make`.
    """
    found = converter(experiment)
    if found is None:
        return experiment
    conversion = preparation(experiment, found, run / "converter", run / "converted")
    conversion.make(device=device)
    return with_images(experiment, conversion.images)


def preparation(experiment: Experiment, converter: Experiment, run: Path, images: Path) -> Preparation:
    """How ``converter`` makes what ``experiment`` asks for, in these two places."""
    wanted = experiment.converts()
    direction = "both" if len(wanted) > 1 else next(way for way, source in WAYS.items() if source in wanted)
    return Preparation(converter, run, images, direction, experiment.benchmark.converter_per)


def with_images(experiment: Experiment, images: Path) -> Experiment:
    """The experiment with its converted images named."""
    return replace(experiment, benchmark=replace(experiment.benchmark, converted=str(images)))
