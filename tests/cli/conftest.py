from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def visir(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """The command line in this process: ``visir("data", "doctor", root)``."""
    from visir.cli import main

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["visir", *map(str, arguments)])
        capfd.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capfd.readouterr()
        return Outcome(int(str(code)), out, err)

    return call


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory, tiny_sysu: Path) -> Path:
    """An experiment that trains in seconds."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(
        f"""
benchmark: {{name: sysu_mm01, root: "{tiny_sysu}", protocols: [sysu-all-1-official, sysu-indoor-1-official]}}
method: dfe
with:
  backbone: resnet10t
  dim: 16
  recipe: {{backbone_rate: 0.01, head_rate: 0.01}}
  stream: {{height: 32, width: 16, draw: {{kind: pairs, pairs: 16}}}}
train: {{epochs: 1, workers: 0, validate_every: 1, log_every: 2}}
"""
    )
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_config: Path) -> Path:
    """A trained and evaluated run; read only."""
    from visir.experiment.config import load
    from visir.experiment.evaluate import evaluate_run
    from visir.experiment.train import train

    run = tmp_path_factory.mktemp("runs") / "tiny"
    train(load(tiny_config), run, device="cpu")
    evaluate_run(run, device="cpu")
    return run
