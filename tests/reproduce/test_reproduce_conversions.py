"""Ablations of networks that convert: trained, converted, compared with the truth, in one table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from visir.core.errors import ConfigError
from visir.reproduce.command import run_ablation
from visir.reproduce.request import Request
from visir.twin import Size, write

SMALL = Size(4, 1, 3, ((2, 3),), 40, 20, 1)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "twin"
    return write(root, layout="sysu_mm01", size=SMALL, counterparts=True, show_progress=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    base = {
        "benchmark": {"name": "sysu_mm01", "split": "train"},
        "method": "conversion_toys.tint",
        "train": {"epochs": 1, "steps_per_epoch": 2, "workers": 0, "validate_every": 0},
    }
    (tmp_path / "tint.yaml").write_text(yaml.safe_dump(base))
    rows = [{"name": "tint"}, {"name": "half", "set": {"with.halved": True}}]
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump({"base": ["tint.yaml"], "rows": rows}))
    return tmp_path / "rows.yaml"


def test_rows_are_judged_by_their_pictures(file: Path, twin: Path, tmp_path: Path) -> None:
    output, page = tmp_path / "out", tmp_path / "page.md"
    request = Request(roots=(twin,), output=output, document=page)
    said, whole = run_ablation(file, (), request)
    assert not whole, "one row gives pictures of another size"
    assert "without figures: half" in said
    found = list(csv.DictReader((output / "conversions.csv").read_text().splitlines()))
    figures = [row for row in found if row["PSNR"] != "-"]
    assert {(row["row"], row["people"]) for row in figures} == {
        (name, people) for name in ("as it was", "tint") for people in ("trained on", "held out")
    }
    assert {row["direction"] for row in figures} == {"infrared to visible", "visible to infrared"}
    assert len(figures) == 8
    assert all(5 < float(row["PSNR"]) < 60 and -1 <= float(row["SSIM"]) <= 1 for row in figures)
    (broken,) = (row for row in found if row["row"] == "half")
    assert "expected pictures of the shape of its input" in broken["notes"]
    assert page.read_text() == (output / "conversions.md").read_text()
    assert f"Made by `visir ablate {file} --root DIR`." in page.read_text()
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*.png")}
    assert times
    run_ablation(file, ("tint",), request)
    assert times == {path: path.stat().st_mtime_ns for path in output.rglob("*.png")}, "nothing is made twice"


def test_data_without_the_truth_are_told(file: Path, tiny_sysu: Path, tmp_path: Path) -> None:
    _, whole = run_ablation(file, ("tint",), Request(roots=(tiny_sysu,), output=tmp_path / "out"))
    assert not whole
    assert "counterparts" in (tmp_path / "out" / "conversions.md").read_text()
    request = Request(roots=(tiny_sysu,), output=tmp_path / "none", finished=True)
    assert "without figures: tint" in run_ablation(file, ("tint",), request)[0]
    assert "not run" in (tmp_path / "none" / "conversions.md").read_text()


def test_rows_that_convert_and_rows_that_embed_do_not_mix(tmp_path: Path, twin: Path) -> None:
    (tmp_path / "one.yaml").write_text(yaml.safe_dump({"benchmark": {"name": "sysu_mm01"}, "method": "dfe"}))
    rows = [{"name": "a"}, {"name": "b", "set": {"method": "cyclegan"}}]
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump({"base": ["one.yaml"], "rows": rows}))
    with pytest.raises(ConfigError, match="some rows convert pictures and some give vectors"):
        run_ablation(tmp_path / "rows.yaml", (), Request(roots=(twin,), output=tmp_path / "out"))


def test_a_page_of_another_kind_is_not_replaced(file: Path, twin: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("# mine\n")
    with pytest.raises(ConfigError, match="was not written by visir and would be replaced"):
        run_ablation(file, (), Request(roots=(twin,), output=tmp_path / "out", document=tmp_path / "mine.md"))
