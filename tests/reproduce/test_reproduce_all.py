"""``visir reproduce all --twin tiny``: every row of every table, once; and everything that can go wrong on the way."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from small_ablation import own, rows

from visir import publications
from visir.core.errors import ConfigError
from visir.experiment.ablation import systems
from visir.experiment.folder import RunFolder
from visir.reproduce.command import Request, run_ablation, run_tables

CONVERTING = {name for name in systems() if name.startswith("cyclegan")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a whole reproduction."""
    output = tmp_path_factory.mktemp("reproduce")
    said, complete = run_tables("all", (), (), Request(twin="tiny", output=output, document=output / "page.md"))
    assert "results.html" in said
    assert complete
    return output


@pytest.mark.slow
def test_every_row_that_names_a_system_has_a_figure_or_a_reason(whole: Path) -> None:
    found = rows(whole)
    assert len(found) > 500
    for row in found:
        assert bool(row["ours"]) or row["notes"], row
    run = {row["system"] for row in found if row["ours"]}
    wanted = {
        row.system
        for key in publications.available()
        for table in publications.find(key).tables
        for row in table.rows
        if row.system and row.printed
    }
    assert wanted <= run
    assert all(0 <= float(row["ours"]) <= 100 for row in found if row["ours"])
    assert {row["difference"] for row in found} == {""}, "a twin is not comparable with what is printed"
    assert run == set(systems()) - CONVERTING, "also what no table prints; what only converts has no ranks"


@pytest.mark.slow
def test_the_same_command_again_trains_nothing(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (whole / "runs").rglob("*.safetensors")}
    assert before
    run_tables("all", (), (), Request(twin="tiny", output=whole))
    assert " 0 to do" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (whole / "runs").rglob("*.safetensors")} == before


@pytest.mark.slow
def test_the_four_formats_and_the_document_are_written(whole: Path) -> None:
    assert {path.name for path in whole.glob("results.*")} == {
        f"results.{kind}" for kind in ("md", "csv", "tex", "html")
    }
    assert (whole / "page.md").read_text() == (whole / "results.md").read_text()
    assert "visir reproduce all --twin tiny" in (whole / "results.md").read_text()


@pytest.fixture
def ablation(tmp_path: Path, tiny_sysu: Path) -> Path:
    return own(tmp_path, tiny_sysu)


def test_an_ablation_of_ones_own(ablation: Path, tiny_sysu: Path, tmp_path: Path) -> None:
    request = Request(roots=(tiny_sysu,), output=tmp_path / "out")
    said, complete = run_ablation(ablation, (), request)
    assert complete
    found = rows(tmp_path / "out")
    assert {row["row"] for row in found} == {"full", "plain"}
    assert {row["seeds"] for row in found} == {"2"}
    assert all(row["over_seeds"] and row["over_trials"] for row in found)
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 4
    assert said.splitlines()[0].endswith("results.md")


def test_side_by_side_gives_what_one_by_one_gives(ablation: Path, tiny_sysu: Path, tmp_path: Path) -> None:
    for name, parallel in (("one", 1), ("two", 2)):
        request = Request(roots=(tiny_sysu,), seeds=(0,), output=tmp_path / name, parallel=parallel, devices=("cpu",))
        assert run_ablation(ablation, (), request)[1]
    shown = [[(r["row"], r["figure"], r["ours"]) for r in rows(tmp_path / name)] for name in ("one", "two")]
    assert shown[0] == shown[1]


