from pathlib import Path

import pytest
import yaml

from visir.core.errors import ConfigError
from visir.engine.build import build as make
from visir.experiment.config import build, load
from visir.experiment.folder import RunFolder
from visir.experiment.shipped import find_config, names
from visir.methods import catalog
from visir.methods.base import Method

CONFIGS = [file for file in map(find_config, names()) if "rows" not in yaml.safe_load(file.read_text())]


def minimal(**sections):
    return {"benchmark": {"name": "sysu_mm01", "root": "/data"}, "method": "dfe", **sections}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_configurations_are_valid(file):
    experiment = load(file)
    assert build(experiment.resolved()) == experiment


def test_there_are_shipped_configurations():
    assert CONFIGS


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"with": {"alhpa": 2}}, "with.alhpa: unknown key 'alhpa'. Did you mean 'alpha'"),
        ({"trian": {}}, "trian: unknown key 'trian'. Did you mean 'train'"),
        ({"train": {"epoch": 3}}, "train.epoch: unknown key 'epoch'. Did you mean 'epochs'"),
        ({"train": {"epochs": 0}}, "train.epochs: expected at least 1, got 0"),
        ({"train": {"precision": "fp8"}}, "train.precision"),
        ({"train": [1]}, "train: expected 'key: value' lines"),
        ({"method": "dfee"}, "unknown method 'dfee'. Did you mean 'dfe'"),
        ({"seed": "now"}, "seed: expected a whole number"),
    ],
)
def test_bad_keys_and_values_name_their_place(sections, message):
    with pytest.raises(ConfigError, match=message):
        build(minimal(**sections))


def test_missing_sections():
    with pytest.raises(ConfigError, match="method: expected this key"):
        build({"benchmark": {"name": "sysu_mm01"}})


def test_set_goes_over_the_file_and_a_base_is_one_deep(tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(minimal()))
    (tmp_path / "row.yaml").write_text(yaml.safe_dump({"base": "base.yaml", "set": {"with.beta": 0.5}}))
    (tmp_path / "deep.yaml").write_text(yaml.safe_dump({"base": "row.yaml"}))
    made = load(tmp_path / "row.yaml", ["with.gamma=2", "train.epochs=3"])
    assert (made.options.beta, made.options.gamma, made.train.epochs) == (0.5, 2.0, 3)
    with pytest.raises(ConfigError, match="one level deep"):
        load(tmp_path / "deep.yaml")
    with pytest.raises(ConfigError, match="expected dotted.key=value"):
        load(tmp_path / "row.yaml", ["with.gamma"])


def test_the_digest_is_of_what_decides_the_weights():
    first = build(minimal())
    moved = build({**minimal(), "benchmark": {"name": "sysu_mm01", "root": "/elsewhere"}, "train": {"workers": 0}})
    assert first.digest() == moved.digest()
    assert first.digest() != build(minimal(seed=1)).digest()
    assert first.digest() != build(minimal(**{"with": {"beta": 0.25}})).digest()


def test_root_reads_the_environment(monkeypatch):
    experiment = build({**minimal(), "benchmark": {"name": "sysu_mm01", "root": "${SOME_ROOT}/x"}})
    monkeypatch.delenv("SOME_ROOT", raising=False)
    with pytest.raises(ConfigError, match="SOME_ROOT is not set"):
        experiment.root()
    monkeypatch.setenv("SOME_ROOT", "/there")
    assert experiment.root() == Path("/there/x")
    with pytest.raises(ConfigError, match="Give --root DIR"):
        build({"benchmark": {"name": "sysu_mm01"}, "method": "dfe"}).root()


def test_a_run_folder_keeps_its_experiment_and_log(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ConfigError, match="expected a run folder"):
        folder.read_experiment()
    experiment = build(minimal())
    folder.write_experiment(experiment)
    assert folder.read_experiment() == experiment
    folder.log.write_text('{"kind": "step", "step": 1}\n{"kind": "step", "step": 9}\n{"kind": "st')
    folder.trim_log(5)
    assert [line["step"] for line in folder.read_log()] == [1]


SMALL = [name for name in names() if name.endswith("/small")]


@pytest.mark.parametrize("name", SMALL)
def test_small_experiments_are_small(name):
    """Of every system that makes pictures and a few others: 200 to 300 steps of narrow networks, its phases inside."""
    experiment = load(find_config(name))
    published = load(find_config(name.replace("small", "sysu_mm01")))
    assert experiment.train.epochs * experiment.train.steps_per_epoch <= 300
    options = vars(experiment.options)
    assert sum(value for key, value in options.items() if key.endswith("_epochs")) <= experiment.train.epochs
    parameters = [
        sum(parameter.numel() for parameter in make(one.method, one.options, 10).parameters())
        for one in (experiment, published)
    ]
    assert parameters[0] < 0.2 * parameters[1]


def test_what_makes_pictures_has_a_small_experiment():
    showing = {name for name in catalog.available() if catalog.find(name).pictures is not Method.pictures}
    assert {f"{name}/small" for name in showing} <= set(SMALL)
