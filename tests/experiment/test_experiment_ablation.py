"""Ablation files and shipped configurations: rows over bases, short names, one sentence for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from visir.core.errors import ConfigError
from visir.experiment.ablation import read_ablation, systems
from visir.experiment.shipped import FOLDER, find_config, names


def write(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def bases(tmp_path: Path) -> Path:
    for name in ("sysu_mm01", "regdb"):
        write(
            tmp_path, f"{name}.yaml", {"benchmark": {"name": name, "root": "/x"}, "method": "dfe", "with": {"dim": 8}}
        )
    return tmp_path


ROWS = [
    {"name": "full"},
    {"name": "plain", "set": {"with.beta": 0.0, "with.gamma": 0.0}},
    {"name": "other", "only": ["regdb"], "set": {"with.beta": 3}},
]


def test_rows_are_differences_over_every_base(bases: Path) -> None:
    file = write(bases, "mine.yaml", {"base": ["sysu_mm01.yaml", "regdb.yaml"], "seeds": [3, 1], "rows": ROWS})
    ablation = read_ablation(file)
    assert (ablation.name, ablation.seeds, list(ablation.bases)) == ("mine", (3, 1), ["sysu_mm01", "regdb"])
    full, plain, other = ablation.rows
    assert [ablation.benchmarks(row) for row in ablation.rows] == [["sysu_mm01", "regdb"]] * 2 + [["regdb"]]
    assert ablation.system(plain) == "mine/plain"
    made = ablation.experiment(plain, "regdb", below={"with.dim": 4, "with.parts": 2}, settings=["with.parts=3"],
                               values={"seed": 9})  # fmt: skip
    assert (made.benchmark.name, made.options.beta, made.options.gamma) == ("regdb", 0, 0)
    assert (made.options.dim, made.options.parts, made.seed) == (4, 3, 9)
    assert ablation.experiment(full, "sysu_mm01").options.beta == 1
    assert ablation.experiment(other, "regdb").options.beta == 3
    assert made.published == {}


def test_a_plain_experiment_is_an_ablation_of_one_row(bases: Path) -> None:
    ablation = read_ablation(bases / "regdb.yaml")
    (row,) = ablation.rows
    assert (ablation.system(row), ablation.benchmarks(row)) == ("regdb", ["regdb"])
    assert ablation.experiment(row, "regdb").options.dim == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rows": ROWS}, "base: expected an experiment file or a list of them, got None"),
        ({"base": "regdb.yaml", "rows": []}, "rows: expected a list of rows"),
        ({"base": "regdb.yaml", "rows": [{"nam": "a"}]}, "rows.0.nam: unknown key 'nam'. Did you mean 'name'"),
        ({"base": "regdb.yaml", "rows": [{"name": "a"}, {"name": "a"}]}, "two rows are named 'a'"),
        ({"base": "regdb.yaml", "rows": [{"name": "a", "only": "regdbb"}]}, "only: Did you mean 'regdb'"),
        ({"base": "regdb.yaml", "rows": ROWS[:1], "seed": [1]}, "unknown key 'seed'. Did you mean 'seeds'"),
        ({"base": "regdb.yaml", "rows": ROWS[:1], "seeds": 3}, "seeds: expected a list of whole numbers"),
        ({"base": ["regdb.yaml", "regdb.yaml"], "rows": ROWS[:1]}, "files of different benchmarks"),
        ({"base": "none.yaml", "rows": ROWS[:1]}, "no such configuration file"),
    ],
)
def test_wrong_files_say_what_is_wrong(bases: Path, content: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_ablation(write(bases, "wrong.yaml", content))


def test_an_unknown_option_of_a_row_is_named_when_it_is_built(bases: Path) -> None:
    rows = [{"name": "a", "set": {"with.bta": 1}}]
    ablation = read_ablation(write(bases, "wrong.yaml", {"base": "regdb.yaml", "rows": rows}))
    with pytest.raises(ConfigError, match="with.bta: unknown key 'bta'. Did you mean 'beta'"):
        ablation.experiment(ablation.rows[0], "regdb")


def test_shipped_files_have_short_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"dfe/sysu_mm01", "dfe/regdb", "dfe/ablation"} <= set(names())
    assert find_config("dfe/sysu_mm01") == find_config("configs/dfe/sysu_mm01.yaml") == FOLDER / "dfe/sysu_mm01.yaml"
    assert find_config("base-derivative/regdb") == FOLDER / "base_derivative/regdb.yaml"
    with pytest.raises(ConfigError, match="Did you mean 'dfe/sysu_mm01'"):
        find_config("dfe/sysu_mm1")
    with pytest.raises(ConfigError, match="no such configuration file"):
        find_config(tmp_path / "mine.yaml")
    (tmp_path / "dfe").mkdir()
    own = write(tmp_path, "dfe/sysu_mm01.yaml", {})
    assert find_config("dfe/sysu_mm01.yaml").resolve() == own, "a file of one's own comes first"


def test_every_shipped_row_is_a_system() -> None:
    found = systems()
    assert {"dfe/full", "dfe/baseline", "dfe/original-proportion"} <= set(found)
    assert "dfe/original-proportion" in systems("regdb")
    assert "dfe/original-proportion" not in systems("sysu_mm01")
    ablation, row = found["dfe/baseline"]
    experiment = ablation.experiment(row, "regdb")
    assert (experiment.options.beta, experiment.published["regdb-v2t-img"]["rank1"]) == (0, 57.5)
    assert "ACM MM 2019" in experiment.published["source"]
