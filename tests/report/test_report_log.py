"""Reading a training log, whole or damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from visir.report.curves import running_mean, thin
from visir.report.log import read_log


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def step(number: int, **losses: float) -> dict[str, object]:
    return {"kind": "step", "step": number, "losses": losses, "learning_rate": {"head": 0.1}}


def test_steps_validations_and_notes(tmp_path: Path) -> None:
    found = read_log(
        write(
            tmp_path / "log.jsonl",
            step(0, identity=3.0),
            step(10, identity=2.0, extra=1.0),
            {"kind": "validation", "epoch": 2, "protocol": "p", "rank1": 0.5, "mAP": 0.25},
            {"kind": "note", "text": "trained from scratch"},
            {"kind": "something new"},
        )
    )
    assert found.steps.tolist() == [0, 10]
    assert found.losses["identity"].tolist() == [3.0, 2.0]
    assert np.isnan(found.losses["extra"][0])
    assert found.losses["extra"][1] == 1.0
    assert found.rates["head"].tolist() == [0.1, 0.1]
    assert [(v.epoch, v.scores) for v in found.validations] == [(2.0, {"rank1": 0.5, "mAP": 0.25})]
    assert found.notes == ("trained from scratch",)
    assert found.damaged == 0


def test_damaged_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    whole = json.dumps(step(1, identity=1.0))
    found = read_log(
        write(
            tmp_path / "log.jsonl", whole, whole[: len(whole) // 2], "[1, 2]", '{"kind": "step"}', "", "\x00\x01", "7"
        )
    )
    assert found.steps.tolist() == [1]
    assert found.damaged == 5


def test_a_repeated_step_of_a_resumed_run_counts_once_and_order_does_not_matter(tmp_path: Path) -> None:
    found = read_log(write(tmp_path / "log.jsonl", step(5, identity=9.0), step(1, identity=4.0), step(5, identity=2.0)))
    assert found.steps.tolist() == [1, 5]
    assert found.losses["identity"].tolist() == [4.0, 2.0]


def test_infinite_losses_become_gaps(tmp_path: Path) -> None:
    found = read_log(write(tmp_path / "log.jsonl", step(0, identity=float("inf")), step(1, identity=float("nan"))))
    assert np.isnan(found.losses["identity"]).all()


def test_empty_log(tmp_path: Path) -> None:
    found = read_log(write(tmp_path / "log.jsonl"))
    assert len(found.steps) == 0
    assert not found.losses
    assert not found.validations


def test_thinning_keeps_the_mean_and_bounds_the_points() -> None:
    steps, values = np.arange(1000.0), np.random.default_rng(0).random(1000)
    few_steps, few = thin(steps, values, most=100)
    assert len(few) == len(few_steps) == 100
    assert abs(few.mean() - values.mean()) < 1e-12


def test_running_mean_equals_a_loop_and_skips_gaps() -> None:
    values = np.random.default_rng(0).random(200)
    values[[3, 50, 51, 199]] = np.nan
    found = running_mean(values)
    for place in range(200):
        window = values[max(0, place - 5) : place + 6]
        assert abs(found[place] - np.nanmean(window)) < 1e-12
