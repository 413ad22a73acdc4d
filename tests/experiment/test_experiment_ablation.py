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
        ({"base": "none.yaml", "rows": ROWS[:1]}, "wrong.yaml: base: .*none.yaml: no such configuration file"),
        ({"base": 3, "rows": ROWS[:1]}, "base: expected an experiment file or a list of them, got 3"),
        ({"base": [None], "rows": ROWS[:1]}, "base: expected an experiment file or a list of them"),
        ({"base": "regdb.yaml", "rows": [{"set": {}}]}, "wrong.yaml: rows.0.name: Field required"),
        *(
            ({"base": "regdb.yaml", "rows": [{"name": name}]}, "expected a name of 1 to 80 characters in one line")
            for name in ("", " ", "a ", "a\nb", "a\x00b", "x" * 81)
        ),
        *(
            ({"base": "regdb.yaml", "rows": [{"name": "a", "set": {key: 1}}]}, f"a row cannot set '{key}'; {otherwise}")
            for key, otherwise in {
                "seed": "give 'seeds' in the file",
                "benchmark.root": "it belongs into the base",
                "benchmark.protocols": "it belongs into the base",
                "benchmark.draw": "give --draws",
                "published": "it is looked up",
            }.items()
        ),
        (
            {"base": "regdb.yaml", "rows": [{"name": "a", "set": {"with": {"dim": 5}}}]},
            "'with' would replace the whole section; give its keys one by one",
        ),
    ],
)
def test_wrong_files_say_what_is_wrong(bases: Path, content: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_ablation(write(bases, "wrong.yaml", content))


def test_a_row_may_have_another_method_with_options_of_its_own(bases: Path) -> None:
    rows = [{"name": "a", "set": {"method": "agw", "with": {}, "with.margin": 0.5}}]
    ablation = read_ablation(write(bases, "mine.yaml", {"base": "regdb.yaml", "rows": rows}))
    experiment = ablation.experiment(ablation.rows[0], "regdb")
    assert (experiment.method, experiment.options.margin, ablation.shipped) == ("agw", 0.5, False)


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
    for name, message in {
        "dfe/sysu_mm02": "Did you mean 'dfe/sysu_mm01'. Of dfe there are dfe/ablation, dfe/regdb, .*'visir list' shows",
        "DFE/sysu_mm01": "Did you mean 'dfe/sysu_mm01'",
        "dfe": "ships with visir. Of dfe there are dfe/ablation, dfe/regdb, dfe/sysu_mm01; 'visir list' shows",
        "dfee": "Did you mean 'dfe'. 'visir list' shows those that do",
        "dfe/baseline": "It is a row: visir ablate dfe/ablation --row baseline",
        "two_stream/full": "Of two_stream there are",
        "sysu_mm01": "ships with visir. 'visir list' shows those that do",
        ".": "expected a configuration file, or the short name of one",
        "": "expected a configuration file, or the short name of one",
        "../demo/demo": "no such configuration file",
        "none.yml": "none.yml: no such configuration file",
    }.items():
        with pytest.raises(ConfigError, match=message) as told:
            find_config(name)
        assert "agw/regdb" not in str(told.value), "not all there is"
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
