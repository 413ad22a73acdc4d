"""What an experiment needs before it can train: its images as another network converted them to the other modality."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from visir.core.draws import Stream
from visir.core.errors import ConfigError
from visir.engine.runtime import start
from visir.experiment.config import Experiment, load
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
    """

    experiment: Experiment
    run: Path
    images: Path

    def make(self, *, device: str | None = None) -> None:
        """Train the network and convert the training images; what is there already is not made again.

        Raises:
            VisirError: as :func:`visir.experiment.train.train` and :func:`visir.experiment.translate.convert_images`.
        """
        train(self.experiment, self.run, device=device)
        with start(device or "auto") as runtime:
            if runtime.main:
                convert_images(self.run, self.images, device=device)
            runtime.barrier()


def learns_from_conversions(experiment: Experiment) -> bool:
    """Whether a stream of the method asks for converted images."""
    options = experiment.options
    streams = [value for one in fields(options) if isinstance(value := getattr(options, one.name), Stream)]
    return any(stream.converted for stream in streams)


def converter(experiment: Experiment) -> Experiment | None:
    """The experiment that makes the converted images of another; None where none are needed or they are there.

    Raises:
        ConfigError: ``benchmark.converter`` names no experiment of a network that converts.
    """
    section = experiment.benchmark
    if not learns_from_conversions(experiment) or section.converted or not section.converter:
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
    conversion = Preparation(found, run / "converter", run / "converted")
    conversion.make(device=device)
    return with_images(experiment, conversion.images)


def with_images(experiment: Experiment, images: Path) -> Experiment:
    """The experiment with its converted images named."""
    return replace(experiment, benchmark=replace(experiment.benchmark, converted=str(images)))
