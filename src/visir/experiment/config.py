"""One YAML file is one experiment: benchmark, method, the paper's numbers (``with``), training; resolved, hashed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from visir import publications
from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.base import without_partition
from visir.core import config as core
from visir.core.draws import Stream
from visir.core.errors import ConfigError, nearest
from visir.core.types import Modality
from visir.methods import catalog
from visir.methods.base import MethodConfig


@dataclass(frozen=True)
class BenchmarkSection:
    """Which data set, where, which partition of it.

    Attributes:
        name: a file of ``visir.benchmarks`` or a dotted module.
        root: folder of the data set; ``${VARIABLE}`` is replaced from the environment.
        draw: train/test partition, 1..draws (RegDB has ten).
        split: ``train`` leaves the validation identities out of training, ``trainval`` trains on all of them and
            therefore cannot validate.
        protocols: protocol ids to evaluate; empty means the benchmark's default one.
        converted: folder of the training images converted to the other modality, laid out as ``root``; for methods
            that learn from them.
        converter: for the same methods, where ``converted`` is empty: the experiment, by file or short name, of the
            network that is trained first and makes them.
        converter_per: one such network for all pictures (``modality``), or one for each pair of a visible and an
            infrared camera (``camera_pair``), of which an image gets one.
    """

    name: str
    root: str = ""
    draw: int = 1
    split: Literal["train", "trainval"] = "train"
    protocols: tuple[str, ...] = ()
    converted: str = ""
    converter: str = ""
    converter_per: Literal["modality", "camera_pair"] = "modality"


@dataclass(frozen=True)
class TrainSection:
    """How long, how fast and how often something is written.

    ``precision``, ``channels_last`` and ``compile`` change how a step is computed, and so the last bits of its results.

    Attributes:
        epochs: whole epochs.
        steps_per_epoch: None for the sampler's own count.
        precision: fp32, bf16 or fp16 (with loss scaling).
        channels_last: memory layout of images and convolutions.
        compile: compile the encoder with ``torch.compile``.
        workers: threads that decode and augment images ahead; 0 decodes when a batch is asked for.
        cache_mib: bound of the cache of decoded images, in MiB; 0 for none.
        log_every: steps between lines in the log.
        validate_every: epochs between validations on held-out training identities; 0 for never.
        save_every: epochs between checkpoints (the last epoch is always saved).
        pictures_every: epochs between pictures, of methods that show some (those of the last epoch are always made).
        keep: how many checkpoints stay on disk.
    """

    epochs: int = 20
    steps_per_epoch: int | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    workers: int = 2
    cache_mib: int = 2048
    log_every: int = 20
    validate_every: int = 5
    save_every: int = 1
    pictures_every: int = 5
    keep: int = 2


@dataclass(frozen=True)
class Experiment:
    """A complete, resolved experiment.

    Attributes:
        options: the method's own configuration dataclass, the ``with`` section of the file.
        published: protocol id -> published figures in percent, with their source; shown beside ours, never used. A
            file may give the name of a system instead, such as ``dfe/full``; its printed figures are looked up.
    """

    benchmark: BenchmarkSection
    method: str
    options: MethodConfig
    train: TrainSection = field(default_factory=TrainSection)
    seed: int = 0
    published: Mapping[str, Any] = field(default_factory=dict)

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, as written into ``experiment.yaml``."""
        return {
            "benchmark": core.plain(self.benchmark),
            "method": self.method,
            "with": core.plain(self.options),
            "train": core.plain(self.train),
            "seed": self.seed,
            "published": core.plain(self.published),
        }

    def digest(self) -> str:
        """Twelve hexadecimal digits of what determines the trained weights; places and publishing do not count."""
        content = self.resolved()
        del content["published"]
        content["benchmark"] = {k: content["benchmark"][k] for k in ("name", "draw", "split")}
        # not epochs: a longer training goes on from a shorter one
        result = ("steps_per_epoch", "precision", "channels_last", "compile")
        content["train"] = {k: content["train"][k] for k in result}
        return core.digest(content)

    def root(self) -> Path:
        """The folder of the data set.

        Raises:
            ConfigError: it is empty or names an environment variable that is not set.
        """
        text = _filled(
            "benchmark.root", self.benchmark.root, "give --root DIR; 'visir data make' makes a synthetic twin"
        )
        if not text:
            raise ConfigError("benchmark.root: expected the folder of the data set, got nothing. Give --root DIR.")
        return Path(text).expanduser()

    def streams(self) -> dict[str, Stream]:
        """The streams of images that the method's options describe, by option."""
        options = ((one.name, getattr(self.options, one.name)) for one in fields(self.options))
        return {name: value for name, value in options if isinstance(value, Stream)}

    def converts(self) -> tuple[Modality, ...]:
        """The modalities whose training images the method wants converted to the other one, too."""
        return tuple(sorted({modality for stream in self.streams().values() for modality in stream.converts}))

    def converted(self) -> Path | None:
        """The folder of converted training images, None when the experiment names none."""
        text = _filled("benchmark.converted", self.benchmark.converted, "give --set benchmark.converted=DIR")
        return Path(text).expanduser() if text else None


