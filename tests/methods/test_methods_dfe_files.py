"""The experiments of DFE: every row of the paper's ablation, with its weights and its published figures."""

from __future__ import annotations

import pytest

from visir.core.draws import Pairs
from visir.experiment.ablation import systems
from visir.methods.dfe import DFEConfig

ROWS = {  # row, benchmark -> alpha, beta, gamma, published rank-1 and mAP of its first protocol
    ("baseline", "sysu_mm01"): ((1, 0, 0), (43.13, 43.56)),
    ("without-correlation", "sysu_mm01"): ((1, 1, 0), (45.81, 46.37)),
    ("without-distribution", "sysu_mm01"): ((1, 0, 1), None),
    ("full", "sysu_mm01"): ((1, 1, 1), (48.71, 48.59)),
    ("baseline", "regdb"): ((1, 0, 0), (57.50, 57.30)),
    ("without-correlation", "regdb"): ((1, 11, 0), (64.18, 63.60)),
    ("without-distribution", "regdb"): ((1, 0, 2), (62.48, 61.10)),
    ("full", "regdb"): ((1, 11, 2), (70.13, 69.14)),
    ("original-proportion", "regdb"): ((1, 1, 1), None),
}


@pytest.mark.parametrize(("row", "benchmark"), ROWS)
def test_row(row: str, benchmark: str) -> None:
    weights, published = ROWS[row, benchmark]
    ablation, found = systems()[f"dfe/{row}"]
    experiment = ablation.experiment(found, benchmark)
    options = experiment.options
    assert isinstance(options, DFEConfig)
    assert (options.alpha, options.beta, options.gamma) == weights
    assert (options.backbone, options.weights) == ("resnet50", "scratch")  # nothing is fetched unless asked for
    assert (options.stream.height, options.stream.width, options.stream.augment.flip) == (384, 128, 0.5)
    assert options.stream.draw == Pairs(32, "visible" if benchmark == "sysu_mm01" else "matched")
    assert experiment.train.epochs == 20
    assert (options.recipe.backbone_rate, options.recipe.head_rate, options.recipe.drops) == (0.01, 0.1, (5, 10, 15))
    first = experiment.published.get(experiment.benchmark.protocols[0])
    assert (first and (first["rank1"], first["mAP"])) == published
    assert published is None or "ACM MM 2019" in experiment.published["source"]


def test_rows_exist_where_the_paper_has_them() -> None:
    known = {name: found for name, found in systems().items() if name.startswith("dfe/")}
    pairs = {(row.name, benchmark) for ablation, row in known.values() for benchmark in ablation.benchmarks(row)}
    assert pairs == set(ROWS)
