"""Converted images that an experiment learns from are made first, once, by the network that it names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from visir.benchmarks import catalog
from visir.core.errors import ConfigError, DatasetError
from visir.core.types import Modality
from visir.data.converted import converted_images
from visir.engine.encoders import load_encoder
from visir.experiment.config import Experiment, build, load
from visir.experiment.evaluate import evaluate_run
from visir.experiment.folder import RunFolder
from visir.experiment.prepared import converter, prepared
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
    (plain,) = evaluate_run(run, device="cpu")
    files = [RunFolder(run).scores.read_bytes(), RunFolder(run).features.read_bytes()]
    (seen_twice,) = evaluate_run(run, device="cpu", converter=run / "converter")
    assert files == [RunFolder(run).scores.read_bytes(), RunFolder(run).features.read_bytes()], "both stay"
    about = json.loads(RunFolder(run).converted_scores.read_text())
    assert about["converter"] == load_encoder(run / "converter").fingerprint
    assert about["encoder"] != json.loads(files[0])["encoder"]
    assert seen_twice.as_dict() != plain.as_dict()
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
    assert given.converts() == (Modality.VISIBLE, Modality.INFRARED)
    assert plain.converts() == ()


def test_the_converter_must_convert(experiment: Make) -> None:
    with pytest.raises(ConfigError, match="expected the experiment of a network that converts pictures.*trains dfe"):
        converter(experiment(converter="dfe/sysu_mm01"))


@pytest.mark.parametrize("name", ["ce2l/sysu_mm01", "ce2l/regdb"])
def test_shipped_experiments_name_their_converter(name: str) -> None:
    made = converter(load(find_config(Path(name))))
    assert made is not None
    assert made.method == "cyclegan"


def test_only_the_direction_that_is_asked_for_is_made(experiment: Make, tmp_path: Path, tiny_sysu: Path) -> None:
    run, one = tmp_path / "run", experiment(options={"direction": "ir2v"})
    ready = prepared(one, run, device="cpu")
    table = catalog.find("sysu_mm01").read(tiny_sysu, "train", 1)
    infrared = int((table.modality == Modality.INFRARED).sum())
    assert len(list((run / "converted").rglob("*.png"))) == infrared
    train(ready, run, device="cpu")
    with pytest.raises(DatasetError, match="expected a converted image for each of the"):
        converted_images(table, run / "converted")


def test_each_pair_of_cameras_has_its_own_network(experiment: Make, tmp_path: Path, tiny_sysu: Path) -> None:
    run, one = tmp_path / "run", experiment(converter_per="camera_pair")
    assert one.digest() == experiment().digest(), "old runs are still known"
    ready = prepared(one, run, device="cpu")
    table = catalog.find("sysu_mm01").read(tiny_sysu, "train", 1)
    visible, infrared = (set(table.camera[table.modality == modality].tolist()) for modality in Modality)
    pairs = {f"cameras-{v}-{i}" for v in visible for i in infrared}
    assert len(pairs) > 2
    assert {path.name for path in (run / "converted").iterdir()} == pairs
    for name in pairs:
        cameras = [int(camera) for camera in name.split("-")[1:]]
        about = json.loads((run / "converted" / name / "conversion.json").read_text())
        assert about["cameras"] == sorted(cameras)
        assert about["images"]["v2ir"] == int((table.camera == cameras[0]).sum())
    found = converted_images(table, run / "converted")
    chosen = [path.split("/")[0] for path in found.paths]
    assert set(chosen) == pairs, "every network has a share"
    assert all(str(camera) in name.split("-") for camera, name in zip(table.camera.tolist(), chosen, strict=True))
    train(ready, run, device="cpu")


def test_a_converter_that_draws_people_has_no_pairs_of_cameras(experiment: Make, tmp_path: Path) -> None:
    content = {**CONVERTER, "with": {**CONVERTER["with"], "stream": {"draw": {"kind": "pairs", "pairs": 2}, **SMALL}}}
    (tmp_path / "people.yaml").write_text(yaml.safe_dump(content))
    one = experiment(converter=str(tmp_path / "people.yaml"), converter_per="camera_pair")
    with pytest.raises(ConfigError, match=r"benchmark\.converter_per: expected 'modality' for cyclegan"):
        prepared(one, tmp_path / "run", device="cpu")
