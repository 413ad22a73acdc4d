"""Figures of ablations that vary a number."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from visir.core.errors import ConfigError
from visir.experiment.ablation import Sweep, read_ablation
from visir.experiment.shipped import find_config
from visir.report.style import save
from visir.reproduce.outcome import Outcome
from visir.reproduce.sheet import Line, Sheet
from visir.reproduce.sweep import sweeps

PROTOCOL = "sysu-all-1-official"
SWEEP = Sweep("How much", "weight", {"one": {0.1: "weak", 1.0: "full"}, "two": {0.3: "other", 3.0: "absent"}})


def sheet(*names: str) -> Sheet:
    lines = []
    for i, name in enumerate(names):
        figures = {"rank1": 30.0 + i, "mAP": 20.0 + i}
        lines.append(Line(name, name, outcomes={PROTOCOL: Outcome(PROTOCOL, figures, figures, None, 1, 1.0)}))
    return Sheet("mine", "", {PROTOCOL: ("rank1", "mAP")}, tuple(lines))


def test_curves_have_the_finished_rows_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (drawn,) = sweeps(SWEEP, sheet("full", "weak", "other"))
    rank1, precision = drawn.figure.axes
    (line,) = rank1.get_lines()  # 'two' has a single finished row
    assert line.get_xydata().tolist() == [[0.1, 31.0], [1.0, 30.0]]
    assert precision.get_lines()[0].get_xydata().tolist() == [[0.1, 21.0], [1.0, 20.0]]
    assert rank1.get_xscale() == "log"
    assert "21.00" in drawn.alt
    assert "one at 0.1" in drawn.alt
    assert all(file.stat().st_size > 1000 for file in save(drawn, tmp_path).values())


def test_nothing_is_drawn_of_single_rows() -> None:
    assert list(sweeps(SWEEP, sheet("full", "other"))) == []


def test_the_shipped_sweep_of_d2rl_names_all_of_its_rows() -> None:
    ablation = read_ablation(find_config(Path("d2rl/balance")))
    assert ablation.figure is not None
    drawn = {row for curve in ablation.figure.curves.values() for row in curve.values()}
    assert drawn == {row.name for row in ablation.rows}


@pytest.mark.parametrize(
    ("curves", "words"),
    [
        ({"one": {1.0: "ful"}}, "curve 'one': unknown row 'ful'. Did you mean 'full'"),
        ({"one": {0.0: "full"}}, "expected numbers above 0, got 0"),
        ({"one": {"much": "full"}}, "figure"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_told(tmp_path: Path, curves: dict[str, object], words: str) -> None:
    (tmp_path / "base.yaml").write_text("benchmark: {name: sysu_mm01}\nmethod: dfe\n")
    figure = {"title": "t", "along": "a", "curves": curves}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"base": "base.yaml", "rows": [{"name": "full"}], "figure": figure}))
    with pytest.raises(ConfigError, match=words):
        read_ablation(file)