def test_what_fails_is_told_and_the_rest_goes_on(
    ablation: Path, tiny_sysu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(ablation.read_text())
    content["rows"].insert(
        0, {"name": "wild", "set": {"with.recipe.backbone_rate": 1e30, "with.recipe.head_rate": 1e30}}
    )
    ablation.write_text(yaml.safe_dump(content))
    request = Request(roots=(tiny_sysu,), seeds=(0,), output=tmp_path / "out")
    said, complete = run_ablation(ablation, (), request)
    assert not complete
    assert said.endswith("1 row is not finished; the same command goes on: mine/wild")
    assert "FAILED" in capsys.readouterr().err
    found = {row["row"]: row for row in rows(tmp_path / "out") if row["figure"] == "mAP"}
    assert set(found) == {"full", "plain"}


def test_a_lost_run_is_made_again_and_the_others_stay(ablation: Path, tiny_sysu: Path, tmp_path: Path) -> None:
    request = Request(roots=(tiny_sysu,), seeds=(0,), output=tmp_path / "out")
    run_ablation(ablation, (), request)
    before = (tmp_path / "out" / "results.csv").read_text()
    first, second = sorted((tmp_path / "out" / "runs").iterdir())
    kept = RunFolder(second).scores.stat().st_mtime_ns
    shutil.rmtree(first)
    run_ablation(ablation, (), request)
    after = (tmp_path / "out" / "results.csv").read_text()
    cut = [[line.rsplit(",", 2)[0] for line in text.splitlines()] for text in (before, after)]  # without seconds
    assert cut[0] == cut[1]
    assert RunFolder(second).scores.stat().st_mtime_ns == kept


def test_tables_of_what_is_finished_run_nothing(ablation: Path, tiny_sysu: Path, tmp_path: Path) -> None:
    request = Request(roots=(tiny_sysu,), seeds=(0,), output=tmp_path / "out", finished=True)
    with pytest.raises(ConfigError, match="expected finished runs in .*out/runs, found none of the 2"):
        run_ablation(ablation, (), request)
    assert not (tmp_path / "out").exists()
    run_ablation(ablation, ("full",), replace(request, finished=False))
    run_ablation(ablation, (), request)
    assert {row["row"] for row in rows(tmp_path / "out") if row["ours"]} == {"full"}
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1


def test_only_what_was_asked_for_is_run(ablation: Path, tiny_sysu: Path, tmp_path: Path) -> None:
    request = Request(roots=(tiny_sysu,), seeds=(0,), output=tmp_path / "out", benchmarks=("sysu_mm01",))
    run_ablation(ablation, ("plain",), request)
    assert {row["row"] for row in rows(tmp_path / "out")} == {"plain"}


@pytest.mark.parametrize(
    ("name", "tables", "only", "message"),
    [
        ("dfee", (), (), "unknown publication 'dfee'. Did you mean 'dfe'"),
        ("dfe", ("table9",), (), "it has no table 'table9'"),
        ("all", ("table1",), (), "'all' takes every table"),
        ("dfe", (), ("dfe/fll",), "--system: unknown system 'dfe/fll'. Did you mean 'dfe/full'"),
        ("dfe", ("table1",), ("tone",), "--system tone: no row of the chosen tables names it"),
    ],
)
def test_unknown_names_give_the_nearest(
    name: str, tables: tuple[str, ...], only: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_tables(name, tables, only, Request())


def test_without_a_data_set_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYSU_MM01", raising=False)
    monkeypatch.delenv("REGDB", raising=False)
    with pytest.raises(ConfigError, match=r"no data set at hand: these rows need RegDB, SYSU-MM01.*--twin demo"):
        run_tables("dfe", (), (), Request(output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="give one of them"):
        run_tables("dfe", (), (), Request(roots=(tmp_path,), twin="tiny", output=tmp_path / "out"))


def test_rows_of_a_data_set_that_is_not_at_hand_say_so(tiny_regdb: Path, tmp_path: Path) -> None:
    settings = ("with.backbone=tiny", "with.stream.height=32", "with.stream.width=16", "train.steps_per_epoch=1",
                "train.epochs=1", "with.stream.draw.pairs=4", "train.precision=fp32")  # fmt: skip
    request = Request(roots=(tiny_regdb,), draws=1, settings=settings, output=tmp_path / "out")
    run_tables("dfe", (), ("dfe/full",), request)
    notes = {row["protocol"]: row["notes"] for row in rows(tmp_path / "out")}
    assert "no folder of SYSU-MM01 was given" in notes["sysu-all-1-official"]
    assert "1 of 10 partitions" in notes["regdb-v2t-img (1 of 10 splits)"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["reproduce", "dfe", "--seeds", "0,x"], "--seeds: expected whole numbers such as 0,1,2, got '0,x'"),
        (["reproduce", "dfe", "--root", "/nowhere/at/all"], "/nowhere/at/all: no such folder"),
        (["ablate", "dfe/ablatoin"], "Did you mean 'dfe/ablation'"),
        (["ablate", "nothing.yaml"], "'visir list' shows those that do"),
        (["train", "dfe/ablation"], "got an ablation file"),
        (["ablate", "dfe/ablation", "--row", "ful"], "--row: unknown row 'ful'. Did you mean 'full'"),
        (
            ["reproduce", "dfe", "--twin", "tiny", "--benchmark", "regbd"],
            "these rows are not on 'regbd'. Did you mean 'regdb'",
        ),
    ],
)
def test_wrong_words_are_one_sentence_and_exit_code_two(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from visir.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["visir", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]
    assert list(tmp_path.iterdir()) == []
