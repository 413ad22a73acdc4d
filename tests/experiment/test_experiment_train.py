"""A whole run from its file: what it leaves, that it resumes after a kill as if never stopped, what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from visir.core.errors import CheckpointError, ConfigError, ImageError, TrainingError
from visir.core.types import Modality
from visir.experiment.config import build
from visir.experiment.evaluate import chance, evaluate_run, find_protocol
from visir.experiment.folder import RunFolder
from visir.experiment.train import train


@pytest.fixture(scope="module")
def values(tiny_sysu):
    stream = {"height": 32, "width": 16, "draw": {"kind": "pairs", "pairs": 8}}
    small = {"backbone": "resnet10t", "dim": 8, "recipe": {"backbone_rate": 0.01, "head_rate": 0.01}, "stream": stream}
    settings = {"epochs": 3, "steps_per_epoch": 4, "workers": 0, "validate_every": 2, "log_every": 2}
    return {
        "benchmark": {"name": "sysu_mm01", "root": str(tiny_sysu)},
        "method": "dfe",
        "with": small,
        "train": settings,
    }


@pytest.fixture(scope="module")
def whole(values, tmp_path_factory):
    return train(build(values), tmp_path_factory.mktemp("runs") / "whole", device="cpu")


def without_times(folder):
    return [{k: v for k, v in line.items() if k not in {"time", "seconds", "waited"}} for line in folder.read_log()]


def test_a_run_leaves_what_the_documents_say(whole):
    assert whole.encoder.is_dir()
    assert whole.tensorboard.is_dir()
    assert len(list(whole.checkpoints.iterdir())) == 2
    lines = without_times(whole)
    assert [line["step"] for line in lines if line["kind"] == "step"] == [2, 4, 6, 8, 10, 12]
    assert [line["epoch"] for line in lines if line["kind"] == "validation"] == [2, 3]
    assert set(lines[0]["losses"]) == {"identity", "distribution", "correlation"}


def test_killed_and_resumed_is_as_never_stopped(whole, values, tmp_path):
    """A SIGKILL after the first checkpoint, then the same command to the end."""
    config, run = tmp_path / "run.yaml", RunFolder(tmp_path / "run")
    config.write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "visir", "train", str(config), "--run", str(run.path), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    while process.poll() is None and not list(run.checkpoints.glob("step-*.safetensors")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    subprocess.run(command, env=environment, check=True, capture_output=True)
    (ours,), (theirs,) = run.encoder.iterdir(), whole.encoder.iterdir()
    assert ours.read_bytes() == theirs.read_bytes()
    assert without_times(run) == without_times(whole)


def test_finished_runs_stay_as_they_are(whole, values):
    (file,) = whole.encoder.iterdir()
    before = file.read_bytes()
    train(build(values), whole.path, device="cpu")
    assert file.read_bytes() == before


def test_longer_training_goes_on(whole, values, tmp_path):
    longer = {**values, "train": {**values["train"], "epochs": 1}}
    folder = train(build(longer), tmp_path / "run", device="cpu")
    train(build(values), tmp_path / "run", device="cpu")
    (ours,), (theirs,) = folder.encoder.iterdir(), whole.encoder.iterdir()
    assert ours.read_bytes() == theirs.read_bytes()


def test_what_an_earlier_state_gave_goes_when_training_goes_on(values, tmp_path):
    short = {**values, "train": {**values["train"], "epochs": 1}}
    folder = train(build(short), tmp_path / "run", device="cpu")
    evaluate_run(folder.path, device="cpu")
    assert folder.scores.is_file()
    train(build(values), folder.path, device="cpu")
    assert not folder.scores.exists()
    assert not folder.features.exists()
    with pytest.raises(ConfigError, match="already trained for 3 epochs, more than the 1 asked for"):
        train(build(short), folder.path, device="cpu")


@pytest.mark.filterwarnings("ignore:left out")
def test_damaged_checkpoints_are_not_trained_over(values, tmp_path):
    short = {**values, "train": {**values["train"], "epochs": 1}}
    folder = train(build(short), tmp_path / "run", device="cpu")
    for file in folder.checkpoints.iterdir():
        file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints can be read"):
        train(build(values), folder.path, device="cpu")
    train(build(short), folder.path, device="cpu", fresh=True)
    assert all(file.stat().st_size for file in folder.checkpoints.iterdir())


def test_other_images_are_not_trained_on_further(values, tmp_path):
    from visir.twin.write import write

    short = {**values, "train": {**values["train"], "epochs": 1}}
    folder = train(build(short), tmp_path / "run", device="cpu")
    other = write(tmp_path / "other", layout="sysu_mm01", size="tiny", seed=5, workers=1)
    moved = {**values, "benchmark": {"name": "sysu_mm01", "root": str(other)}}
    with pytest.raises(CheckpointError, match="data = "):
        train(build(moved), folder.path, device="cpu")


def test_an_image_that_cannot_be_validated_on_does_not_cost_the_epoch(values, tiny_sysu, tmp_path):
    root = tmp_path / "sysu"
    shutil.copytree(tiny_sysu, root)
    person = (root / "exp" / "val_id.txt").read_text().split(",")[0].strip()
    next((root / "cam3" / f"{int(person):04d}").iterdir()).write_bytes(b"")
    broken = {**values, "benchmark": {"name": "sysu_mm01", "root": str(root)}}
    with pytest.raises(ImageError, match="empty file"):
        train(build(broken), tmp_path / "run", device="cpu")
    assert list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_loss_that_is_not_finite_stops_the_run(values, tmp_path):
    wild = {**values, "with": {**values["with"], "recipe": {"backbone_rate": 1e30, "head_rate": 1e30}}}
    with pytest.raises(TrainingError, match="step"):
        train(build(wild), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "encoder").exists()


def test_foreign_folders_and_draws_are_refused(values, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="holds files that are no run's"):
        train(build(values), tmp_path / "mine")
    (tmp_path / "other" / "checkpoints").mkdir(parents=True)
    (tmp_path / "other" / "checkpoints" / "mine.txt").write_text("precious")
    for fresh in (False, True):
        with pytest.raises(ConfigError, match="holds files that are no run's"):
            train(build(values), tmp_path / "other", fresh=fresh)
    assert (tmp_path / "other" / "checkpoints" / "mine.txt").read_text() == "precious"
    with pytest.raises(ConfigError, match="draws 1 to 1, got 3"):
        train(build({**values, "benchmark": {**values["benchmark"], "draw": 3}}), tmp_path / "run")


def test_training_and_test_people_that_overlap_are_said(values, tiny_sysu, tmp_path, capsys):
    from visir.experiment.convert import convert

    convert(tiny_sysu, tmp_path / "table", to="table", split="trainval")
    table = tmp_path / "table" / "index.csv"
    rows = [line.split(",") for line in table.read_text().splitlines()]
    keep = [i for i, name in enumerate(rows[0]) if name != "split"]
    table.write_text("\n".join(",".join(row[i] for i in keep) for row in rows) + "\n")
    small = {**values["train"], "epochs": 1, "steps_per_epoch": 1, "validate_every": 0}
    folder_run = {
        **values,
        "benchmark": {"name": "folder", "root": str(tmp_path / "table"), "split": "trainval"},
        "train": small,
    }
    run = train(build(folder_run), tmp_path / "run", device="cpu")
    evaluate_run(run.path, device="cpu")
    assert "were trained on" in capsys.readouterr().err
    assert "were trained on" in json.loads(run.scores.read_text())["warning, people"]


def test_chance_is_what_random_orders_give(tiny_sysu):
    import numpy as np

    from visir.benchmarks.sysu_mm01 import BENCHMARK
    from visir.core.seeds import generator
    from visir.evaluation.evaluate import evaluate

    table = BENCHMARK.read(tiny_sysu, "test", 1)
    protocol = find_protocol("sysu-all-1-seeded")
    found = [
        evaluate(generator(seed, "random features").normal(size=(len(table), 16)), table, protocol).mean()["rank1"]
        for seed in range(60)
    ]
    assert chance(table, protocol) == pytest.approx(np.mean(found), abs=4 * np.std(found) / np.sqrt(len(found)))
    assert (table.modality == Modality.INFRARED).any()
