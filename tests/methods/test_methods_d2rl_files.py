"""The experiments of D2RL: what each row of the poster leaves out, and nothing else, on each data set."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from visir.core.config import plain
from visir.core.draws import Augment, IdentityBalanced, Stream
from visir.experiment.ablation import read_ablation, systems
from visir.experiment.shipped import find_config
from visir.methods.base import Recipe
from visir.methods.d2rl import D2RLConfig

ROWS: dict[str, dict[str, Any]] = {  # what differs from the whole system
    "unify-visible": {"unify": "visible"},
    "unify-infrared": {"unify": "infrared"},
    "separate": {"joint": False},
    "baseline": {"identity": 0.0, "triplet": 0.0},
    "without-vae": {"divergence": 0.0, "reconstruction": 0.0, "noise": False},
    "without-cycle": {"cycle": 0.0},
    "without-identity": {"identity": 0.0},
    "without-triplet": {"triplet": 0.0},
    "full": {},
}
BENCHMARKS = ("sysu_mm01", "regdb", "llcm")


@pytest.mark.parametrize("row", ROWS)
def test_row_changes_what_the_poster_says_and_nothing_else(row: str) -> None:
    ablation, found = systems()[f"d2rl/{row}"]
    assert tuple(ablation.benchmarks(found)) == BENCHMARKS
    (whole,) = (other for other in ablation.rows if other.name == "full")
    for benchmark in BENCHMARKS:
        experiment, full = (ablation.experiment(which, benchmark) for which in (found, whole))
        assert experiment.options == dataclasses.replace(D2RLConfig(), **ROWS[row])
        assert (experiment.train, experiment.benchmark) == (full.train, full.benchmark)


def test_there_are_no_other_rows() -> None:
    assert [name.removeprefix("d2rl/") for name in systems() if name.startswith("d2rl/")] == list(ROWS)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_recipe(benchmark: str) -> None:
    """Written out, so that neither the file nor the defaults change unseen."""
    ablation, row = systems()["d2rl/full"]
    experiment = ablation.experiment(row, benchmark)
    assert experiment.method == "d2rl"
    assert experiment.benchmark.split == "trainval"
    assert (experiment.train.epochs, experiment.train.validate_every) == (160, 0)
    options = experiment.options
    assert isinstance(options, D2RLConfig)
    assert (options.backbone, options.weights) == ("resnet50", "scratch")  # nothing is fetched unless asked for
    assert options.stream == Stream(IdentityBalanced(4, 4), height=256, width=128, augment=Augment(flip=0.5))
    assert (options.translation_epochs, options.warmup_epochs) == (100, 10)
    assert options.recipe == Recipe("sgd", 0.01, 0.1, 0.9, 5e-4, nesterov=True, drops=(140.0,))
    assert plain(options.translation) == plain(Recipe("adam", 1e-4, 1e-4, 0.5, 1e-4, nesterov=False, drops=(140.0,)))


def test_the_balance_is_swept_over_five_weights() -> None:
    balance = read_ablation(find_config("d2rl/balance"))
    found = [balance.experiment(row, "sysu_mm01").options for row in balance.rows]
    pairs = {(option.identity, option.triplet) for option in found}
    five = (0.1, 0.3, 1, 3, 10)
    assert pairs == {(w, w) for w in five} | {(w, 1) for w in five} | {(1, w) for w in five}
    assert len(found) == len(pairs)
