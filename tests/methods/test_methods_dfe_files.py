"""The configuration files of DFE: every row of the paper's ablation, with its weights and its published figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from visir.core.draws import Pairs
from visir.experiment.config import load
from visir.methods.dfe import DFEConfig

FOLDER = Path(__file__).parents[2] / "configs" / "dfe"
ROWS = {  # file -> alpha, beta, gamma, published rank-1 and mAP of its first protocol
    "sysu_mm01-baseline": ((1, 0, 0), (43.13, 43.56)),
    "sysu_mm01-without-correlation": ((1, 1, 0), (45.81, 46.37)),
    "sysu_mm01-without-distribution": ((1, 0, 1), None),
    "sysu_mm01-full": ((1, 1, 1), (48.71, 48.59)),
    "regdb-baseline": ((1, 0, 0), (57.50, 57.30)),
    "regdb-without-correlation": ((1, 11, 0), (64.18, 63.60)),
    "regdb-without-distribution": ((1, 0, 2), (62.48, 61.10)),
    "regdb-full": ((1, 11, 2), (70.13, 69.14)),
    "regdb-original-proportion": ((1, 1, 1), None),
}


@pytest.mark.parametrize("name", ROWS)
def test_row(name: str) -> None:
    weights, published = ROWS[name]
    experiment = load(FOLDER / f"{name}.yaml")
    options = experiment.options
    assert isinstance(options, DFEConfig)
    assert (options.alpha, options.beta, options.gamma) == weights
    assert (options.backbone, options.weights) == ("resnet50", "scratch")  # nothing is fetched unless asked for
    assert (options.stream.height, options.stream.width, options.stream.augment.flip) == (384, 128, 0.5)
    over = "visible" if name.startswith("sysu") else "matched"
    assert options.stream.draw == Pairs(32, over)
    assert experiment.train.epochs == 20
    assert (options.recipe.backbone_rate, options.recipe.head_rate, options.recipe.drops) == (0.01, 0.1, (5, 10, 15))
    assert "ACM MM 2019" in experiment.published["source"]
    first = experiment.published.get(experiment.benchmark.protocols[0])
    assert (first and (first["rank1"], first["mAP"])) == published


def test_every_published_figure_belongs_to_a_protocol_of_its_file() -> None:
    for path in sorted(FOLDER.glob("*.yaml")):
        experiment = load(path)
        assert set(experiment.published) - {"source"} <= set(experiment.benchmark.protocols)


def test_all_files_are_known() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(ROWS)
