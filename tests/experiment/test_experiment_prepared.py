"""Converted images that an experiment learns from are made first, once, by the network that it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from visir.core.errors import ConfigError
from visir.experiment.config import Experiment, build, load
from visir.experiment.evaluate import evaluate_run
from visir.experiment.folder import RunFolder
from visir.experiment.prepared import converter, learns_from_conversions, prepared
from visir.experiment.shipped import find_config
from visir.experiment.train import train

SMALL = {"height": 48, "width": 24}
SHORT = {"epochs": 2, "steps_per_epoch": 2, "workers": 0, "validate_every": 0}
CONVERTER = {
    "benchmark": {"name": "sysu_mm01"},
    "method": "cyclegan",
    "with": {
        "width": 4,
        "blocks": 1,
        "constant_epochs": 1,
        "decay_epochs": 1,
        "stream": {"draw": {"kind": "unpaired", "images": 2}, **SMALL, "augment": {"enlarge": 6}},
    },
    "train": SHORT,
}

Make = Callable[..., Experiment]


@pytest.fixture
def experiment(tiny_sysu: Path, tmp_path: Path) -> Make:
    file = tmp_path / "converter.yaml"
    file.write_text(yaml.safe_dump(CONVERTER))

    def made(**changes: Any) -> Experiment:
        options = {
            "backbone": "tiny",
            "dim": 16,
            "stream": {"draw": {"kind": "identity_balanced", "identities": 4, "images": 1}, **SMALL},
            **changes.pop("options", {}),
        }
        section = {"name": "sysu_mm01", "root": str(tiny_sysu), "converter": str(file), **changes}
        return build({"benchmark": section, "method": "ce2l", "with": options, "train": SHORT, "seed": 3})

    return made


def test_one_command_trains_converts_and_trains(experiment: Make, tmp_path: Path, tiny_sysu: Path) -> None:
    run = tmp_path / "run"
    ready = prepared(experiment(), run, device="cpu")
    assert ready.benchmark.converted == str(run / "converted")
    assert ready.digest() == experiment().digest(), "where converted images lie is no part of an experiment"
    used = RunFolder(run / "converter").read_experiment()
    assert (used.benchmark.root, used.seed) == (str(tiny_sysu), 3), "the converter learns from the same data"
    pictures = sorted((run / "converted").rglob("*.png"))
    assert len(pictures) > 100
    train(ready, run, device="cpu")
    assert evaluate_run(run, device="cpu")
    times = [path.stat().st_mtime_ns for path in pictures]
    again = prepared(experiment(), run, device="cpu")
    assert again == ready
    assert times == [path.stat().st_mtime_ns for path in pictures]


def test_nothing_is_made_that_is_not_needed(experiment: Make, tmp_path: Path) -> None:
    plain = experiment(options={"conversion": False, "smoothing": 0.0})
    given = experiment(converted=str(tmp_path))
    for one in (plain, given):
        assert converter(one) is None
        assert prepared(one, tmp_path / "none") is one
    assert not (tmp_path / "none").exists()
    assert learns_from_conversions(given)
    assert not learns_from_conversions(plain)


def test_the_converter_must_convert(experiment: Make) -> None:
    with pytest.raises(ConfigError, match="expected the experiment of a network that converts pictures.*trains dfe"):
        converter(experiment(converter="dfe/sysu_mm01"))


@pytest.mark.parametrize("name", ["ce2l/sysu_mm01", "ce2l/regdb"])
def test_shipped_experiments_name_their_converter(name: str) -> None:
    made = converter(load(find_config(Path(name))))
    assert made is not None
    assert made.method == "cyclegan"