def _filled(key: str, text: str, otherwise: str) -> str:
    """``text`` with its ``${VARIABLE}`` parts from the environment."""
    for name in re.findall(r"\$\{(\w+)\}", text):
        if name not in os.environ:
            raise ConfigError(
                f"{key}: the environment variable {name} is not set. Set it to the folder, or {otherwise}."
            )
        text = text.replace(f"${{{name}}}", os.environ[name])
    return text


LOWEST = {
    "epochs": 1,
    "log_every": 1,
    "validate_every": 0,
    "save_every": 1,
    "pictures_every": 1,
    "keep": 1,
    "workers": 0,
    "cache_mib": 0,
}
SECTIONS = ("benchmark", "method", "with", "train", "seed", "published")


def load(path: Path, settings: Sequence[str] = (), values: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment file.

    A file may name ``base: other.yaml`` (one level deep) and give its difference as ``set: {with.beta: 0.0}``.

    Args:
        path: the YAML file.
        settings: ``dotted.key=value`` texts that go over it, values in YAML.
        values: dotted key -> value, over both and taken as they are, such as paths with any characters in them.

    Raises:
        ConfigError: a missing file, an unknown key (the nearest is named) or a value of the wrong type.
    """
    return build(overlaid(read_with_base(path), settings, values))


def overlaid(
    content: dict[str, Any], settings: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of a file with settings and values over it, changed in place; see :func:`load`."""
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: expected dotted.key=value, for instance train.epochs=3.")
        try:
            core.set_dotted(content, key.strip(), yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise ConfigError(
                f"--set {setting}: expected a YAML value behind '=', such as 3, true or [1, 2]."
            ) from error
    for key, plain in (values or {}).items():
        core.set_dotted(content, key, plain)
    return content


def read_with_base(path: Path) -> dict[str, Any]:
    """The mapping that a file holds, over its base if it names one."""
    values = core.read_yaml(path)
    if "rows" in values:
        raise ConfigError(f"{path}: expected an experiment, got an ablation file; 'visir ablate {path}' runs its rows.")
    if "base" not in values:
        return values
    unknown = set(values) - {"base", "set", "published"}
    if unknown:
        raise ConfigError(f"{path}: beside 'base' only 'set' and 'published' are allowed, got {sorted(unknown)}.")
    base = core.read_yaml(path.parent / str(values["base"]))
    if "base" in base:
        raise ConfigError(f"{path}: its base has a base itself; a base is one level deep.")
    base["published"] = values.get("published", {})
    for key, value in (values.get("set") or {}).items():
        core.set_dotted(base, str(key), value)
    return base


def build(values: Mapping[str, Any]) -> Experiment:
    """An experiment from the mapping that a YAML file holds; see :func:`load`."""
    for key in values:
        if key not in SECTIONS:
            raise ConfigError(f"{key}: unknown key {key!r}. {nearest(str(key), SECTIONS)}")
    for needed in ("benchmark", "method"):
        if needed not in values:
            raise ConfigError(f"{needed}: expected this key, for instance 'method: dfe'; it is missing.")
    name = values["method"]
    method = catalog.find(str(name))
    seed = values.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ConfigError(f"seed: expected a whole number, got {seed!r}.")
    experiment = Experiment(
        benchmark=core.parse(BenchmarkSection, _section(values, "benchmark"), where="benchmark"),
        method=str(name),
        options=core.parse(method.Config, _section(values, "with"), where="with"),
        train=core.parse(TrainSection, _section(values, "train"), where="train"),
        seed=seed,
        published=_published(values),
    )
    _check_ranges(experiment)
    return experiment


def _published(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Figures by protocol id: those of the file or, for the name of a system such as ``dfe/full``, the printed ones."""
    system = values.get("published")
    if not isinstance(system, str):
        return _section(values, "published")
    benchmark = benchmarks.find(str(_section(values, "benchmark").get("name")))
    found: dict[str, Any] = {}
    for protocol in map(without_partition, benchmark.protocols(1)):
        for quote in publications.figures(system, protocol)[:1]:
            found.setdefault("source", f"{quote.publication.citation}, {quote.table.name}")
            found[protocol] = dict(quote.figures)
    return found


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = values.get(name) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"{name}: expected 'key: value' lines, got {section!r}.")
    return section


def _check_ranges(experiment: Experiment) -> None:
    train = experiment.train
    for name, lowest in LOWEST.items():
        if getattr(train, name) < lowest:
            raise ConfigError(f"train.{name}: expected at least {lowest}, got {getattr(train, name)}.")
    if train.steps_per_epoch is not None and train.steps_per_epoch < 1:
        raise ConfigError(f"train.steps_per_epoch: expected at least 1 or null, got {train.steps_per_epoch}.")
