"""``visir convert`` and ``visir data make --counterparts``: what they print, leave and refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Visir = Callable[..., Any]


@pytest.fixture(scope="session")
def paired_twin(tmp_path_factory: pytest.TempPathFactory, tiny_sysu: Path) -> Path:
    """The tiny twin with counterparts; read only."""
    from visir.twin.write import write

    root = tmp_path_factory.mktemp("twin") / "paired"
    shutil.copytree(tiny_sysu, root)
    return write(root, layout="sysu_mm01", size="tiny", counterparts=True, workers=1)


@pytest.fixture(scope="session")
def tint_run(tmp_path_factory: pytest.TempPathFactory, tiny_sysu: Path) -> Path:
    """A trained converter, on a twin without counterparts; read only."""
    from visir.experiment.config import build
    from visir.experiment.train import train

    content = {
        "benchmark": {"name": "sysu_mm01", "root": str(tiny_sysu)},
        "method": "conversion_toys.tint",
        "train": {"epochs": 1, "steps_per_epoch": 1, "workers": 0, "validate_every": 0},
    }
    return train(build(content), tmp_path_factory.mktemp("runs") / "tint", device="cpu").path


def refused(outcome: Any, *words: str) -> None:
    assert outcome.code == 2, (outcome.out, outcome.err)
    said = [line for line in outcome.err.splitlines() if line.startswith("visir: ")]
    assert len(said) == 1, outcome.err
    assert all(word in said[0] for word in words), said[0]
    assert "Traceback" not in outcome.err


def test_counterparts_from_the_command_line(visir: Visir, tmp_path: Path) -> None:
    root = tmp_path / "t"
    plain = visir("data", "make", root, "--layout", "llcm", "--size", "tiny")
    assert plain.code == 0, plain.err
    assert not (root / "counterparts").exists()
    made = visir("data", "make", root, "--layout", "llcm", "--size", "tiny", "--counterparts")
    assert made.code == 0, made.err
    assert "with counterparts" in made.out
    assert "twin of" not in made.err  # only what was missing is made
    assert len(list((root / "counterparts" / "vis").rglob("*.jpg"))) == len(list((root / "vis").rglob("*.jpg")))
    doctor = visir("data", "doctor", root)
    assert doctor.code == 0
    assert "nothing wrong" in doctor.out


def test_conversion_of_a_data_set_without_truth(visir: Visir, tmp_path: Path, tint_run: Path) -> None:
    done = visir("convert", tint_run, tmp_path / "made", "--device", "cpu")
    assert done.code == 0, done.err
    assert done.out.startswith(f"{tmp_path / 'made'}: ")
    assert "converting: " in done.err
    count = len(list((tmp_path / "made").rglob("*.png")))
    assert f"{count} pictures converted" in done.out
    again = visir("convert", tint_run, tmp_path / "made", "--json", "--device", "cpu")
    about = json.loads(again.out)
    assert (about["complete"], sum(about["images"].values()), about["quality"]) == (True, count, {})
    assert "converting" not in again.err


def test_conversion_is_judged_where_the_truth_is_known(
    visir: Visir, tmp_path: Path, tint_run: Path, paired_twin: Path
) -> None:
    common = ("--root", paired_twin, "--direction", "v2ir", "--device", "cpu", "--workers", 1)
    done = visir("convert", tint_run, tmp_path / "made", *common)
    assert done.code == 0, done.err
    rows = [line.split() for line in done.out.splitlines() if line.startswith("visible to infrared")]
    assert [row[3] for row in rows] == ["converted", "unconverted"]
    assert "infrared to visible" not in done.out
    values = json.loads(visir("convert", tint_run, tmp_path / "made", *common, "--json").out)["quality"]["v2ir"]
    assert [float(row[5]) for row in rows] == [round(values[name]["psnr"], 2) for name in ("converted", "unconverted")]
    named = visir(
        "convert", tint_run, tmp_path / "held", "--split", "validation", "--truth", paired_twin / "counterparts"
    )
    assert named.code == 0, named.err
    assert "infrared to visible" in named.out


def test_wrong_input_gets_one_sentence(visir: Visir, tmp_path: Path, tint_run: Path, tiny_run: Path) -> None:
    out = tmp_path / "out"
    refused(visir("convert", tiny_run, out), "expected the run of a method that converts images")
    refused(visir("convert", tmp_path, out), "expected a run folder")
    (tmp_path / "file").write_text("mine")
    refused(visir("convert", tint_run, tmp_path / "file"), "got a file")
    refused(visir("convert", tint_run, out, "--root", tmp_path / "none"), "cam1")
    refused(visir("convert", tint_run, out, "--split", "val"), "split")
    refused(visir("convert", tint_run, out, "--truth", tmp_path / "none"), "true picture")
    refused(visir("convert", tint_run, out, "--device", "gpu"), "device")
    assert visir("convert", tint_run, out, "--direction", "sideways").code == 2
    assert visir("convert", tint_run, out, "--workers", -1).code == 2
    assert not out.exists()
    assert (tmp_path / "file").read_text() == "mine"


def test_nothing_is_written_into_the_data_set(visir: Visir, tmp_path: Path, tint_run: Path, tiny_sysu: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(tiny_sysu, root)
    before = sorted(root.rglob("*"))
    for place in (root, root / "converted"):
        refused(visir("convert", tint_run, place, "--root", root), "lies inside the data set")
    assert sorted(root.rglob("*")) == before


def test_conversions_are_learnt_from(visir: Visir, tmp_path: Path, tint_run: Path, tiny_sysu: Path) -> None:
    assert visir("convert", tint_run, tmp_path / "made", "--device", "cpu").code == 0
    small = [
        "with.backbone=resnet10t", "with.dim=8", "with.stream.draw.identities=4", "with.stream.height=32",
        "with.stream.width=16", "with.stream.augment.enlarge=4", "train.epochs=1", "train.steps_per_epoch=1",
        "train.precision=fp32", "benchmark.split=train", f"benchmark.converted={tmp_path / 'made'}",
    ]  # fmt: skip
    settings = [part for setting in small for part in ("--set", setting)]
    trained = visir(
        "train", "ce2l/sysu_mm01", "--root", tiny_sysu, "--run", tmp_path / "run", "--device", "cpu", *settings
    )
    assert trained.code == 0, trained.err
    more = visir(
        "train", "ce2l/sysu_mm01", "--root", tiny_sysu, "--run", tmp_path / "other", "--device", "cpu", *settings,
        "--set", "benchmark.split=trainval",
    )  # fmt: skip
    refused(more, "expected a converted image for each")
